"""Fast reading: blocks of canonical lines at once, and all other lines by the reader.

The reader accepts every line that the pattern here accepts, with the same fields. All other lines
(old files, escapes, damage) go to the reader, so that the result never differs.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from functools import cache
from itertools import chain

from telemetry_kit.insights.counters import READ, TABLES
from telemetry_kit.schema import catalog
from telemetry_kit.schema.kinds import CLOCK, DAY, kind_of
from telemetry_kit.storage.parser import Event
from telemetry_kit.storage.reader import MAX_READ_LINE_BYTES, events_in
from telemetry_kit.storage.segments import ACTIVE, Report

# Event type, day, and the fields of `READ` as they stand in the line, in runs.
Row = tuple[bytes, ...]

_decode = json.JSONDecoder().decode


class Region:
    """A run of canonical lines.

    Args:
        block: the bytes, each line with its end.
        rows: one for each line; none where they were not asked for.
    """

    __slots__ = ("block", "rows")

    def __init__(self, block: bytes, rows: list[Row]) -> None:
        self.block = block
        self.rows = rows


class Rest:
    """Lines that the pattern is not for.

    Args:
        chunks: the bytes, in pieces.
        ended_bytes: how many bytes they have; 0 where they go to the end of the file and the
            last line has no end.
        last: whether they do.
    """

    __slots__ = ("chunks", "ended_bytes", "last")

    def __init__(self, chunks: Iterator[bytes], ended_bytes: int, last: bool = False) -> None:
        self.chunks = chunks
        self.ended_bytes = ended_bytes
        self.last = last


def regions(chunks: Iterator[bytes], whole: bool = False) -> Iterator[Region | Rest]:
    """The bytes of one file in order, each line in exactly one region; use each before the next.

    Args:
        chunks: the bytes, in pieces.
        whole: a block whose times are all cut to the day may come without its rows.
    """
    rest = b""
    for chunk in chunks:
        data = rest + chunk if rest else chunk
        end = data.rfind(b"\n") + 1
        block, rest = data[:end], data[end:]
        if block:
            if whole and is_of_whole_days(block):
                yield Region(block, [])
            else:
                yield from _of_block(block)
        if len(rest) > MAX_READ_LINE_BYTES:
            # A line without end must not be collected; the reader knows how to pass over it.
            yield Rest(chain((rest,), chunks), 0, last=True)
            return
    if rest:
        yield Rest(iter((rest,)), 0, last=True)


def _of_block(block: bytes) -> Iterator[Region | Rest]:
    line = _canonical()
    rows: list[Row] = line.findall(block)
    if len(rows) == block.count(b"\n"):
        yield Region(block, rows)
        return
    # Some line is not canonical: runs of those that are, and what lies between them.
    begin = at = 0
    rows = []
    for match in line.finditer(block):
        if match.start() > at:
            if rows:
                yield Region(block[begin:at], rows)
            yield _between(block[at : match.start()])
            begin, rows = match.start(), []
        rows.append(match.groups(b""))
        at = match.end()
    if rows:
        yield Region(block[begin:at], rows)
    if at < len(block):
        yield _between(block[at:])


def _between(lines: bytes) -> Rest:
    return Rest(iter((lines,)), len(lines))


def is_of_whole_days(block: bytes) -> bool:
    """Whether all lines of a block are canonical, with times cut to the day; about twice as fast.

    Args:
        block: whole lines.
    """
    found = _of_days().match(block)
    return found is not None and found.end() == len(block)


def parse_fields(fields: bytes) -> Event:
    """Fields as they stand in a canonical line, each with the comma before it."""
    found: Event = _decode("{" + fields[1:].decode("ascii") + "}")
    return found


def fingerprint() -> int:
    """A number that changes when other lines are accepted, or counted in another way."""
    return zlib.crc32(_pattern_of_lines() + repr(TABLES).encode())


def read_rest(rest: Rest, report: Report, kind: str) -> Iterator[Event]:
    """The events in lines that are not canonical.

    Args:
        rest: the lines.
        report: filled while reading.
        kind: of the segment.
    """
    return events_in(rest.chunks, report, rest.last and kind == ACTIVE)


_REQUIRED = ("schema_version", "event_id", "event_type", "timestamp")


@cache
def _pattern_of_lines() -> bytes:
    parts: list[bytes] = [rb"\{"]
    open_run = False
    for name, row in catalog.FIELDS.items():
        value = kind_of(row).pattern
        if name == "event_type":
            value = b'"(' + value[4:-2] + b')"'
        elif row.kind == catalog.TIME:
            value = value.replace(DAY, b"(" + DAY + b")")
        if open_run and name not in READ:
            parts.append(b")")
        if not open_run and name in READ:
            parts.append(b"(")
        open_run = name in READ
        comma = b"" if name == "schema_version" else b","
        pair = comma + b'"%s":' % name.encode() + value
        parts.append(pair if name in _REQUIRED else b"(?:" + pair + b")?+")
    return b"".join([*parts, b")" if open_run else b"", rb"\}\n"])


# Compiling takes longer than a second look at everything that is known.
@cache
def _canonical() -> re.Pattern[bytes]:
    return re.compile(rb"^" + _pattern_of_lines(), re.MULTILINE)


@cache
def _of_days() -> re.Pattern[bytes]:
    plain = re.sub(rb"\((?!\?)", rb"(?:", _pattern_of_lines()).replace(CLOCK, rb"00:00:00")
    return re.compile(rb"(?:" + plain + rb")*+")
