"""Count the log: all of it, or the events of a period and a role.

`insights.cache` keeps earlier counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from telemetry_kit.insights.counters import Counters
from telemetry_kit.insights.scanner import Region, Row, parse_fields, read_rest, regions
from telemetry_kit.paths import Home
from telemetry_kit.schema import catalog
from telemetry_kit.storage.segments import ARCHIVE, Problems, Report, Source, snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Rows that are not yet in the counters; beyond it they are counted there, so that memory is bounded.
MAX_PENDING = 50_000


class Wanted:
    """Which events count.

    Args:
        since: first day, as `YYYY-MM-DD`; empty for all.
        until: last day; empty for all.
        role: events of this role only; empty for all.
        codes: pseudonyms of it.
    """

    __slots__ = ("role", "roles", "since", "until")

    def __init__(
        self, since: str = "", until: str = "", role: str = "", codes: Iterable[str] = ()
    ) -> None:
        self.since = since
        self.until = until
        self.role = role
        self.roles = frozenset({role, *codes}) if role else frozenset()

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return not (self.since or self.until or self.role)

    def has_day(self, day: str) -> bool:
        """Whether a day is in the period."""
        return (not self.since or day >= self.since) and (not self.until or day <= self.until)


class Counting:
    """Counters being made.

    Args:
        wanted: which events count. The table of days has all days, so that a period can be
            compared with the one before it.
        roles: filled with every role there is, in events that count and in those that do not.
    """

    def __init__(self, wanted: Wanted, roles: set[str] | None = None) -> None:
        self.counters = Counters()
        self._roles = roles
        self._names: set[bytes] = set()
        self._wanted = wanted
        self._all_days = not (wanted.since or wanted.until)
        self._rows: Counter[tuple[bytes, ...]] = Counter()
        self._days: Counter[tuple[bytes, bytes]] = Counter()
        self._parsed: dict[bytes, dict[str, Any]] = {}

    def rows(self, rows: list[Row]) -> None:
        """Count canonical lines."""
        wanted = self._wanted
        if self._roles is not None:
            self._names.update([row[2] for row in rows])
        if wanted.role:
            rows = [row for row in rows if self._fields_of(row[2:]).get("role") in wanted.roles]
        self._days.update([(row[0], row[1]) for row in rows])
        if not self._all_days:
            rows = [row for row in rows if wanted.has_day(row[1].decode())]
        # Without the day there are far fewer different ones.
        self._rows.update([(row[0], *row[2:]) for row in rows])
        if len(self._rows) + len(self._days) + len(self._names) > MAX_PENDING:
            self.settle()

    def event(self, event: Mapping[str, Any]) -> None:
        """Count an event that the reader made out."""
        if self._roles is not None and "role" in event:
            self._roles.add(event["role"])
        if self._wanted.role and event.get("role") not in self._wanted.roles:
            return
        day = event["timestamp"][:10]
        if self._wanted.has_day(day):
            self.counters.add(event)
        else:
            self.counters.count_day(day, event["event_type"], 1)

    def settle(self) -> Counters:
        """Bring everything into the counters, which is complete then."""
        for (name, day), times in self._days.items():
            self.counters.count_day(day.decode(), name.decode(), times)
        for row, times in self._rows.items():
            event = {"event_type": row[0].decode(), **self._fields_of(row[1:])}
            self.counters.count(event, times)
        if self._roles is not None:
            found = (self._fields_of((run,)).get("role") for run in self._names)
            self._roles.update(role for role in found if role is not None)
        self._names.clear()
        self._days.clear()
        self._rows.clear()
        return self.counters

    def _fields_of(self, runs: tuple[bytes, ...]) -> dict[str, Any]:
        # Runs are far fewer than rows: names, how it ended, how long it took.
        found: dict[str, Any] = {}
        for run in runs:
            if run:
                found.update(self._parsed.get(run) or self._parse(run))
        return found

    def _parse(self, run: bytes) -> dict[str, Any]:
        if len(self._parsed) > MAX_PENDING:
            self._parsed.clear()
        found = self._parsed[run] = parse_fields(run)
        return found


class Counted:
    """What was counted of one file.

    Args:
        at: how many of its bytes are in the counters.
    """

    __slots__ = ("at", "loose", "report", "roles", "counters", "unended")

    def __init__(self, at: int) -> None:
        self.at = at
        self.counters = Counters()
        self.report = Report()
        # Of a plain file: the event whose line has no end yet, and what is wrong with that line.
        self.loose = Counters()
        self.unended = Report()
        # Where not everything counts: each role there is, also in events that do not count.
        self.roles: set[str] = set()


def count_file(source: Source, wanted: Wanted, begin: int = 0) -> Counted:
    """Count the events of one file.

    Args:
        source: the file; it is closed.
        wanted: which events count.
        begin: how many bytes of a plain file are left out.
    """
    found = Counted(begin)
    names = None if wanted.everything else found.roles
    counting, loose = Counting(wanted, names), Counting(wanted, names)
    kind = source.segment.kind
    for region in regions(source.chunks(found.report, begin)):
        if isinstance(region, Region):
            counting.rows(region.rows)
            found.at += len(region.block)
            continue
        ended = kind == ARCHIVE or not region.last
        to, report = (counting, found.report) if ended else (loose, found.unended)
        for event in read_rest(region, report, kind):
            to.event(event)
        found.at += region.ended_bytes
    found.counters, found.loose = counting.settle(), loose.settle()
    return found


def count(
    home: Home, wanted: Wanted, problems: Problems, roles: set[str] | None = None
) -> Counters:
    """The counters of the journal, from scratch.

    Args:
        home: whose journal.
        wanted: which events count.
        problems: filled while reading.
        roles: filled with every role there is, in events that count and in those that do not.
    """
    counters = Counters()
    with snapshot(home, problems) as sources:
        for source in sources:
            report = problems.of(source.segment.name)
            found = count_file(source, wanted)
            counters.merge(found.counters)
            counters.merge(found.loose)
            report.add(found.report)
            report.add(found.unended)
            if roles is not None:
                roles |= found.roles
    if roles is not None and wanted.everything:
        roles |= counters.roles()
    counters.count_malformed(problems.malformed)
    return counters


def names(home: Home) -> dict[str, set[str]]:
    """Every name that stands in an event, by field.

    Args:
        home: whose journal.
    """
    found: dict[str, set[str]] = {name: set() for name in catalog.NAMES}
    runs: set[bytes] = set()
    problems = Problems()
    with snapshot(home, problems) as sources:
        for source in sources:
            report = problems.of(source.segment.name)
            for region in regions(source.chunks(report)):
                if isinstance(region, Region):
                    # All fields that are names stand side by side.
                    runs.update([row[2] for row in region.rows])
                    if len(runs) > MAX_PENDING:
                        _add_names(found, map(parse_fields, filter(None, runs)))
                        runs.clear()
                else:
                    _add_names(found, read_rest(region, report, source.segment.kind))
    _add_names(found, map(parse_fields, filter(None, runs)))
    return found


def _add_names(found: dict[str, set[str]], events: Iterable[Mapping[str, Any]]) -> None:
    for event in events:
        for field, known in found.items():
            if field in event:
                known.add(event[field])
