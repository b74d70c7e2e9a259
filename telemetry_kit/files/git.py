"""Ask git, without running any program that the repository configures.

A repository's own configuration can name programs: hooks, a file system monitor, filters, a pager.
Only commands that start none of them are used, and every optional one is switched off.
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

# Of these, only questions that neither compare nor convert the contents of files may be asked:
# `ls-files -m`, for instance, runs the filters of the repository.
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


class Answer:
    """What git said.

    Args:
        code: its exit code.
        output: what it wrote to stdout.
    """

    __slots__ = ("code", "output")

    def __init__(self, code: int, output: bytes) -> None:
        self.code = code
        self.output = output


def ask(
    folder: str, *words: str, environ: Mapping[str, str], seconds: float = TIMEOUT_SECONDS
) -> Answer | None:
    """Ask git about a folder, without running a program that the repository names.

    Args:
        folder: where git looks for a repository.
        words: one of `COMMANDS` and its arguments. A path that may hold `*` or `[` needs
            `:(literal)` before it, except for check-ignore.
        environ: where PATH and HOME are looked up; nothing else is passed on.
        seconds: how long git may take.

    Returns:
        The answer, or None where there is no git, it cannot be started, takes too long or writes
        more than `MAX_BYTES`.

    Raises:
        ValueError: the command is not one of `COMMANDS`.
    """
    if not words or words[0] not in COMMANDS:
        raise ValueError(f"git {' '.join(words[:1])}: ask one of {', '.join(sorted(COMMANDS))}")
    # The meaning of a relative folder depends on the working directory, that is on the repository.
    folders = environ.get("PATH", os.defpath).split(os.pathsep)
    path = os.pathsep.join(folder for folder in folders if os.path.isabs(folder))
    program = shutil.which("git", path=path)
    if program is None:
        return None
    try:
        asked = subprocess.Popen(
            [program, *_OPTIONS, *words],
            cwd=folder,
            env={**_VARIABLES, "PATH": path, "HOME": environ.get("HOME", "/")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except (OSError, ValueError):
        return None
    with asked:
        output = _output(asked, time.monotonic() + seconds)
        if output is None:
            asked.kill()
            return None
        return Answer(asked.wait(), output)


def _output(asked: subprocess.Popen[bytes], until: float) -> bytes | None:
    """Everything that a process writes until it ends; None where that is too late or too much."""
    assert asked.stdout is not None
    fd = asked.stdout.fileno()
    waiting = select.poll()
    waiting.register(fd, select.POLLIN)
    output = b""
    while len(output) <= MAX_BYTES:
        if not waiting.poll(max(until - time.monotonic(), 0) * 1_000):
            return None
        block = os.read(fd, MAX_BYTES)
        if not block:
            return _ended(asked, output, until)
        output += block
    return None


def _ended(asked: subprocess.Popen[bytes], output: bytes, until: float) -> bytes | None:
    try:
        asked.wait(max(until - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        return None
    return output
