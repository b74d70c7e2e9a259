"""The parts of a line that can be removed alone: the whole line, or one of its joined events.

A killed process leaves part of a line without a newline, and the next line is joined to it. So one
line of the file can hold an event to delete beside one to keep.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from telemetry_kit.schema import catalog
from telemetry_kit.storage.parser import PREFIX

# A longer line is no event, and is split into parts of this size.
MAX_PART_BYTES = 1 << 20
# The last bytes of such a part are examined again with the next one. No event is longer.
OVERLAP_BYTES = catalog.MAX_LINE_BYTES
# The reader also finds events there: no line continues after NULs, and no string of ours contains
# the prefix.
_CUT = re.compile(rb"\0+|(?=%b)" % re.escape(PREFIX))


class LinePart:
    """Some bytes of a file, and the bytes that end them.

    Args:
        data: without its end.
        end: a newline, NULs, or nothing if the next part is joined to it.
        ahead: the following bytes of the same part that are examined with it.
        begins: False for the second and later pieces of a long part.
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


def select(
    chunks: Iterator[bytes], keep: Callable[[bytes], bool]
) -> Iterator[tuple[LinePart, bool]]:
    """Yield each part, and whether to remove it.

    A long part is removed from the first of its pieces that is not kept.

    Args:
        chunks: the bytes of a file.
        keep: receives the bytes of a part. False removes it.
    """
    is_removed = False
    for part in split(chunks):
        continues = is_removed and not part.begins
        is_removed = continues or (bool(part.data) and not keep(part.data + part.ahead))
        yield part, is_removed


def split(chunks: Iterator[bytes]) -> Iterator[LinePart]:
    """Split the bytes of a file into parts, without losing one."""
    rest, begins = b"", True
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield from split_line(line, b"\n", begins)
            begins = True
        if len(rest) > MAX_PART_BYTES:
            *whole, open_part = split_line(rest, b"", begins)
            yield from whole
            rest, begins = open_part.data, open_part.begins
            if len(rest) > MAX_PART_BYTES:
                data, rest = rest[:-OVERLAP_BYTES], rest[-OVERLAP_BYTES:]
                yield LinePart(data, b"", rest, begins)
                begins = False
    if rest:
        *whole, final = split_line(rest, b"", begins)
        yield from whole
        final.last = True
        yield final


def split_line(line: bytes, end: bytes, begins: bool) -> Iterator[LinePart]:
    """Split one line, which may hold several events and NULs."""
    at = 0
    if b"\0" in line or line.find(PREFIX, 1) > 0:
        for cut in _CUT.finditer(line):
            if cut.end():
                yield LinePart(line[at : cut.start()], cut[0], begins=begins)
                at, begins = cut.end(), True
    yield LinePart(line[at:], end, begins=begins)
