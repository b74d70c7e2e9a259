"""Count the events of the log: all of them, or those that a query accepts.

`insights.cache` reuses earlier counts.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from operator import itemgetter

from telemetry_kit.insights.counters import Counters, Key, ended_work
from telemetry_kit.insights.query import Query
from telemetry_kit.insights.scanner import (
    Region,
    Row,
    parse_fields,
    read_rest,
    regions,
)
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.schema import catalog
from telemetry_kit.storage.segments import ARCHIVE, FileReport, ReadReport, Source, snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Items of a row: those that most counters need, and those of the others.
_COUNTED = itemgetter(0, 2, 4, 5, 7)
_DAY = itemgetter(1)
_SESSION = itemgetter(3)
_ENDED = itemgetter(0, 2)
_DURATION = itemgetter(6)
# More rows than this are added to the counters, so that memory is bounded.
MAX_PENDING = 50_000


class CountedLog:
    """The counts of a log.

    Args:
        counters: of the events that the query accepts.
        problems: of the files.
        roles: of all events, also of those that the query rejects.
        cache_lines: the count cache to save; None if the saved one is good enough.
        files: the name and the inode of each file that it is about.
    """

    __slots__ = ("cache_lines", "counters", "files", "problems", "roles")

    def __init__(
        self,
        counters: Counters,
        problems: ReadReport,
        roles: set[str],
        cache_lines: list[bytes] | None = None,
        files: Iterable[tuple[str, tuple[int, int]]] = (),
    ) -> None:
        self.counters = counters
        self.problems = problems
        self.roles = roles
        self.cache_lines = cache_lines
        self.files = files


class Counting:
    """Count rows and events, the same rows at once.

    Args:
        query: which events count. The table of days has all days, so that a period can be
            compared with the one before it.

    Attributes:
        sessions: the ids of the sessions. A role that is selected outside of one is counted in
            the counters as a session of its own.
    """

    def __init__(self, query: Query) -> None:
        self.counters = Counters()
        self.roles: set[str] = set()
        self.sessions: set[bytes] = set()
        self._query = query
        self._names: set[bytes] = set()
        self._rows: Counter[Row] = Counter()
        self._days: defaultdict[bytes, Counter[bytes]] = defaultdict(Counter)
        self._durations = _Durations(self)
        self._pending = (self._names, self._days, self._rows, self._durations)
        self._parsed: dict[bytes, dict[str, Any]] = {}

    def add_rows(self, rows: list[Row]) -> None:
        """Count canonical lines."""
        query = self._query
        if not query.everything:
            self._names.update([row[2] for row in rows])
        if query.fields:
            rows = [row for row in rows if query.has_fields(self.parse((row[2], row[5], row[7])))]
        for day in set(map(_DAY, rows)):
            self._days[day].update([row[0] for row in rows if row[1] == day])
        if query.since or query.until:
            rows = [row for row in rows if query.has_day(row[1].decode())]
        sessions = set(map(_SESSION, rows))
        if b"" in sessions:
            sessions.remove(b"")
            alone = sum(row[0] == b"role.selected" and not row[3] for row in rows)
            self.counters.count_sessions(alone)
        self.sessions |= sessions
        # There are far fewer different rows without the day, the session and the duration.
        self._rows.update(map(_COUNTED, rows))
        durations = self._durations
        ended = [row for row in rows if row[6]]
        for key, milliseconds in zip(map(_ENDED, ended), map(_DURATION, ended), strict=True):
            durations[key][milliseconds] += 1
        if sum(map(len, self._pending)) > MAX_PENDING:
            self.settle()

    def add_event(self, event: Mapping[str, Any]) -> None:
        """Count an event that the reader parsed."""
        if "role" in event:
            self.roles.add(event["role"])
        if not self._query.has_fields(event):
            return
        day = event["timestamp"][:10]
        if self._query.has_day(day):
            self.counters.add(event)
            if "session_id" in event:
                self.sessions.add(event["session_id"].encode())
            elif event["event_type"] == "role.selected":
                self.counters.count_sessions(1)
        else:
            self.counters.count_day(day, event["event_type"], 1)

    def settle(self) -> Counters:
        """Add all rows to the counters, and return these."""
        for day, types in self._days.items():
            for name, times in types.items():
                self.counters.count_day(day.decode(), name.decode(), times)
        for row, times in self._rows.items():
            event = {"event_type": row[0].decode(), **self.parse(row[1:])}
            self.counters.count(event, times)
        for work, counts in self._durations.of_works.items():
            for milliseconds, times in counts.items():
                self.counters.count_duration(work, milliseconds.decode(), times)
        self._durations.of_works.clear()
        events = (self.parse((item,)) for item in self._names)
        self.roles.update(event["role"] for event in events if "role" in event)
        for pending in self._pending:
            pending.clear()
        return self.counters

    def parse(self, items: Row) -> dict[str, Any]:
        """Parse the fields of a row. There are far fewer different items than rows."""
        found: dict[str, Any] = {}
        for item in filter(None, items):
            fields = self._parsed.get(item)
            if fields is None:
                if len(self._parsed) > MAX_PENDING:
                    self._parsed.clear()
                fields = self._parsed[item] = parse_fields(item)
            found.update(fields)
        return found


class _Durations(dict[tuple[bytes, bytes], defaultdict[bytes, int]]):
    """How often each duration occurs, by the type and the names of the event.

    All that end the same command, agent or workflow share one count: far fewer than the names.

    Args:
        counting: parses the names.

    Attributes:
        of_works: the counts by what ended.
    """

    def __init__(self, counting: Counting) -> None:
        self.of_works: dict[Key, defaultdict[bytes, int]] = {}
        self._counting = counting

    def __missing__(self, key: tuple[bytes, bytes]) -> defaultdict[bytes, int]:
        """Return the counts of what ended in an event."""
        name, names = key
        work = ended_work({"event_type": name.decode(), **self._counting.parse((names,))})
        found = self[key] = self.of_works.setdefault(work, defaultdict(int))
        return found


class FileCounts:
    """The counts of one file.

    Args:
        counted_bytes: how many bytes of the file are in the counters.
    """

    __slots__ = (
        "counted_bytes",
        "counters",
        "report",
        "roles",
        "sessions",
        "unended",
        "unended_report",
        "unended_sessions",
    )

    def __init__(self, counted_bytes: int) -> None:
        self.counted_bytes = counted_bytes
        self.counters = Counters()
        self.report = FileReport()
        self.sessions: set[bytes] = set()
        # Of a last line without an end, which may still be written.
        self.unended = Counters()
        self.unended_report = FileReport()
        self.unended_sessions: set[bytes] = set()
        self.roles: set[str] = set()


def count_file(source: Source, query: Query, begin: int = 0) -> FileCounts:
    """Count the events of one file.

    Args:
        source: the file, which is closed afterwards.
        query: which events count.
        begin: how many bytes of a plain file to skip.
    """
    found = FileCounts(begin)
    counting, unended = Counting(query), Counting(query)
    kind = source.segment.kind
    for region in regions(source.chunks(found.report, begin)):
        found.counted_bytes += region.ended_bytes
        if isinstance(region, Region):
            counting.add_rows(region.rows)
            continue
        is_ended = kind == ARCHIVE or region.ended_bytes
        to, report = (counting, found.report) if is_ended else (unended, found.unended_report)
        for event in read_rest(region, report, kind):
            to.add_event(event)
    found.counters, found.unended = counting.settle(), unended.settle()
    found.sessions, found.unended_sessions = counting.sessions, unended.sessions
    found.roles = counting.roles | unended.roles
    return found


def count(paths: ProjectPaths, query: Query) -> CountedLog:
    """Count the events of the log without the count cache.

    Args:
        paths: the project.
        query: which events count.
    """
    counters, problems = Counters(), ReadReport()
    roles: set[str] = set()
    sessions: set[bytes] = set()
    with snapshot(paths, problems, each_once=True) as sources:
        for source in sources:
            report = problems.of(source.segment.name)
            found = count_file(source, query)
            sessions |= found.sessions | found.unended_sessions
            counters.merge(found.counters)
            counters.merge(found.unended)
            report.add(found.report)
            report.add(found.unended_report)
            roles |= found.roles
    counters.count_malformed(problems.malformed)
    counters.count_sessions(len(sessions))
    return CountedLog(counters, problems, roles | counters.roles())


def names(paths: ProjectPaths) -> dict[str, set[str]]:
    """Return the names in the events, by field.

    Args:
        paths: the project.
    """
    found: dict[str, set[str]] = {name: set() for name in catalog.NAMES}

    def add(events: Iterable[Mapping[str, Any]]) -> None:
        for event in events:
            for field in found.keys() & event.keys():
                found[field].add(event[field])

    items: set[bytes] = set()
    problems = ReadReport()
    with snapshot(paths, problems, each_once=True) as sources:
        for source in sources:
            report = problems.of(source.segment.name)
            for region in regions(source.chunks(report)):
                if isinstance(region, Region):
                    # All names are in the first item.
                    items.update([row[2] for row in region.rows])
                    if len(items) > MAX_PENDING:
                        add(map(parse_fields, filter(None, items)))
                        items.clear()
                else:
                    add(read_rest(region, report, source.segment.kind))
    add(map(parse_fields, filter(None, items)))
    return found
