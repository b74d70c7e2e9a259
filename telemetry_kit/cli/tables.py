"""Tables, bars, sparklines and wrapped text that fit a terminal of any width."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from telemetry_kit.cli.output import counted, safe, width

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

GAP = "  "
MIN_NAME = 8
# A name is folded to fewer columns only if no less important column can be left out instead.
WHOLE_NAME = 14
MIN_REMARK = 16
BAR_WIDTH = 20
MIN_BAR = 6
SPARKS = " ▁▂▃▄▅▆▇█"
PLAIN_SPARKS = " .:-=+*#@"
# A name may be broken after these, except at its beginning.
JOINTS = "-:/._"
# The parts of a name that are not broken. A pseudonym is one part.
PART = re.compile(r"h:[0-9a-f]{12}|[-:/._]*[^-:/._ ]+(?:[-:/_]|(?<!/)\.)*|[-:/._]+")
# Unicode categories of letters that take no column of their own.
JOINING = ("Mn", "Me", "Cf")
# So do the later parts of a Korean syllable, and skin tones.
JOINED = (("\u1160", "\u11ff"), ("\U0001f3fb", "\U0001f3ff"))
EMOJI_STYLE = "\ufe0f"


def display_width(text: str) -> int:
    """Return how many columns of a terminal a text takes.

    By Unicode: marks take none, wide and full-width letters (East Asian Width W and F) two.
    """
    if text.isascii():
        return len(text)
    total = last = 0
    for letter in text:
        if letter == EMOJI_STYLE:
            # After a symbol of one column, this character makes terminals draw a picture of two.
            size = int(last == 1)
        elif letter.isascii():
            size = 1
        elif unicodedata.category(letter) in JOINING or any(a <= letter <= b for a, b in JOINED):
            size = 0
        else:
            size = 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        total += size
        last = size or last
    return total


def fold(text: str, columns: int, first: str = "", rest: str | None = None) -> Iterator[str]:
    """Break a text into lines of at most `columns` columns; at least one line.

    It is broken between words, else after a joint of a name, else anywhere. No letter is left out.

    Args:
        text: the text; control characters are escaped.
        columns: columns of the terminal.
        first: the beginning of the first line.
        rest: the beginning of the other lines; `first` by default.
    """
    text = safe(text).rstrip()
    rest = first if rest is None else rest
    lead, size = first, max(columns - display_width(first), 1)
    next_size = max(columns - display_width(rest), 1)
    while display_width(text) > size:
        cut = break_at(text, size, next_size)
        yield f"{lead}{text[:cut]}".rstrip()
        text = text[cut:].lstrip()
        lead, size = rest, next_size
    yield f"{lead}{text}".rstrip()


def print_folded(text: str, lead: str | None = None, indent: int = 2) -> None:
    """Print a text: folded on a terminal, as one line in a pipe.

    Args:
        text: the text; control characters are escaped.
        lead: the beginning of the first line; the same indentation as the others by default.
        indent: indentation of the other lines; at most 4 in a narrow terminal.
    """
    is_terminal = sys.stdout.isatty()
    below = " " * (min(indent, 4) if is_terminal and width() < indent * 3 else indent)
    first = below if lead is None else lead
    for line in fold(text, width(), first, below) if is_terminal else [f"{first}{safe(text)}"]:
        print(line)


def break_at(text: str, size: int, next_size: int) -> int:
    """Return after how many letters a line of `size` columns ends."""
    end = min(size, len(text))
    while end > 1 and display_width(text[:end]) > size:
        end -= 1
    while end < len(text) and display_width(text[: end + 1]) <= size:
        end += 1
    gap, space = text.rfind(GAP, 0, end + 2), text.rfind(" ", 0, end + 1)
    for cut in (gap, space):
        if cut > end // 2:
            return cut
    word = text[space + 1 :].partition(" ")[0]
    # A short line is better than a broken word, if the next line has space for the whole word.
    if space > 0 and display_width(word) <= next_size:
        return space
    if text[end] in JOINTS:
        return end
    # The same holds for a part of a name.
    part = next((p for p in PART.finditer(text) if p.start() < end < p.end()), None)
    if part is None or part.start() <= space + 1:
        return end
    is_short = display_width(part[0]) <= next_size
    return part.start() if is_short or part.start() > end // 2 else end


# -- tables ---------------------------------------------------------------------------------


class Column:
    """One column of a table.

    Args:
        title: its heading.
        cells: its texts, one for each row; control characters are escaped.
        right: whether its texts are aligned to the right, as numbers are.
        can_fold: whether its texts may be broken into several lines.
        priority: in a narrow terminal, the columns with the highest number are left out first.
        remark: whether, in a narrow terminal, its texts get lines of their own.
    """

    __slots__ = ("can_fold", "cells", "natural", "priority", "remark", "right", "title")

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
        # The width without folding.
        self.natural = max(map(display_width, (title, *self.cells)))


def numbers(title: str, counts: Sequence[int], priority: int = 0) -> Column:
    """Make a column of whole numbers."""
    return Column(title, [f"{count:,}" for count in counts], right=True, priority=priority)


def table(
    columns: Sequence[Column], max_width: int, shares: Sequence[float] = (), ruled: bool = False
) -> Iterator[str]:
    """Lay out a table of at most `max_width` columns, or a list if the terminal is too narrow.

    Args:
        columns: at least one; an empty one with a priority is left out.
        max_width: columns of the terminal.
        shares: a bar after each row, if there is space.
        ruled: whether to draw a line below the headings.
    """
    shown = [c for c in columns if not c.priority or any(c.cells)]
    while last := max(c.priority for c in shown):
        if min_width(shown, max_width) <= max_width:
            break
        shown = [c for c in shown if c.priority < last]
    sizes = fit([c for c in shown if not c.remark], max_width)
    left = max_width - total_width(sizes)
    if left < 0:
        yield from as_list(shown, max_width)
        return
    remarks = []
    for column in [c for c in shown if c.remark]:
        size = min(column.natural, left - len(GAP))
        if size >= min(column.natural, MIN_REMARK):
            sizes.append(size)
            left -= size + len(GAP)
        else:
            shown.remove(column)
            remarks.append(column)
    bar_width = min(left - len(GAP), BAR_WIDTH) if shares else 0
    yield from row(shown, sizes, [c.title for c in shown])
    if ruled:
        yield GAP.join("-" * size for size in sizes)
    for at in range(len(shown[0].cells)):
        drawn = bar(shares[at], bar_width) if bar_width >= MIN_BAR else ""
        yield from row(shown, sizes, [c.cells[at] for c in shown], drawn)
        for column in remarks:
            if column.cells[at]:
                yield from fold(column.cells[at], max_width, GAP, GAP * 2)


def total_width(sizes: Sequence[int]) -> int:
    """Return the width of a row, with the gaps between its columns."""
    return sum(sizes) + len(GAP) * (len(sizes) - 1)


def min_width(columns: Sequence[Column], max_width: int) -> int:
    """Return the width of a table whose names are folded as far as they stay readable."""
    name = max(WHOLE_NAME, max_width // 4)
    return total_width(
        [
            max(min(c.natural, name), narrowest(c, max_width)) if c.natural > name else c.natural
            for c in columns
        ]
    )


def narrowest(column: Column, max_width: int) -> int:
    """Return the least width of a column.

    No part of a name is broken, unless it is longer than half of the terminal.
    """
    if not column.can_fold:
        return column.natural
    parts = (part for cell in {*column.cells} for part in PART.findall(cell))
    longest = max(map(display_width, parts), default=0)
    return max(MIN_NAME, longest if longest <= max_width // 2 else 0)


def fit(columns: Sequence[Column], max_width: int) -> list[int]:
    """Return the width of each column; the widest ones that can be folded are narrowed."""
    sizes = [c.natural for c in columns]
    if total_width(sizes) <= max_width:
        return sizes
    lowest = [narrowest(c, max_width) for c in columns]
    while total_width(sizes) > max_width:
        folding = [at for at, size in enumerate(sizes) if size > lowest[at]]
        if not folding:
            break
        sizes[max(folding, key=sizes.__getitem__)] -= 1
    return sizes


def row(
    columns: Sequence[Column], sizes: Sequence[int], texts: Sequence[str], drawn: str = ""
) -> Iterator[str]:
    """Lay out one row; its first line ends with a bar."""
    parts = [fold(text, size) for text, size in zip(texts, sizes, strict=True)]
    for line in zip_longest(*parts, fillvalue=""):
        cells = []
        for column, size, text in zip(columns, sizes, line, strict=True):
            blank = " " * (size - display_width(text))
            cells.append(blank + text if column.right else text + blank)
        yield GAP.join([*cells, drawn]).rstrip()
        drawn = ""


def as_list(columns: Sequence[Column], max_width: int) -> Iterator[str]:
    """Lay out each row as a line with its name, of at most two cells, and one for each other."""
    heads = 1 + (len(columns) > 1 and not columns[1].right and not columns[1].remark)
    yield from fold(" ".join(c.title for c in columns[:heads]).lstrip(), max_width)
    for at in range(len(columns[0].cells)):
        yield from fold(" ".join(c.cells[at] for c in columns[:heads]).lstrip(), max_width)
        for column in columns[heads:]:
            if column.cells[at]:
                yield from fold(f"{column.title}: {column.cells[at]}", max_width, GAP, GAP * 2)


# -- bars and sparklines -----------------------------------------------------------------------


def can_draw(stream: TextIO | None = None) -> bool:
    """Whether a stream, by default stdout, can print block characters."""
    try:
        SPARKS.encode((stream or sys.stdout).encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def heading(text: str) -> str:
    """Make a heading bold, if the terminal can show it."""
    plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ
    return text if plain or os.environ.get("TERM") == "dumb" else f"\x1b[1m{text}\x1b[0m"


def sparkline(counts: Sequence[int], columns: int) -> str:
    """Draw counts as one line; if there are too many, the oldest are left out.

    Args:
        counts: oldest first.
        columns: the width of the line.
    """
    sparks = SPARKS if can_draw() else PLAIN_SPARKS
    shown = counts[-columns:]
    most = max(shown, default=0)
    steps = len(sparks) - 1
    return "".join(sparks[-(-count * steps // most) if count else 0] for count in shown)


def bar(share: float, columns: int) -> str:
    """Draw a bar that fills a share of its columns, and at least one if the share is not zero."""
    full = round(share * columns)
    # This block is lower than a line, so that bars below each other stay apart.
    return ("▇" if can_draw() else "#") * (max(full, 1) if share > 0 else 0)


def progress(share: float, events: int, stream: TextIO) -> str:
    """Draw the progress of long work as a bar and numbers, in one line of the terminal.

    Args:
        share: from 0 to 1.
        events: how many events are done.
        stream: the terminal.
    """
    text = f"{share:4.0%}  {counted(events, 'event')}"
    try:
        columns = os.get_terminal_size(stream.fileno()).columns - len(text) - len(GAP) - 1
    except (OSError, ValueError):
        columns = 0
    size = min(columns, BAR_WIDTH)
    if size < MIN_BAR:
        return text
    full, empty = "▇-" if can_draw(stream) else "#-"
    done = round(share * size)
    return f"{full * done}{empty * (size - done)}{GAP}{text}"
