"""Select events: by period and by field, the newest first, or as they arrive.

The caller shows them.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections import deque
from collections.abc import Iterator, Mapping

from telemetry_kit.insights.scanner import Region, Rest, read_rest, regions
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage.parser import Event, parse
from telemetry_kit.storage.reader import MAX_READ_LINE_BYTES
from telemetry_kit.storage.segments import ARCHIVE, FileReport, ReadReport, Source, snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Portion = list[bytes | Event]

_BLOCK_BYTES = 1 << 18
# Events of an archive that are held at once, when it is read from its end.
_MAX_HELD = 20_000
# So far before its last event is the rest of a session looked for: where its beginning was seen,
# and where it was not.
_NEAR_BYTES = 4 << 20
_FAR_BYTES = 16 << 20
_BEGIN = b'"event_type":"role.selected"'
_HEAD_BYTES = 100
# By so many first bytes a file is known again: they hold the id of its first event.
_KNOWN_BYTES = 64


class Filter:
    """Which events are wanted.

    Args:
        since: first day, as `YYYY-MM-DD`; empty for all.
        until: last day; empty for all.
        fields: fields with the value they must have, or the values one of which it must be.
    """

    __slots__ = ("fields", "since", "until")

    def __init__(
        self,
        since: str = "",
        until: str = "",
        fields: Mapping[str, str | frozenset[str]] | None = None,
    ) -> None:
        self.since = since
        self.until = until
        self.fields = {
            name: frozenset((given,)) if isinstance(given, str) else given
            for name, given in (fields or {}).items()
        }

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return not (self.since or self.until or self.fields)

    def accepts(self, event: Mapping[str, Any]) -> bool:
        """Whether an event is wanted."""
        day = event["timestamp"][:10]
        if (self.since and day < self.since) or (self.until and day > self.until):
            return False
        return all(event.get(name) in values for name, values in self.fields.items())

    def lines(self, region: Region) -> list[bytes]:
        """The lines of a region that may be wanted, without their ends; not fewer."""
        lines = region.block.splitlines()
        if self.since or self.until:
            days = [row[1].decode() for row in region.rows]
            lines = [
                line
                for line, day in zip(lines, days, strict=True)
                if (not self.since or day >= self.since) and (not self.until or day <= self.until)
            ]
        for name, values in self.fields.items():
            # What the reader made of a canonical line stands in it letter by letter.
            wanted = [f'"{name}":{json.dumps(value)}'.encode() for value in values]
            lines = [line for line in lines if any(pair in line for pair in wanted)]
        return lines


def newest(home: ProjectPaths, count: int, chosen: Filter, problems: ReadReport) -> Iterator[Event]:
    """The last wanted events, newest first; nothing is read beyond the last of them.

    Args:
        home: whose journal.
        count: how many at most.
        chosen: which are wanted.
        problems: filled while reading, with what was wrong where it was read.
    """
    left = count
    for portion, _ in _backwards(home, chosen, problems):
        for item in reversed(portion[-min(left, sys.maxsize) :]):
            yield _event(item)
        left -= len(portion)
        if left <= 0:
            return


class Block:
    """Canonical lines with times cut to the day, as they are stored.

    Args:
        data: the bytes, each line with its end.
    """

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __len__(self) -> int:
        return self.data.count(b"\n")


class Meter:
    """How much of the journal was read: a packed file counts when it was read to its end."""

    __slots__ = ("done_bytes", "whole_bytes")

    def __init__(self) -> None:
        self.done_bytes = 0
        self.whole_bytes = 0

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return min(self.done_bytes / self.whole_bytes, 1.0) if self.whole_bytes else 0.0

    def watched(self, source: Source, report: FileReport) -> Iterator[bytes]:
        """The bytes in a file, counted."""
        before = self.done_bytes
        for chunk in source.chunks(report):
            if source.segment.kind != ARCHIVE:
                self.done_bytes += len(chunk)
            yield chunk
        self.done_bytes = before + source.segment.size_bytes


def lines(
    home: ProjectPaths, chosen: Filter, problems: ReadReport, meter: Meter
) -> Iterator[list[bytes | Event] | Block]:
    """Every wanted event in portions, oldest first: as its canonical line, or as it was read.

    Args:
        home: whose journal.
        chosen: which are wanted.
        problems: filled while reading.
        meter: told how far it has come.
    """
    with snapshot(home, problems) as sources:
        meter.whole_bytes = sum(source.segment.size_bytes for source in sources)
        for source in sources:
            kind, report = source.segment.kind, problems.of(source.segment.name)
            chunks = meter.watched(source, report)
            if chosen.everything:
                yield from _blocks(chunks, kind, report)
            else:
                yield from _portions(chunks, kind, chosen, report)


def _blocks(chunks: Iterator[bytes], kind: str, report: FileReport) -> Iterator[Portion | Block]:
    for region in regions(chunks, whole=True):
        if isinstance(region, Rest):
            yield list(read_rest(region, report, kind))
        elif region.rows:
            lines_read: Portion = []
            lines_read += region.block.splitlines()
            yield lines_read
        else:
            yield Block(region.block)


def _portions(
    chunks: Iterator[bytes], kind: str, chosen: Filter, report: FileReport
) -> Iterator[Portion]:
    for region in regions(chunks):
        if isinstance(region, Region):
            found: Portion = []
            found += region.block.splitlines() if chosen.everything else _exactly(chosen, region)
            yield found
        else:
            yield [event for event in read_rest(region, report, kind) if chosen.accepts(event)]


# -- from the end ----------------------------------------------------------------------------


def _backwards(
    home: ProjectPaths, chosen: Filter, problems: ReadReport
) -> Iterator[tuple[Portion, int]]:
    """Every wanted event in portions, the last one first, each with the bytes that were read."""
    with snapshot(home, problems) as sources:
        for source in reversed(sources):
            report = problems.of(source.segment.name)
            if source.segment.kind == ARCHIVE:
                yield from _unpacked_backwards(source, chosen, report)
                continue
            for block in source.backwards(report, _BLOCK_BYTES, MAX_READ_LINE_BYTES + 1):
                found = _portions(iter((block,)), source.segment.kind, chosen, report)
                yield [item for portion in found for item in portion], len(block)


def _unpacked_backwards(
    source: Source, chosen: Filter, report: FileReport
) -> Iterator[tuple[Portion, int]]:
    """An archive can only be read from its beginning: a large one is, several times."""
    upto: int | None = None
    while upto != 0:
        last: deque[bytes | Event] = deque(maxlen=_MAX_HELD)
        read: list[int] = []
        seen = 0
        chunks = _metered(source.chunks(report), read)
        for portion in _portions(chunks, ARCHIVE, chosen, report):
            left = len(portion) if upto is None else upto - seen
            last += portion[:left]
            seen += min(left, len(portion))
            if seen == upto:
                break
        yield list(last), sum(read)
        report, upto = FileReport(), seen - len(last)


def _metered(chunks: Iterator[bytes], read: list[int]) -> Iterator[bytes]:
    for chunk in chunks:
        read.append(len(chunk))
        yield chunk


def _exactly(chosen: Filter, region: Region) -> list[bytes]:
    kept = chosen.lines(region)
    if not chosen.fields:
        return kept
    # A context may hold the same pair of key and value.
    return [line for line in kept if b'"context":' not in line or chosen.accepts(_event(line))]


def _event(item: bytes | Event) -> Event:
    if not isinstance(item, bytes):
        return item
    event = parse(item)
    assert event is not None  # the pattern accepts nothing that the reader does not
    return event


# -- sessions --------------------------------------------------------------------------------


class _Open:
    """A session whose beginning may not have been read yet.

    Args:
        at: how many bytes were read when its last event was found.
        begun: whether nothing is known to be missing.
    """

    __slots__ = ("at", "begun", "items")

    def __init__(self, at: int, begun: bool) -> None:
        self.at = at
        self.begun = begun
        self.items: Portion = []

    def add(self, item: bytes | Event) -> None:
        """An event that came before those that are known."""
        self.items.append(item)
        if isinstance(item, bytes):
            self.begun |= _BEGIN in item[:_HEAD_BYTES]
        else:
            self.begun |= item["event_type"] == "role.selected"

    def is_whole(self, at: int) -> bool:
        """Whether so many bytes later no more of it is looked for."""
        return at - self.at > (_NEAR_BYTES if self.begun else _FAR_BYTES)

    def events(self) -> list[Event]:
        """Its events, oldest first."""
        return [_event(item) for item in reversed(self.items)]


def sessions(
    home: ProjectPaths, count: int, chosen: Filter, problems: ReadReport
) -> Iterator[tuple[str, list[Event]]]:
    """The last sessions, newest first, each with its events, oldest first.

    A session whose events lie very far apart comes in parts, so that memory is bounded.

    Args:
        home: whose journal.
        count: how many at most.
        chosen: which events are wanted.
        problems: filled while reading, with what was wrong where it was read.
    """
    found: dict[str, _Open] = {}
    at = taken = 0
    for portion, read in _backwards(home, chosen, problems):
        for item in reversed(portion):
            key = _session_of(item)
            if key not in found and taken < count:
                found[key] = _Open(at, begun=not key)
                taken += 1
            if key in found:
                found[key].add(item)
        at += read
        while found and found[first := next(iter(found))].is_whole(at):
            yield first, found.pop(first).events()
        if taken == count and not found:
            return
    for key, one in found.items():
        yield key, one.events()


def _session_of(item: bytes | Event) -> str:
    if not isinstance(item, bytes):
        return str(item.get("session_id", ""))
    # No value of a canonical line holds a quotation mark; a context may hold the same key.
    _, found, rest = item.partition(b',"context":')[0].partition(b'"session_id":"')
    return rest[: rest.index(b'"')].decode() if found else ""


# -- as they come ----------------------------------------------------------------------------


class Following:
    """The events that were not there at the last look.

    Args:
        home: whose journal.
        chosen: which are wanted.
    """

    def __init__(self, home: ProjectPaths, chosen: Filter) -> None:
        self._home = home
        self._chosen = chosen
        # How far each file was read, and the sum of its first bytes.
        self._seen: dict[tuple[int, int], tuple[int, int]] = {}
        for _ in self.news(begin=True):
            pass

    def news(self, begin: bool = False) -> Iterator[Event]:
        """The wanted events since the last time, oldest first.

        Args:
            begin: only take note of what there is.
        """
        now: dict[tuple[int, int], tuple[int, int]] = {}
        with snapshot(self._home, ReadReport()) as sources:
            for source in sources:
                segment = source.segment
                # A packed file holds only what was seen before it was packed.
                if segment.kind == ARCHIVE:
                    continue
                at = self._read_of(source)
                if begin or segment.size_bytes > at:
                    for region in regions(source.chunks(FileReport(), at)):
                        if isinstance(region, Region):
                            at += len(region.block)
                            if not begin:
                                yield from map(_event, _exactly(self._chosen, region))
                        elif not region.last:
                            at += region.ended_bytes
                            if not begin:
                                read = read_rest(region, FileReport(), segment.kind)
                                yield from filter(self._chosen.accepts, read)
                now[segment.identity] = at, _head_of(source, at)
        self._seen = now

    def _read_of(self, source: Source) -> int:
        """How far a file was read; 0 for another one that only has the number of its inode."""
        at, head = self._seen.get(source.segment.identity, (0, 0))
        if source.segment.size_bytes < at:
            return 0
        # What was forgotten in a file that a program holds open is written over with line ends.
        blank = zlib.crc32(b"\n" * min(at, _KNOWN_BYTES))
        return at if _head_of(source, at) in (head, blank, _GONE) else 0


# What `checksum()` says of a file that has another name by now.
_GONE = -1


def _head_of(source: Source, at: int) -> int:
    count = min(at, _KNOWN_BYTES)
    return source.checksum(count, count)
