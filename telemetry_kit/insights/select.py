"""Choosing events: by period and by field, the newest first, or as they come.

How they are shown is not known here.
"""

from __future__ import annotations

import json
import sys
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from telemetry_kit.home import Home
from telemetry_kit.insights.scan import Region, Rest, read_rest, regions
from telemetry_kit.journal.lines import Event, parse
from telemetry_kit.journal.segments import ARCHIVE, Problems, Report, Source, snapshot

# How many files more are read for the beginning of a session.
_FILES_MORE = 2
MAX_SESSION_EVENTS = 10_000


@dataclass(frozen=True, slots=True)
class Filter:
    """Which events are wanted.

    Args:
        since: first day, as `YYYY-MM-DD`; empty for all.
        until: last day; empty for all.
        fields: fields with the value they must have.
    """

    since: str = ""
    until: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return not (self.since or self.until or self.fields)

    def accepts(self, event: Mapping[str, Any]) -> bool:
        """Whether an event is wanted."""
        day = event["timestamp"][:10]
        if (self.since and day < self.since) or (self.until and day > self.until):
            return False
        return all(event.get(name) == value for name, value in self.fields.items())

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
        for name, value in self.fields.items():
            # What the reader made of a canonical line stands in it letter by letter.
            wanted = f'"{name}":{json.dumps(value)}'.encode()
            lines = [line for line in lines if wanted in line]
        return lines


def newest(home: Home, count: int, chosen: Filter, problems: Problems) -> list[Event]:
    """The last wanted events, newest first; no file is read that they are not in.

    Args:
        home: whose journal.
        count: how many at most.
        chosen: which are wanted.
        problems: filled with what was wrong in the files that were read.
    """
    found: list[Event] = []
    with snapshot(home, problems) as sources:
        for source in reversed(sources):
            left = min(count - len(found), sys.maxsize)
            if left <= 0:
                break
            last: deque[bytes | Event] = deque(maxlen=left)
            for item in _candidates(source, chosen, problems.of(source.segment.name)):
                last.append(item)
            found += [_event(item) for item in reversed(last)]
    return found


def each(home: Home, chosen: Filter, problems: Problems) -> Iterator[Event]:
    """Every wanted event, oldest first.

    Args:
        home: whose journal.
        chosen: which are wanted.
        problems: filled while reading.
    """
    with snapshot(home, problems) as sources:
        for source in sources:
            for item in _candidates(source, chosen, problems.of(source.segment.name)):
                yield _event(item)


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


def lines(home: Home, chosen: Filter, problems: Problems) -> Iterator[list[bytes | Event] | Block]:
    """Every wanted event in portions, oldest first: as its canonical line, or as it was read.

    Args:
        home: whose journal.
        chosen: which are wanted.
        problems: filled while reading.
    """
    with snapshot(home, problems) as sources:
        for source in sources:
            report = problems.of(source.segment.name)
            if chosen.everything:
                yield from _blocks(source, report)
            else:
                yield from _portions(source, chosen, report)


def _blocks(source: Source, report: Report) -> Iterator[list[bytes | Event] | Block]:
    for region in regions(source.chunks(report), whole=True):
        if isinstance(region, Rest):
            yield list(read_rest(region, report, source.segment.kind))
        elif region.rows:
            lines_read: list[bytes | Event] = []
            lines_read += region.block.splitlines()
            yield lines_read
        else:
            yield Block(region.block)


def _candidates(source: Source, chosen: Filter, report: Report) -> Iterator[bytes | Event]:
    for portion in _portions(source, chosen, report):
        yield from portion


def _portions(source: Source, chosen: Filter, report: Report) -> Iterator[list[bytes | Event]]:
    for region in regions(source.chunks(report)):
        if isinstance(region, Region):
            found: list[bytes | Event] = []
            found += region.block.splitlines() if chosen.everything else _exactly(chosen, region)
            yield found
        else:
            read = read_rest(region, report, source.segment.kind)
            yield [event for event in read if chosen.accepts(event)]


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


def sessions(
    home: Home, count: int, chosen: Filter, problems: Problems
) -> list[tuple[str, list[Event]]]:
    """The last sessions, newest first, each with its events, oldest first.

    Args:
        home: whose journal.
        count: how many at most.
        chosen: which events are wanted.
        problems: filled with what was wrong in the files that were read.
    """
    found: dict[str, list[Event]] = {}
    more = _FILES_MORE
    with snapshot(home, problems) as sources:
        for source in reversed(sources):
            if len(found) >= count:
                if all(map(_has_begun, found.values())) or not more:
                    break
                more -= 1
            _join(found, _by_session(source, chosen, problems, count), count)
    return list(found.items())


def _by_session(
    source: Source, chosen: Filter, problems: Problems, count: int
) -> dict[str, list[Event]]:
    """The last sessions of one file, the one that ended last first."""
    here: dict[str, list[Event]] = {}
    for item in _candidates(source, chosen, problems.of(source.segment.name)):
        event = _event(item)
        key = event.get("session_id", "")
        events = here.pop(key, [])
        here[key] = events
        if len(events) < MAX_SESSION_EVENTS:
            events.append(event)
        # Of a file only as many are kept as can be shown, and those that earlier files go on with.
        if len(here) > 4 * count + 1_000:
            del here[next(iter(here))]
    return dict(reversed(here.items()))


def _join(found: dict[str, list[Event]], earlier: dict[str, list[Event]], count: int) -> None:
    for key, events in earlier.items():
        if key in found:
            found[key][:0] = events
        elif len(found) < count:
            found[key] = events


def _has_begun(events: list[Event]) -> bool:
    return events[0]["event_type"] == "role.selected" or not events[0].get("session_id")


# -- as they come ----------------------------------------------------------------------------


class Following:
    """The events that were not there at the last look.

    Args:
        home: whose journal.
        chosen: which are wanted.
    """

    def __init__(self, home: Home, chosen: Filter) -> None:
        self._home = home
        self._chosen = chosen
        self._seen: dict[tuple[int, int], int] = {}
        for _ in self.news(begin=True):
            pass

    def news(self, begin: bool = False) -> Iterator[Event]:
        """The wanted events since the last time, oldest first.

        Args:
            begin: only take note of what there is.
        """
        now: dict[tuple[int, int], int] = {}
        with snapshot(self._home, Problems()) as sources:
            for source in sources:
                segment = source.segment
                # A packed file holds only what was seen before it was packed.
                if segment.kind == ARCHIVE:
                    continue
                at = self._seen.get(segment.identity, 0)
                if begin or segment.size_bytes > at:
                    for region in regions(source.chunks(Report(), at)):
                        if isinstance(region, Region):
                            at += len(region.block)
                            if not begin:
                                yield from map(_event, _exactly(self._chosen, region))
                        elif not region.last:
                            at += region.ended_bytes
                            if not begin:
                                read = read_rest(region, Report(), segment.kind)
                                yield from filter(self._chosen.accepts, read)
                now[segment.identity] = at
        self._seen = now
