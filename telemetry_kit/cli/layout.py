"""Tables, bars and sparklines as plain text that fits the terminal, whatever its width.

What is shown is not known here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

from telemetry_kit.cli.output import safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

_GAP = "  "
_MIN_NAME = 8
# A pseudonym is cut in two only where no lesser column can go instead.
_WHOLE_NAME = 14
_BAR_WIDTH = 20
_MIN_BAR = 6
_SPARKS = " ▁▂▃▄▅▆▇█"
_PLAIN_SPARKS = " .:-=+*#@"
# After these a name may go on in the next line.
_JOINTS = " -:/._"


def can_draw(stream: TextIO | None = None) -> bool:
    """Whether stdout, or another stream, takes block characters."""
    try:
        _SPARKS.encode((stream or sys.stdout).encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def heading(text: str) -> str:
    """A heading: bold on a terminal that takes it."""
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ
    return text if plain or os.environ.get("TERM") == "dumb" else f"\x1b[1m{text}\x1b[0m"


def sparkline(counts: Sequence[int], columns: int) -> str:
    """Counts as one line; the oldest are left out where there are more than columns.

    Args:
        counts: oldest first.
        columns: how many there is room for.
    """
    sparks = _SPARKS if can_draw() else _PLAIN_SPARKS
    shown = counts[-columns:]
    most = max(shown, default=0)
    steps = len(sparks) - 1
    return "".join(sparks[-(-count * steps // most) if count else 0] for count in shown)


def bar(share: float, columns: int) -> str:
    """A bar that fills a share of its columns, and at least one where it is not zero.

    Not the whole height of the line: bars in lines one below the other stay apart.
    """
    full = round(share * columns)
    return ("▇" if can_draw() else "#") * (max(full, 1) if share > 0 else 0)


def progress(share: float, events: int, stream: TextIO) -> str:
    """How far long work has come, as one line that fits the terminal: a bar, and in numbers.

    Args:
        share: from 0 to 1.
        events: how many were handled.
        stream: the terminal.
    """
    text = f"{share:4.0%}  {events:,} events"
    try:
        room = os.get_terminal_size(stream.fileno()).columns - len(text) - len(_GAP) - 1
    except (OSError, ValueError):
        room = 0
    size = min(room, _BAR_WIDTH)
    if size < _MIN_BAR:
        return text
    full, empty = "▇-" if can_draw(stream) else "#-"
    done = round(share * size)
    return f"{full * done}{empty * (size - done)}{_GAP}{text}"


class Column:
    """One column of a table.

    Args:
        title: its heading.
        cells: its text, one for each row.
        right: whether it holds numbers.
        can_fold: whether it may be made narrower, going on in the next line.
        rank: columns of the highest rank are left out first where there is no room.
    """

    __slots__ = ("can_fold", "cells", "rank", "right", "title")

    def __init__(
        self,
        title: str,
        cells: Sequence[str],
        right: bool = False,
        can_fold: bool = False,
        rank: int = 0,
    ) -> None:
        self.title = title
        self.cells = [safe(cell) for cell in cells]
        self.right = right
        self.can_fold = can_fold
        self.rank = rank

    @property
    def natural(self) -> int:
        """The width it would like to have."""
        return max(map(cell_width, (self.title, *self.cells)))


def numbers(title: str, counts: Sequence[int], rank: int = 0) -> Column:
    """A column of whole numbers."""
    return Column(title, [f"{count:,}" for count in counts], right=True, rank=rank)


def table(columns: Sequence[Column], room: int, shares: Sequence[float] = ()) -> Iterator[str]:
    """A table of at most `room` columns; where its names cannot be made narrow enough, a list.

    Args:
        columns: at least one.
        room: columns of the terminal.
        shares: bars behind each row, where there is room for them.
    """
    shown = [c for c in columns if c.title or any(c.cells)]
    shown = [c for c in shown if not c.rank or any(c.cells)]
    while len(shown) > 1 and _least(shown, room) > room and max(c.rank for c in shown):
        worst = max(c.rank for c in shown)
        shown = [c for c in shown if c.rank < worst]
    sizes = _fitted(shown, room)
    used = sum(sizes) + len(_GAP) * (len(sizes) - 1)
    if used > room:
        yield from _listed(shown, room)
        return
    beside = min(room - used - len(_GAP), _BAR_WIDTH)
    yield _row(shown, sizes, [c.title for c in shown])
    for at in range(len(shown[0].cells)):
        pieces = [_pieces(c.cells[at], s) for c, s in zip(shown, sizes, strict=True)]
        for line in range(max(map(len, pieces))):
            text = _row(shown, sizes, [p[line] if line < len(p) else "" for p in pieces], line > 0)
            if shares and line == 0 and beside >= _MIN_BAR:
                blank = " " * (used - cell_width(text))
                text = f"{text}{blank}{_GAP}{bar(shares[at], beside)}".rstrip()
            yield text


def _listed(columns: Sequence[Column], room: int) -> Iterator[str]:
    """Each row as lines of its own, a cell in each, with its heading."""
    for at in range(len(columns[0].cells)):
        for number, column in enumerate(columns):
            if column.cells[at]:
                cell = f"{column.title} {column.cells[at]}" if number else column.cells[at]
                yield from wrapped(cell, room, _GAP if number else "")


def _least(columns: Sequence[Column], room: int) -> int:
    name = max(_WHOLE_NAME, room // 4)
    sizes = (min(c.natural, name) if c.can_fold else c.natural for c in columns)
    return sum(sizes) + len(_GAP) * (len(columns) - 1)


def _fitted(columns: Sequence[Column], room: int) -> list[int]:
    sizes = [c.natural for c in columns]
    while sum(sizes) + len(_GAP) * (len(sizes) - 1) > room:
        folding = [at for at, c in enumerate(columns) if c.can_fold and sizes[at] > _MIN_NAME]
        if not folding:
            break
        widest = max(folding, key=lambda at: sizes[at])
        sizes[widest] -= 1
    return sizes


def _row(
    columns: Sequence[Column], sizes: Sequence[int], texts: Sequence[str], folded: bool = False
) -> str:
    cells = []
    for column, size, text in zip(columns, sizes, texts, strict=True):
        blank = " " * (size - cell_width(text))
        cells.append(blank + text if column.right and not folded else text + blank)
    return _GAP.join(cells).rstrip()


def _pieces(text: str, size: int) -> list[str]:
    """A text in parts of at most `size` columns, cut between words where that is not too early."""
    pieces = []
    while cell_width(text) > size:
        cut = min(size, len(text))
        while cut > 1 and cell_width(text[:cut]) > size:
            cut -= 1
        if text[cut : cut + 1] != " ":
            joint = max(text.rfind(c, 0, cut) for c in _JOINTS) + 1
            cut = joint if joint > cut // 2 else cut
        pieces.append(text[:cut].rstrip())
        text = text[cut:].lstrip()
    return [*pieces, text] if text or not pieces else pieces


def pieces(text: str, size: int) -> Iterator[str]:
    """A text in parts of at most `size` columns, cut wherever that is; one part at least.

    Args:
        text: safe to print.
        size: columns.
    """
    while cell_width(text) > size and len(text) > 1:
        cut = min(size, len(text))
        while cut > 1 and cell_width(text[:cut]) > size:
            cut -= 1
        yield text[:cut]
        text = text[cut:]
    yield text


def wrapped(text: str, room: int, indent: str = "", below: str | None = None) -> Iterator[str]:
    """A text in lines of at most `room` columns, broken between words.

    Args:
        text: made safe here.
        room: columns of the terminal.
        indent: what the first line begins with.
        below: what the other ones begin with; `indent` by default.
    """
    line = indent
    below = indent if below is None else below
    size = max(room - max(len(indent), len(below)), 1)
    for whole in safe(text).split():
        # A word that is longer than a line is cut.
        for word in _pieces(whole, size):
            if line.strip() and cell_width(line) + 1 + cell_width(word) > room:
                yield line.rstrip()
                line = below
            line += f" {word}" if line.strip() else word
    if line.strip():
        yield line.rstrip()


def cell_width(text: str) -> int:
    """How many columns a text takes."""
    if text.isascii() or all(c in _SPARKS for c in text):
        return len(text)
    from rich.cells import cell_len  # deferred: only wide characters need it

    return cell_len(text)
