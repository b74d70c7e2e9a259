"""Select events: the newest first, whole sessions, all in order for an export, or new ones.

The caller shows them.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections import deque
from collections.abc import Iterator

from telemetry_kit.insights.query import Query
from telemetry_kit.insights.scanner import Region, Rest, read_rest, regions
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage.parser import Event, parse
from telemetry_kit.storage.reader import MAX_READ_LINE_BYTES
from telemetry_kit.storage.segments import ARCHIVE, FileReport, ReadReport, Source, snapshot

# An event as its canonical line, or as the reader parsed it.
Item = bytes | Event

_BLOCK_BYTES = 1 << 18
# How many events of an archive are in memory, when it is read from its end.
_MAX_HELD = 20_000
# The search for the beginning of a session goes back this far from its last event. The first
# limit applies once the first event was found.
_NEAR_BYTES = 4 << 20
_FAR_BYTES = 16 << 20
_BEGIN = b'"event_type":"role.selected"'
_HEAD_BYTES = 100
# A file is recognised by this many first bytes, which contain the ID of its first event.
_KNOWN_BYTES = 64


class Block:
    """Canonical lines with times cut to the day, as they are stored.

    Args:
        data: the lines, each with its end.
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __len__(self) -> int:
        return self.data.count(b"\n")


class Meter:
    """How much of the log was read. The bytes of an archive count when its end is reached."""

    __slots__ = ("done_bytes", "whole_bytes")

    def __init__(self) -> None:
        self.done_bytes = 0
        self.whole_bytes = 0

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return min(self.done_bytes / self.whole_bytes, 1.0) if self.whole_bytes else 0.0

    def watched(self, source: Source, report: FileReport) -> Iterator[bytes]:
        """Yield the bytes of a file, and count them."""
        before = self.done_bytes
        for chunk in source.chunks(report):
            if source.segment.kind != ARCHIVE:
                self.done_bytes += len(chunk)
            yield chunk
        self.done_bytes = before + source.segment.size_bytes


def lines(
    paths: ProjectPaths, query: Query, problems: ReadReport, meter: Meter
) -> Iterator[list[Item] | Block]:
    """Yield the events that a query accepts in portions, oldest first.

    Args:
        paths: the project.
        query: which events.
        problems: receives the problems of the files.
        meter: receives the progress.
    """
    with snapshot(paths, problems, each_once=True) as sources:
        meter.whole_bytes = sum(source.segment.size_bytes for source in sources)
        for source in sources:
            kind, report = source.segment.kind, problems.of(source.segment.name)
            for region in regions(meter.watched(source, report), whole=query.everything):
                if isinstance(region, Region) and not region.rows:
                    yield Block(region.block)
                else:
                    yield items_of(region, kind, query, report)


def events(paths: ProjectPaths, query: Query, problems: ReadReport) -> Iterator[Event]:
    """Yield the events that a query accepts, oldest first.

    Args:
        paths: the project.
        query: which events.
        problems: receives the problems of the files.
    """
    for portion in lines(paths, query, problems, Meter()):
        found: bytes
        if isinstance(portion, Block):
            found = portion.data[:-1].replace(b"\n", b",")
        elif portion and isinstance(portion[0], bytes):
            found = b",".join(portion)  # type: ignore[arg-type]  # a region has one kind of item
        else:
            yield from map(parsed, portion)
            continue
        # Many lines at once: for the parser this is twice as fast as one after the other.
        yield from json.loads(f"[{found.decode('ascii')}]")


def items_of(region: Region | Rest, kind: str, query: Query, report: FileReport) -> list[Item]:
    """Return the items of a region that a query accepts, lines without their ends.

    Args:
        region: the lines.
        kind: that of the segment.
        query: which events.
        report: receives the problems of the lines.
    """
    if isinstance(region, Rest):
        return [*filter(query.accepts, read_rest(region, report, kind))]
    found: list[bytes] = region.block.splitlines()
    if query.since or query.until:
        rows = zip(found, region.rows, strict=True)
        found = [line for line, row in rows if query.has_day(row[1].decode())]
    for name, values in query.fields.items():
        # The recorder writes each value in one way only, so bytes can be compared.
        wanted = [f'"{name}":{json.dumps(value)}'.encode() for value in values]
        found = [line for line in found if any(pair in line for pair in wanted)]
    if not query.fields:
        return [*found]
    # A context may have the same pair of key and value.
    return [ln for ln in found if b'"context":' not in ln or query.accepts(parsed(ln))]


def parsed(item: Item) -> Event:
    """Return an item as an event."""
    if not isinstance(item, bytes):
        return item
    event = parse(item)
    assert event is not None  # the reader accepts each line that the scanner accepts
    return event


# -- from the end ----------------------------------------------------------------------------


def newest(paths: ProjectPaths, count: int, query: Query, problems: ReadReport) -> Iterator[Event]:
    """Yield the last events that a query accepts, newest first, and read only as far as needed.

    Args:
        paths: the project.
        count: how many at most.
        query: which events.
        problems: receives the problems of the files, as far as these are read.
    """
    left = count
    for items, _ in portions_backwards(paths, query, problems):
        yield from map(parsed, reversed(items[-min(left, sys.maxsize) :]))
        left -= len(items)
        if left <= 0:
            return


def portions_backwards(
    paths: ProjectPaths, query: Query, problems: ReadReport
) -> Iterator[tuple[list[Item], int]]:
    """Yield the items that a query accepts in portions, the last first, with the bytes read."""
    with snapshot(paths, problems, each_once=True) as sources:
        for source in reversed(sources):
            report = problems.of(source.segment.name)
            if source.segment.kind == ARCHIVE:
                yield from archive_backwards(source, query, report)
                continue
            for block in source.backwards(report, _BLOCK_BYTES, MAX_READ_LINE_BYTES + 1):
                found: list[Item] = []
                for region in regions(iter((block,))):
                    found += items_of(region, source.segment.kind, query, report)
                yield found, len(block)


