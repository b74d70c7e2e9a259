"""Run Python programs and modules in a child process, in frozen programs too.

A frozen program (PyInstaller, `sys.frozen`) has no interpreter that could be started:
`sys.executable` is the program itself. There a forked child runs the code.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import traceback
from subprocess import DEVNULL, PIPE, STDOUT, CompletedProcess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def run_python(
    args: Sequence[str], *, cwd: str, env: Mapping[str, str], timeout_seconds: int | None = None
) -> CompletedProcess[bytes]:
    """Run this interpreter with arguments, without input, and collect its output.

    Args:
        args: `PROGRAM ARGUMENTS...` or `-m MODULE ARGUMENTS...`.
        cwd: its working directory.
        env: its environment variables.
        timeout_seconds: the child is killed after this time.

    Returns:
        The exit code, and stdout and stderr together as `stdout`.

    Raises:
        OSError: no child process can be started.
        subprocess.TimeoutExpired: the child took too long. A forked child ends with SIGALRM
            instead, which is its exit code.
    """
    if getattr(sys, "frozen", False):
        return _run_forked(args, cwd, env, timeout_seconds)
    return subprocess.run(
        [sys.executable, *args],
        cwd=cwd,
        env=env,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=STDOUT,
        timeout=timeout_seconds,
        check=False,
    )


def _run_forked(
    args: Sequence[str], cwd: str, env: Mapping[str, str], timeout_seconds: int | None
) -> CompletedProcess[bytes]:
    reader, writer = os.pipe()
    # Otherwise the child has a copy of what is not printed yet.
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(timeout_seconds or 0)
            _replace_streams(writer)
            os.chdir(cwd)
            os.environ.clear()
            os.environ.update(env)
            code = _run(list(args))
        except BaseException:
            traceback.print_exc()
        finally:
            # The exit handlers belong to the parent.
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)
    os.close(writer)
    with os.fdopen(reader, "rb") as output:
        printed = output.read()
    _, status = os.waitpid(child, 0)
    return CompletedProcess(args, os.waitstatus_to_exitcode(status), printed, b"")


def _replace_streams(writer: int) -> None:
    """Connect stdin with nothing, and stdout and stderr with a pipe."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - for the whole process
    for fd, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(writer, fd)
        stream = open(fd, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)


def _run(args: list[str]) -> int:
    """Run a program or a module as a fresh interpreter would.

    Returns:
        The exit code.
    """
    # What the parent has configured or cached does not hold here.
    for name in [name for name in sys.modules if name.partition(".")[0] == "telemetry_kit"]:
        del sys.modules[name]
    sys.dont_write_bytecode = True
    try:
        if args[0] == "-m":
            sys.argv = args[1:]
            runpy.run_module(args[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = args
            runpy.run_path(args[0], run_name="__main__")
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return int(stop.code or 0)
        print(stop.code, file=sys.stderr)
        return 1
    return 0
