"""Fast reading: the scanner matches blocks of canonical lines, the reader parses all other lines.

The reader accepts each line that the pattern matches, with the same fields. Old lines, lines with
escapes and damaged lines go to the reader, so the events are the same as without the scanner.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from functools import cache
from itertools import chain

from telemetry_kit.insights.counters import TABLES
from telemetry_kit.schema import catalog
from telemetry_kit.schema.kinds import CLOCK, DAY, kind_of
from telemetry_kit.storage.parser import Event
from telemetry_kit.storage.reader import MAX_READ_LINE_BYTES, events_in
from telemetry_kit.storage.segments import ACTIVE, FileReport

# Event type; day; JSON text of the names; ID of the session; whether there is a span; JSON text of
# the outcome; milliseconds; JSON text of the invoker and the version. Missing items are empty.
Row = tuple[bytes, ...]

_REQUIRED = ("schema_version", "event_id", "event_type", "timestamp")
# Adjacent fields whose JSON text is one item of a row.
_ADJACENT = {*catalog.NAMES, "outcome", "error_type", "invoker", "app_version"}
# The value of the item that says whether there is a span.
_HAS_SPAN = b',"span_id":'
_decode = json.JSONDecoder().decode


class Region:
    """Consecutive canonical lines.

    Args:
        block: the lines, each with its end.
        rows: one for each line, or none if they were not asked for.
    """

    __slots__ = ("block", "ended_bytes", "rows")

    def __init__(self, block: bytes, rows: list[Row]) -> None:
        self.block = block
        self.rows = rows
        self.ended_bytes = len(block)


class Rest:
    """Lines for the reader.

    Args:
        chunks: the bytes, in pieces.
        ended_bytes: how many bytes the lines have; 0 for the rest of the file, whose last line
            has no end.
    """

    __slots__ = ("chunks", "ended_bytes")

    def __init__(self, chunks: Iterator[bytes], ended_bytes: int = 0) -> None:
        self.chunks = chunks
        self.ended_bytes = ended_bytes


def regions(chunks: Iterator[bytes], whole: bool = False) -> Iterator[Region | Rest]:
    """Yield the lines of a file in order. Each item is valid until the next one is requested.

    Args:
        chunks: the bytes, in pieces.
        whole: leave out the rows of a block whose times are all cut to the day.
    """
    rest = b""
    for chunk in chunks:
        data = rest + chunk if rest else chunk
        end = data.rfind(b"\n") + 1
        block, rest = data[:end], data[end:]
        if whole and block and is_of_whole_days(block):
            yield Region(block, [])
        elif block:
            yield from split_block(block)
        if len(rest) > MAX_READ_LINE_BYTES:
            # The reader can skip a line without an end. Here it would fill the memory.
            yield Rest(chain((rest,), chunks))
            return
    if rest:
        yield Rest(iter((rest,)))


def split_block(block: bytes) -> Iterator[Region | Rest]:
    """Yield the canonical lines of a block, and the lines between them."""
    line = canonical_line()
    rows: list[Row] = line.findall(block)
    if len(rows) == block.count(b"\n"):
        yield Region(block, rows)
        return
    begin = at = 0
    rows = []
    for match in line.finditer(block):
        if match.start() > at:
            if rows:
                yield Region(block[begin:at], rows)
            yield Rest(iter((block[at : match.start()],)), match.start() - at)
            begin, rows = match.start(), []
        rows.append(match.groups(b""))
        at = match.end()
    if rows:
        yield Region(block[begin:at], rows)
    if at < len(block):
        yield Rest(iter((block[at:],)), len(block) - at)


def is_of_whole_days(block: bytes) -> bool:
    """Whether all lines of a block are canonical, with times cut to the day.

    This takes about half the time of making rows.
    """
    found = canonical_days().match(block)
    return found is not None and found.end() == len(block)


def parse_fields(fields: bytes) -> Event:
    """Parse adjacent fields of a canonical line, each with the comma before it."""
    if fields == _HAS_SPAN:
        return {"span_id": ""}
    found: Event = _decode("{" + fields[1:].decode("ascii") + "}")
    return found


def fingerprint() -> int:
    """Return a number that changes if other lines are accepted, or counted in another way."""
    return zlib.crc32(line_pattern() + repr(TABLES).encode())


def read_rest(rest: Rest, report: FileReport, kind: str) -> Iterator[Event]:
    """Yield the events in lines for the reader.

    Args:
        rest: the lines.
        report: receives their problems.
        kind: that of the segment.
    """
    return events_in(rest.chunks, report, kind == ACTIVE and not rest.ended_bytes)


@cache
def line_pattern() -> bytes:
    """Return the pattern of a canonical line, with a group for each item of a row.

    The reader parses the few lines that say how many events were dropped.
    """
    parts = [rb"\{"]
    in_group = False
    for name, field in catalog.FIELDS.items():
        if name == "dropped":
            continue
        value = kind_of(field).pattern
        if in_group != (name in _ADJACENT):
            parts.append(b")" if in_group else b"(")
            in_group = not in_group
        if name == "event_type":
            value = b'"(' + value[4:-2] + b')"'
        elif name == "session_id":
            value = b'"(' + value[1:-1] + b')"'
        elif name == "duration_ms":
            value = b"(" + value + b")"
        elif field.kind == catalog.TIME:
            value = value.replace(DAY, b"(" + DAY + b")")
        pair = b'%s"%s":%s' % (b"," if name != "schema_version" else b"", name.encode(), value)
        if name == "span_id":
            # The key alone: there are far fewer different rows without the value.
            pair = b"(" + _HAS_SPAN + b")" + value
        parts.append(pair if name in _REQUIRED else b"(?:" + pair + b")?+")
    return b"".join([*parts, b")" if in_group else b"", rb"\}\n"])


# Compiling takes longer than `stats` takes for a log whose counts are known.
@cache
def canonical_line() -> re.Pattern[bytes]:
    """Compile the pattern of one line."""
    return re.compile(rb"^" + line_pattern(), re.MULTILINE)


@cache
def canonical_days() -> re.Pattern[bytes]:
    """Compile the pattern of lines with times cut to the day, without groups."""
    plain = re.sub(rb"\((?!\?)", rb"(?:", line_pattern()).replace(CLOCK, rb"00:00:00")
    return re.compile(rb"(?:" + plain + rb")*+")