def archive_backwards(
    source: Source, query: Query, report: FileReport
) -> Iterator[tuple[list[Item], int]]:
    """Yield the items of an archive backwards. A large one is decompressed several times."""
    read_bytes = 0

    def metered() -> Iterator[bytes]:
        nonlocal read_bytes
        for chunk in source.chunks(report):
            read_bytes += len(chunk)
            yield chunk

    upto: int | None = None
    while upto != 0:
        last: deque[Item] = deque(maxlen=_MAX_HELD)
        read_bytes = seen = 0
        for region in regions(metered()):
            items = items_of(region, ARCHIVE, query, report)
            left = len(items) if upto is None else upto - seen
            last += items[:left]
            seen += min(left, len(items))
            if seen == upto:
                break
        yield list(last), read_bytes
        report, upto = FileReport(), seen - len(last)


# -- sessions --------------------------------------------------------------------------------


class OpenSession:
    """A session whose first events may not have been read yet.

    Args:
        at: how many bytes were read before its last event was found.
        has_begin: whether its first event was found.
    """

    __slots__ = ("at", "has_begin", "items")

    def __init__(self, at: int, has_begin: bool) -> None:
        self.at = at
        self.has_begin = has_begin
        self.items: list[Item] = []

    def add(self, item: Item) -> None:
        """Add an event before the others."""
        self.items.append(item)
        if isinstance(item, bytes):
            self.has_begin |= _BEGIN in item[:_HEAD_BYTES]
        else:
            self.has_begin |= item["event_type"] == "role.selected"

    def is_whole(self, at: int) -> bool:
        """Whether the search for its first events ends after so many bytes."""
        return at - self.at > (_NEAR_BYTES if self.has_begin else _FAR_BYTES)

    def events(self) -> list[Event]:
        """Its events, oldest first."""
        return [parsed(item) for item in reversed(self.items)]


def sessions(
    paths: ProjectPaths, count: int, query: Query, problems: ReadReport
) -> Iterator[tuple[str, list[Event]]]:
    """Yield the last sessions, newest first, each with its events, oldest first.

    A session whose events are very far apart is split, so that memory is bounded.

    Args:
        paths: the project.
        count: how many at most.
        query: which events.
        problems: receives the problems of the files, as far as these are read.
    """
    found: dict[str, OpenSession] = {}
    at = started = 0
    for items, read_bytes in portions_backwards(paths, query, problems):
        for item in reversed(items):
            key = session_of(item)
            if key not in found and started < count:
                found[key] = OpenSession(at, has_begin=not key)
                started += 1
            if key in found:
                found[key].add(item)
        at += read_bytes
        while found and found[first := next(iter(found))].is_whole(at):
            yield first, found.pop(first).events()
        if started == count and not found:
            return
    for key, session in found.items():
        yield key, session.events()


def count_sessions(paths: ProjectPaths, query: Query) -> int:
    """Return the number of sessions with events that a query accepts.

    The events outside of sessions count as one, as `sessions` yields them.

    Args:
        paths: the project.
        query: which events.
    """
    found: set[str] = set()
    for items, _ in portions_backwards(paths, query, ReadReport()):
        found.update(map(session_of, items))
    return len(found)


def session_of(item: Item) -> str:
    """Return the session ID of an item; empty if it has none."""
    if not isinstance(item, bytes):
        return str(item.get("session_id", ""))
    # No value of a canonical line has a quotation mark. A context may have the same key.
    _, found, rest = item.partition(b',"context":')[0].partition(b'"session_id":"')
    return rest[: rest.index(b'"')].decode() if found else ""


# -- as they arrive --------------------------------------------------------------------------


class Following:
    """The events that are recorded from now on.

    Args:
        paths: the project.
        query: which events.
    """

    def __init__(self, paths: ProjectPaths, query: Query) -> None:
        self._paths = paths
        self._query = query
        # For each file how far it was read, and the checksum of its first bytes.
        self._seen: dict[tuple[int, int], tuple[int, int]] = {}
        for _ in self.news(begin=True):
            pass

    def news(self, begin: bool = False) -> Iterator[Event]:
        """Yield the events since the last call that the query accepts, oldest first.

        Args:
            begin: yield none, and only remember how long the files are.
        """
        now: dict[tuple[int, int], tuple[int, int]] = {}
        with snapshot(self._paths, ReadReport(), each_once=True) as sources:
            for source in sources:
                segment = source.segment
                # The events of an archive were read before it was compressed.
                if segment.kind == ARCHIVE:
                    continue
                at = self.read_bytes(source)
                for region in regions(source.chunks(FileReport(), at)):
                    at += region.ended_bytes
                    if region.ended_bytes and not begin:
                        items = items_of(region, segment.kind, self._query, FileReport())
                        yield from map(parsed, items)
                now[segment.identity] = at, head_of(source, at)
        self._seen = now

    def read_bytes(self, source: Source) -> int:
        """How far a file was read; 0 for another file with the same inode."""
        at, head = self._seen.get(source.segment.identity, (0, 0))
        if source.segment.size_bytes < at:
            return 0
        # Deleted events of a file that a program has open are overwritten with line ends.
        blank = zlib.crc32(b"\n" * min(at, _KNOWN_BYTES))
        return at if head_of(source, at) in (head, blank, _GONE) else 0


# The result of `Source.checksum` for a file that was renamed.
_GONE = -1


def head_of(source: Source, at: int) -> int:
    """Return the checksum by which a file is recognised that was read so far."""
    count = min(at, _KNOWN_BYTES)
    return source.checksum(count, count)
