"""Messages, terminals and exit codes: results go to stdout, messages to stderr."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager

from telemetry_kit._runtime import runtime
from telemetry_kit._units import counted as counted  # noqa: PLC0414 - a part of most messages
from telemetry_kit._units import in_bytes as in_bytes  # noqa: PLC0414
from telemetry_kit.errors import TelemetryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, NoReturn, TextIO, TypeVar

    T = TypeVar("T")

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


class Stdout:
    """Stdout of a command, which continues after the reader of a pipe has closed it.

    Its further output is discarded, so that the command still has its own exit code. Letters
    outside the encoding are escaped.

    Args:
        stream: the real stdout.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.is_discarded = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write a text, as the real stdout does."""
        try:
            return self._stream.write(text)
        except UnicodeEncodeError:
            encoding = self._stream.encoding
            return self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except BrokenPipeError:
            self._discard()
            return len(text)

    def flush(self) -> None:
        """Write what is in the buffer."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._discard()

    def _discard(self) -> None:
        self.is_discarded = True
        discard(self._stream)


@contextmanager
def stdout_of_a_command() -> Iterator[None]:
    """Let stdout survive a closed pipe, a letter that it cannot encode, and that there is none."""
    former = sys.stdout
    if isinstance(former, Stdout):
        yield
        return
    with open(os.devnull, "w", encoding="utf-8") as null:
        sys.stdout = Stdout(null if former is None else former)
        try:
            yield
        finally:
            sys.stdout = former


def has_reader() -> bool:
    """Whether the output of this command can still arrive: no reader has closed its pipe."""
    return not getattr(sys.stdout, "is_discarded", False)


def guarded(action: Callable[[], int | None]) -> int:
    """Run an action and report a failure in one sentence on stderr.

    Returns:
        Its exit code: 0 for None, 1 failed or incomplete, 2 usage error, 130 interrupted.
    """
    with stdout_of_a_command():
        sentence = None
        try:
            code = action() or 0
        except (CommandError, TelemetryError) as error:
            code = error.code if isinstance(error, CommandError) else FAILED
            sentence = f"{runtime.program}: {error}"
        except KeyboardInterrupt:
            code, sentence = INTERRUPTED, ""
        except OSError as error:
            code, sentence = FAILED, system_sentence(error)
        try:
            # The output before the message, also where both are one file.
            sys.stdout.flush()
        except OSError as error:
            discard(sys.stdout)
            code, sentence = FAILED, system_sentence(error)
        if sentence is not None:
            info(sentence)
        return code


def guarded_help(parse: Callable[[], T], leave: Callable[[int], NoReturn]) -> T:
    """Parse the words after a mounted command, and report that its help cannot be printed.

    Args:
        parse: parses them, or prints the help and raises what the parser uses for that.
        leave: ends the command with an exit code.
    """
    with stdout_of_a_command():
        try:
            return parse()
        except OSError as error:
            leave(report_os_error(error))


def report_os_error(error: OSError) -> int:
    """Report that stdout cannot be written.

    Returns:
        The exit code: 0 if the reader of a pipe has closed it, else 1.
    """
    discard(sys.stdout)
    if isinstance(error, BrokenPipeError):
        return 0
    info(system_sentence(error))
    return FAILED


def system_sentence(error: OSError) -> str:
    """Return the sentence about an operation that the system refused."""
    reason = os.strerror(error.errno) if error.errno else str(error)
    path = f": {safe(str(error.filename))}" if error.filename else ""
    return f"{runtime.program}: not finished, the system reports: {reason}{path}"


def discard(stream: TextIO) -> None:
    """Send further output to the null device, or the interpreter reports an error at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


def info(text: str = "") -> None:
    """Print a message to stderr: its control characters escaped, and wrapped on a terminal.

    A closed stderr is no failure.
    """
    if sys.stderr is None:
        return
    try:
        text = safe(text)
        if sys.stderr.isatty():
            from textwrap import fill  # deferred: only a terminal needs it

            text = fill(text, width(sys.stderr), break_on_hyphens=False)
        print(text, file=sys.stderr, flush=True)
    except OSError:
        discard(sys.stderr)


def safe(text: str) -> str:
    """Escape every character that a terminal would interpret as a command."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text
    )


def confirm(question: str) -> bool:
    """Ask a yes-no question on stderr; the default answer is no.

    Raises:
        CommandError: there is no terminal.
        KeyboardInterrupt: the user pressed Ctrl-C.
    """
    if not is_terminal():
        raise CommandError("there is no terminal to ask at: add --yes. Nothing was changed", USAGE)
    print(f"{safe(question)} [y/N] ", end="", file=sys.stderr, flush=True)
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


def width(stream: TextIO | None = None) -> int:
    """Columns of the terminal of a stream, by default stdout; in a pipe enough for most lines."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return int(columns)
    try:
        return os.get_terminal_size((stream or sys.stdout).fileno()).columns or PIPE_WIDTH
    except (OSError, ValueError, AttributeError):
        return PIPE_WIDTH
