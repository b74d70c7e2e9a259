"""How commands speak: data to stdout unadorned, messages to stderr, one sentence per problem.

Nothing here decides what is said. Control characters in data never reach a terminal.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

FAILED = 1
USAGE = 2
INTERRUPTED = 130


class Problem(Exception):  # noqa: N818 - what the user reads is a problem, not an exception
    """Something the user must hear: one sentence, and the exit code.

    Args:
        sentence: what is wrong and what to do.
        code: 1 failed or incomplete, 2 usage error with nothing changed.
    """

    def __init__(self, sentence: str, code: int = FAILED) -> None:
        super().__init__(sentence)
        self.code = code


def out(text: str = "") -> None:
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


def say(text: str = "") -> None:
    """A message for people, to stderr; nobody to hear it is no failure."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def no_folder(project: str | None) -> str:
    """What to say where `--project` names no folder; empty where it does."""
    if project is None or os.path.isdir(project):
        return ""
    return f"there is no folder {safe(project[:80])!r}: see --project. Nothing was changed"


def refused(error: OSError) -> str:
    """What to say when the system refuses something in the middle of a command.

    Args:
        error: what it raised; a full disk behind stdout, for instance.
    """
    why = os.strerror(error.errno) if error.errno else str(error)
    where = f": {safe(str(error.filename))}" if error.filename else ""
    return f"not finished, the system says: {why}{where}"


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


def console(stderr: bool = False) -> Console:
    """A rich console that interprets nothing in the data: no markup, no emoji, no links."""
    from rich.console import Console  # deferred: 40 ms, and only tables need it

    return Console(
        stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=False, width=_width()
    )


def table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()
) -> None:
    """Print a table to stdout.

    Args:
        title: what it shows; may be empty.
        columns: the headings.
        rows: the cells, as text; made safe here.
        right: headings of the columns that hold numbers.
    """
    from rich import box  # deferred: as above
    from rich.table import Table
    from rich.text import Text

    made = Table(title=Text(title) if title else None, box=box.SIMPLE_HEAD, title_justify="left")
    for name in columns:
        made.add_column(Text(name), justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(Text(safe(cell)) for cell in row))
    console().print(made)


def confirm(question: str) -> bool:
    """Ask on stderr; Enter is no.

    Raises:
        Problem: there is no terminal to ask at.
        KeyboardInterrupt: Ctrl-C, nothing decided.
    """
    if not is_terminal():
        raise Problem("there is no terminal to ask at: add --yes. Nothing was changed", USAGE)
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        say()
        return False  # end of file in the middle of an answer
    return answer.strip().casefold() in ("y", "yes")


def is_terminal() -> bool:
    """Whether a person can be asked: stdin and stderr are both terminals."""
    try:
        return sys.stdin.isatty() and sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False


def _width() -> int | None:
    # rich takes 80 for whatever is no terminal; a pipe deserves whole lines.
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return None
    return 120
