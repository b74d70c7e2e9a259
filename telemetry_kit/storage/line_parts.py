"""The parts of a line that can be removed alone: the whole line, or one of its joined events.

A killed writer leaves a fragment without an end, and the next line is joined to it. So one line
of the file can hold an event to delete beside one to keep. The caller decides which.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from telemetry_kit.schema import catalog
from telemetry_kit.storage.parser import PREFIX

# What is longer is no event, and is looked at in parts of this size.
MAX_PART_BYTES = 1 << 20
# So much of one part is looked at again with the next: no text that is looked for is longer.
OVERLAP_BYTES = catalog.MAX_LINE_BYTES
# Where the reader finds events, too: no line goes on behind NULs, and in no string of ours does the
# prefix stand.
_CUT = re.compile(rb"\0+|(?=%b)" % re.escape(PREFIX))


class LinePart:
    """Some bytes of a file, and those that end them.

    Args:
        data: without its end.
        end: a newline, NULs, or nothing where the next piece is glued to it.
        ahead: what follows in the same piece, as far as it is looked at with this part.
        begins: whether this is not the second or later part of a long one.
        last: whether the file ends here, without a newline.
    """

    __slots__ = ("ahead", "begins", "data", "end", "last")

    def __init__(
        self, data: bytes, end: bytes, ahead: bytes = b"", begins: bool = True, last: bool = False
    ) -> None:
        self.data = data
        self.end = end
        self.ahead = ahead
        self.begins = begins
        self.last = last


def judged(
    chunks: Iterator[bytes], keep: Callable[[bytes], bool]
) -> Iterator[tuple[LinePart, bool]]:
    """Each piece, and whether it goes.

    A long one goes from its beginning, or from the first part on that is not kept.

    Args:
        chunks: the bytes of a file.
        keep: told what the piece holds.
    """
    goes = False
    for piece in of(chunks):
        goes = (goes and not piece.begins) or (
            bool(piece.data) and not keep(piece.data + piece.ahead)
        )
        yield piece, goes


def of(chunks: Iterator[bytes]) -> Iterator[LinePart]:
    """The pieces of a file; together they are the file.

    Args:
        chunks: its bytes.
    """
    rest, begins = b"", True
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield from _parts(line, b"\n", begins)
            begins = True
        if len(rest) > MAX_PART_BYTES:
            *whole, open_one = _parts(rest, b"", begins)
            yield from whole
            rest, begins = open_one.data, open_one.begins
            if len(rest) > MAX_PART_BYTES:
                data, rest = rest[:-OVERLAP_BYTES], rest[-OVERLAP_BYTES:]
                yield LinePart(data, b"", rest, begins)
                begins = False
    if rest:
        *whole, final = _parts(rest, b"", begins)
        yield from whole
        final.last = True
        yield final


def _parts(line: bytes, end: bytes, begins: bool) -> Iterator[LinePart]:
    """The pieces of one line."""
    at = 0
    if b"\0" in line or line.find(PREFIX, 1) > 0:
        for cut in _CUT.finditer(line):
            if cut.end():
                yield LinePart(line[at : cut.start()], cut[0], begins=begins)
                at, begins = cut.end(), True
    yield LinePart(line[at:], end, begins=begins)
