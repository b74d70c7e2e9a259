"""Messages, terminals and exit codes: results go to stdout, messages to stderr."""

from __future__ import annotations

import os
import sys

from telemetry_kit._runtime import runtime
from telemetry_kit.errors import TelemetryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FAILED = 1
USAGE = 2
INTERRUPTED = 130
PIPE_WIDTH = 120


class CommandError(Exception):
    """A failed command: one sentence for the user, and the exit code.

    Args:
        sentence: what failed and which change helps.
        code: 1 failed or incomplete, 2 usage error with nothing changed.
    """

    def __init__(self, sentence: str, code: int = FAILED) -> None:
        super().__init__(sentence)
        self.code = code


def guarded(action: Callable[[], int | None]) -> int:
    """Run an action and report a failure in one sentence on stderr.

    Returns:
        Its exit code: 0 for None, 1 failed or incomplete, 2 usage error, 130 interrupted.
    """
    try:
        code = action()
        print(end="", flush=True)
        return code or 0
    except (CommandError, TelemetryError) as error:
        info(f"{runtime.program}: {error}")
        return error.code if isinstance(error, CommandError) else FAILED
    except KeyboardInterrupt:
        info()
        return INTERRUPTED
    except OSError as error:
        return report_os_error(error)


def report_os_error(error: OSError) -> int:
    """Report that the system refused an operation, usually because stdout cannot be written.

    Returns:
        The exit code: 0 if the reader of a pipe has closed it, else 1.
    """
    stop_output()
    if isinstance(error, BrokenPipeError):
        return 0
    reason = os.strerror(error.errno) if error.errno else str(error)
    path = f": {safe(str(error.filename))}" if error.filename else ""
    info(f"{runtime.program}: not finished, the system reports: {reason}{path}")
    return FAILED


def stop_output() -> None:
    """Send further output to the null device, or the interpreter reports an error at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def info(text: str = "") -> None:
    """Print a message to stderr; a closed stderr is no failure."""
    if sys.stderr is None:
        return
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def safe(text: str) -> str:
    """Escape every character that a terminal would interpret as a command."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, such as `1 event` or `2,371 events`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def in_bytes(size: int) -> str:
    """Return a size in the unit that people use for it, such as `761 kB`."""
    if size < 1_000:
        return counted(size, "byte")
    if size < 1_000_000:
        return f"{size / 1e3:.0f} kB"
    return f"{size / 1e6:.2f} MB" if size < 1_000_000_000 else f"{size / 1e9:.2f} GB"


def confirm(question: str) -> bool:
    """Ask a yes-no question on stderr; the default answer is no.

    Raises:
        CommandError: there is no terminal.
        KeyboardInterrupt: the user pressed Ctrl-C.
    """
    if not is_terminal():
        raise CommandError("there is no terminal to ask at: add --yes. Nothing was changed", USAGE)
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        info()  # the input ended in the middle of the line
        return False
    return answer.strip().casefold() in ("y", "yes")


def is_terminal() -> bool:
    """Whether stdin and stderr are both terminals, so that the user can be asked."""
    try:
        return sys.stdin.isatty() and sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False


def width() -> int:
    """Columns of the terminal; in a pipe enough for most lines."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or PIPE_WIDTH
    except (OSError, ValueError, AttributeError):
        return PIPE_WIDTH
