"""Run git commands that start no program of the repository.

The configuration of a repository can name programs: hooks, a file system monitor, filters, a pager.
Only commands that start none of them are used, and every optional program is disabled.
"""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Use only options that neither compare nor convert the contents of files. For example,
# `ls-files -m` runs the filters of the repository.
COMMANDS = frozenset({"check-ignore", "ls-files", "rev-parse"})
TIMEOUT_SECONDS = 5.0
MAX_BYTES = 1 << 16

_OPTIONS = (
    "--no-pager",
    *("-c", "core.fsmonitor=false"),
    *("-c", "core.hooksPath=/dev/null"),
    *("-c", "core.excludesFile=/dev/null"),
    *("-c", "core.attributesFile=/dev/null"),
)
_VARIABLES = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_ASKPASS": "false",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_SSH_COMMAND": "false",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}


def run(
    folder: str, *words: str, environ: Mapping[str, str], seconds: float = TIMEOUT_SECONDS
) -> subprocess.CompletedProcess[bytes] | None:
    """Run a read-only git command without starting a program that the repository names.

    Args:
        folder: where git looks for a repository.
        words: one of `COMMANDS` and its arguments. A path that may hold `*` or `[` needs the
            prefix `:(literal)`, except for check-ignore.
        environ: has the PATH and HOME to use. No other variable is passed on.
        seconds: how long git may take.

    Returns:
        Its exit code and stdout. None if git is missing, cannot be started, takes too long or
        writes more than `MAX_BYTES`.

    Raises:
        ValueError: the command is not one of `COMMANDS`.
    """
    if not words or words[0] not in COMMANDS:
        raise ValueError(f"git {' '.join(words[:1])}: use one of {', '.join(sorted(COMMANDS))}")
    # A relative folder in PATH depends on the working directory, so on the repository.
    folders = environ.get("PATH", os.defpath).split(os.pathsep)
    path = os.pathsep.join(folder for folder in folders if os.path.isabs(folder))
    program = shutil.which("git", path=path)
    if program is None:
        return None
    try:
        process = subprocess.Popen(
            [program, *_OPTIONS, *words],
            cwd=folder,
            env={**_VARIABLES, "PATH": path, "HOME": environ.get("HOME", "/")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except (OSError, ValueError):
        return None
    with process:
        output = read_output(process, time.monotonic() + seconds)
        if output is None:
            process.kill()
            return None
        return subprocess.CompletedProcess(words, process.wait(), output)


def read_output(process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """Read the stdout of a process until it exits; None if it takes too long or writes too much."""
    assert process.stdout is not None
    fd = process.stdout.fileno()
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    output = b""
    while len(output) <= MAX_BYTES:
        if not poll.poll(max(deadline - time.monotonic(), 0) * 1_000):
            return None
        block = os.read(fd, MAX_BYTES)
        output += block
        if not block:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                return None
            return output
    return None
