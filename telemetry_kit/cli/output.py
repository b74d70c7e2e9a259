"""Data to stdout, messages to stderr, and each failure as one sentence and an exit code.

Control characters in data never reach a terminal.
"""

from __future__ import annotations

import os
import sys

from telemetry_kit.errors import TelemetryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FAILED = 1
USAGE = 2
INTERRUPTED = 130
PIPE_WIDTH = 120


class CommandError(Exception):
    """Why a command failed: one sentence for the user, and the exit code.

    Args:
        sentence: what is wrong and what to do.
        code: 1 failed or incomplete, 2 usage error with nothing changed.
    """

    def __init__(self, sentence: str, code: int = FAILED) -> None:
        super().__init__(sentence)
        self.code = code


def guarded(action: Callable[[], int | None]) -> int:
    """Run an action; tell the user in one sentence on stderr if it fails.

    Returns:
        Its exit code: 0 for None, 1 failed or incomplete, 2 usage error, 130 interrupted.
    """
    try:
        code = action()
        flush()
        return code or 0
    except CommandError as error:
        info(f"telemetry-kit: {error}")
        return error.code
    except TelemetryError as error:
        info(f"telemetry-kit: {error}")
        return FAILED
    except KeyboardInterrupt:
        info()
        return INTERRUPTED
    except BrokenPipeError:
        stop_output()  # the reader has seen enough
        return 0
    except OSError as error:
        stop_output()
        why = os.strerror(error.errno) if error.errno else str(error)
        where = f": {safe(str(error.filename))}" if error.filename else ""
        info(f"telemetry-kit: not finished, the system says: {why}{where}")
        return FAILED


def print_line(text: str = "") -> None:
    """A line of data, to stdout, as it is."""
    if sys.stdout is not None:
        sys.stdout.write(f"{text}\n")


def flush() -> None:
    """Print what is waiting to be.

    Raises:
        OSError: the system does not take it.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def info(text: str = "") -> None:
    """A message for people, to stderr; nobody to hear it is no failure."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def stop_output() -> None:
    """Let what was not printed yet go nowhere: else the interpreter complains at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def safe(text: str) -> str:
    """`text` with everything escaped that a terminal would act upon."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def confirm(question: str) -> bool:
    """Ask on stderr; Enter is no.

    Raises:
        CommandError: there is no terminal to ask at.
        KeyboardInterrupt: Ctrl-C, nothing decided.
    """
    if not is_terminal():
        raise CommandError("there is no terminal to ask at: add --yes. Nothing was changed", USAGE)
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        info()
        return False  # end of file in the middle of an answer
    return answer.strip().casefold() in ("y", "yes")


def is_terminal() -> bool:
    """Whether a person can be asked: stdin and stderr are both terminals."""
    try:
        return sys.stdin.isatty() and sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False


def width() -> int:
    """How many columns there are: those of the terminal, or space for whole lines in a pipe."""
    given = os.environ.get("COLUMNS", "")
    if given.isdigit() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or PIPE_WIDTH
    except (OSError, ValueError, AttributeError):
        return PIPE_WIDTH
