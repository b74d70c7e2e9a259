"""Tables, bars, sparklines and wrapped text that fit a terminal of any width."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from telemetry_kit.cli.output import safe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

_GAP = "  "
_MIN_NAME = 8
# A pseudonym is cut in two only where no lesser column can go instead.
_WHOLE_NAME = 14
_MIN_REMARK = 16
_BAR_WIDTH = 20
_MIN_BAR = 6
_SPARKS = " ▁▂▃▄▅▆▇█"
_PLAIN_SPARKS = " .:-=+*#@"
# After these a name may go on in the next line.
_JOINTS = "-:/._"
# They join the letter before them, as the later parts of a Korean syllable and skin tones do.
_JOINING = ("Mn", "Me", "Cf")
_EMOJI_STYLE = "\ufe0f"


def display_width(text: str) -> int:
    """How many columns of a terminal a text takes.

    By Unicode: marks take none, wide and full-width letters (East Asian Width W and F) two.
    """
    if text.isascii():
        return len(text)
    total = last = 0
    for letter in text:
        # A symbol of one column is drawn as a picture of two where this follows.
        size = int(last == 1) if letter == _EMOJI_STYLE else _letter_width(letter)
        total += size
        last = size or last
    return total


def _letter_width(letter: str) -> int:
    if letter.isascii():
        return 1
    if unicodedata.category(letter) in _JOINING or "\u1160" <= letter <= "\u11ff":
        return 0
    if "\U0001f3fb" <= letter <= "\U0001f3ff":
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def fold(text: str, columns: int, first: str = "", rest: str | None = None) -> Iterator[str]:
    """A text as lines of at most `columns` columns; one line at least.

    Broken between words, else after a joint of a name, else anywhere. Nothing is left out.

    Args:
        text: made safe here.
        columns: how many there are.
        first: what the first line begins with.
        rest: what the other lines begin with; `first` by default.
    """
    text = safe(text).rstrip()
    rest = first if rest is None else rest
    lead, size = first, max(columns - display_width(first), 1)
    while display_width(text) > size:
        cut = _break_at(text, size, max(columns - display_width(rest), 1))
        yield f"{lead}{text[:cut]}".rstrip()
        text = text[cut:].lstrip()
        lead, size = rest, max(columns - display_width(rest), 1)
    yield f"{lead}{text}".rstrip()


def _break_at(text: str, size: int, next_size: int) -> int:
    """After how many letters a line of `size` columns ends."""
    end = min(size, len(text))
    while end > 1 and display_width(text[:end]) > size:
        end -= 1
    while end < len(text) and display_width(text[: end + 1]) <= size:
        end += 1
    gap, space = text.rfind(_GAP, 0, end + 2), text.rfind(" ", 0, end + 1)
    for cut in (gap, space):
        if cut > end // 2:
            return cut
    joint = max(text.rfind(letter, 0, end) for letter in _JOINTS) + 1
    word = text[space + 1 :].partition(" ")[0]
    # Rather a short line than a word in two, where the next line takes it whole.
    if space > 0 and display_width(word) <= next_size:
        return space
    return joint if joint > end // 2 else end


# -- tables ---------------------------------------------------------------------------------


class Column:
    """One column of a table.

    Args:
        title: its heading.
        cells: its text, one for each row; made safe here.
        right: whether it holds numbers.
        can_fold: whether it may be made narrower, going on in the next line.
        priority: columns of the highest one are left out first where there is no max_width.
        remark: whether its cells go to lines of their own where there is little max_width beside
            the others.
    """

    __slots__ = ("can_fold", "cells", "priority", "remark", "right", "title")

    def __init__(
        self,
        title: str,
        cells: Sequence[str],
        right: bool = False,
        can_fold: bool = False,
        priority: int = 0,
        remark: bool = False,
    ) -> None:
        self.title = title
        self.cells = [safe(cell) for cell in cells]
        self.right = right
        self.can_fold = can_fold
        self.priority = priority
        self.remark = remark

    @property
    def natural(self) -> int:
        """The width it would like to have."""
        return max(map(display_width, (self.title, *self.cells)))


def numbers(title: str, counts: Sequence[int], priority: int = 0) -> Column:
    """A column of whole numbers."""
    return Column(title, [f"{count:,}" for count in counts], right=True, priority=priority)


def table(
    columns: Sequence[Column], max_width: int, shares: Sequence[float] = (), ruled: bool = False
) -> Iterator[str]:
    """A table of at most `max_width` columns; where its names cannot be made narrow enough, a list.

    Args:
        columns: at least one; those of a priority are not shown where they are empty.
        max_width: columns of the terminal.
        shares: bars behind each row, where there is room for them.
        ruled: whether a line stands below the headings.
    """
    shown = [c for c in columns if not c.priority or any(c.cells)]
    while (
        len(shown) > 1 and _least(shown, max_width) > max_width and max(c.priority for c in shown)
    ):
        worst = max(c.priority for c in shown)
        shown = [c for c in shown if c.priority < worst]
    sizes = _fitted([c for c in shown if not c.remark], max_width)
    left = max_width - sum(sizes) - len(_GAP) * (len(sizes) - 1)
    if left < 0:
        yield from _listed(shown, max_width)
        return
    remarks = []
    for column in [c for c in shown if c.remark]:
        size = min(column.natural, left - len(_GAP))
        if size >= min(column.natural, _MIN_REMARK):
            sizes.append(size)
            left -= size + len(_GAP)
        else:
            shown.remove(column)
            remarks.append(column)
    beside = min(left - len(_GAP), _BAR_WIDTH) if shares else 0
    yield from _row(shown, sizes, [c.title for c in shown])
    if ruled:
        yield _GAP.join("-" * size for size in sizes)
    for at in range(len(shown[0].cells)):
        drawn = bar(shares[at], beside) if beside >= _MIN_BAR else ""
        yield from _row(shown, sizes, [c.cells[at] for c in shown], drawn)
        for column in remarks:
            if column.cells[at]:
                yield from fold(column.cells[at], max_width, _GAP, _GAP * 2)


def _least(columns: Sequence[Column], max_width: int) -> int:
    name = max(_WHOLE_NAME, max_width // 4)
    sizes = (min(c.natural, name) if c.can_fold else c.natural for c in columns)
    return sum(sizes) + len(_GAP) * (len(columns) - 1)


def _fitted(columns: Sequence[Column], max_width: int) -> list[int]:
    sizes = [c.natural for c in columns]
    while sum(sizes) + len(_GAP) * (len(sizes) - 1) > max_width:
        folding = [at for at, c in enumerate(columns) if c.can_fold and sizes[at] > _MIN_NAME]
        if not folding:
            break
        widest = max(folding, key=lambda at: sizes[at])
        sizes[widest] -= 1
    return sizes


def _row(
    columns: Sequence[Column], sizes: Sequence[int], texts: Sequence[str], drawn: str = ""
) -> Iterator[str]:
    """One row as lines; the first one ends with a bar."""
    parts = [fold(text, size) for text, size in zip(texts, sizes, strict=True)]
    for line in zip_longest(*parts, fillvalue=""):
        cells = []
        for column, size, text in zip(columns, sizes, line, strict=True):
            blank = " " * (size - display_width(text))
            cells.append(blank + text if column.right else text + blank)
        yield _GAP.join([*cells, drawn]).rstrip()
        drawn = ""


def _listed(columns: Sequence[Column], max_width: int) -> Iterator[str]:
    """Each row as a line with its name, of at most two cells, and one for each other cell."""
    heads = 1 + (len(columns) > 1 and not columns[1].right and not columns[1].remark)
    for at in range(len(columns[0].cells)):
        yield from fold(" ".join(c.cells[at] for c in columns[:heads]).lstrip(), max_width)
        for column in columns[heads:]:
            if column.cells[at]:
                yield from fold(f"{column.title}: {column.cells[at]}", max_width, _GAP, _GAP * 2)


# -- lines that are drawn ----------------------------------------------------------------------


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
        max_width = os.get_terminal_size(stream.fileno()).columns - len(text) - len(_GAP) - 1
    except (OSError, ValueError):
        max_width = 0
    size = min(max_width, _BAR_WIDTH)
    if size < _MIN_BAR:
        return text
    full, empty = "▇-" if can_draw(stream) else "#-"
    done = round(share * size)
    return f"{full * done}{empty * (size - done)}{_GAP}{text}"
