"""Counters of events: made in one pass, bounded by the number of different names, and mergeable.

The caller supplies the events and shows the counts.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Key = tuple[str, ...]

# The tables, each with the number of names in a key.
TABLES = {
    "types": 1,  # event type
    "days": 2,  # day, event type
    "roles": 2,  # role, step: selected, changed, events
    "changes": 2,  # previous role, role
    "commands": 2,  # command, step: executed, completed, failed
    "agents": 2,  # agent, step: invoked, started, completed, failed
    "workflows": 2,  # workflow, step: started, completed, failed
    "role_commands": 3,  # role, command, step
    "role_agents": 3,  # role, agent, step
    "handoffs": 3,  # source agent, target agent, step: clicked, completed
    "outcomes": 1,  # outcome
    "errors": 3,  # command, agent or workflow; its name; error type
    "spans": 3,  # command, agent or workflow; its name; started, ended
    "durations": 3,  # command, agent or workflow; its name; milliseconds rounded up
    "invokers": 2,  # invoker, step: events, completed, failed (these two of commands only)
    "versions": 2,  # version of the program, step: events, completed, failed (likewise)
    "totals": 1,  # events, dropped, malformed, sessions
}
# The fields that these tables are made from, besides `event_type` and `timestamp`.
READ = (
    "role",
    "command",
    "agent",
    "workflow",
    "source_agent",
    "target_agent",
    "previous_role",
    "session_id",
    "span_id",
    "outcome",
    "error_type",
    "duration_ms",
    "invoker",
    "app_version",
    "dropped",
)
UNKNOWN = "?"
_WORK = {"command": "commands", "agent": "agents", "workflow": "workflows"}
_ENDS = ("completed", "failed")
_GROUPS = (("invoker", "invokers"), ("app_version", "versions"))


def ended_work(event: Mapping[str, Any]) -> Key:
    """Return whether a command, agent or workflow ended, and its name; nothing for other events."""
    kind, _, step = event["event_type"].partition(".")
    return (kind, event[kind]) if kind in _WORK and kind in event and step in _ENDS else ()


class Counters:
    """Counts of events. The counters of the parts of a log, merged, equal those of the log."""

    __slots__ = ("tables",)

    def __init__(self) -> None:
        self.tables: dict[str, Counter[Key]] = {name: Counter() for name in TABLES}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Counters) and self.tables == other.tables

    __hash__ = None  # type: ignore[assignment]

    def add(self, event: Mapping[str, Any]) -> None:
        """Count one event.

        Args:
            event: as the reader yields it; missing fields are not counted.
        """
        if "timestamp" in event:
            self.count_day(event["timestamp"][:10], event["event_type"], 1)
        self.count(event)

    def count_day(self, day: str, event_type: str, times: int) -> None:
        """Count events of one type on one day, only in the table of days."""
        self.tables["days"][day, event_type] += times

    def count(self, event: Mapping[str, Any], times: int = 1) -> None:
        """Count one event in all tables except that of days.

        Args:
            event: at least its `event_type`.
            times: how many events have the same fields.
        """
        tables = self.tables
        kind, _, step = event["event_type"].partition(".")
        role = event.get("role")
        tables["totals"]["events",] += times
        if "dropped" in event:
            tables["totals"]["dropped",] += event["dropped"] * times
        tables["types"][event["event_type"],] += times
        if role is not None:
            tables["roles"][role, "events"] += times
            if kind == "role":
                tables["roles"][role, step] += times
                if "previous_role" in event:
                    tables["changes"][event["previous_role"], role] += times
        for field, table in _GROUPS:
            if field in event:
                tables[table][event[field], "events"] += times
                if kind == "command" and step in _ENDS:
                    tables[table][event[field], step] += times
        name = event.get(kind) if kind in _WORK else None
        if name is not None:
            tables[_WORK[kind]][name, step] += times
            if role is not None and kind != "workflow":
                tables["role_" + _WORK[kind]][role, name, step] += times
            if "duration_ms" in event:
                self.count_duration(ended_work(event), str(event["duration_ms"]), times)
            if "span_id" in event:
                # Without a span, an end could belong to any start.
                tables["spans"][kind, name, "ended" if step in _ENDS else "started"] += times
            if step == "failed" and "error_type" in event:
                tables["errors"][kind, name, event["error_type"]] += times
        if kind == "handoff":
            source = event.get("source_agent", UNKNOWN)
            tables["handoffs"][source, event.get("target_agent", UNKNOWN), step] += times
        if "outcome" in event:
            tables["outcomes"][event["outcome"],] += times

    def count_duration(self, work: Key, milliseconds: str, times: int) -> None:
        """Count a duration, only in the table of durations.

        Args:
            work: what took so long, as `ended_work()` returns it. Without that nothing is counted.
            milliseconds: its duration.
            times: how many events there are.
        """
        if work:
            self.tables["durations"][*work, milliseconds] += times

    def count_malformed(self, lines: int) -> None:
        """Count malformed lines."""
        self.tables["totals"]["malformed",] += lines

    def count_sessions(self, sessions: int) -> None:
        """Count sessions, which the caller distinguishes by their ids."""
        self.tables["totals"]["sessions",] += sessions

    def merge(self, other: Counters) -> None:
        """Add the counts of other counters."""
        for name, table in self.tables.items():
            table.update(other.tables[name])

    def take_away(self, other: Counters) -> None:
        """Subtract the counts of counters that were merged."""
        for name, table in self.tables.items():
            for key, count in other.tables[name].items():
                table[key] -= count
                if not table[key]:
                    del table[key]

    def total(self, name: str) -> int:
        """Return one of the totals: `events`, `dropped`, `malformed` or `sessions`."""
        return self.tables["totals"][name,]

    def rows(self, table: str) -> dict[Key, dict[str, int]]:
        """Return a table as the counts of each step, by name and sorted by name."""
        found: dict[Key, dict[str, int]] = {}
        for key, count in sorted(self.tables[table].items()):
            if count:
                found.setdefault(key[:-1], {})[key[-1]] = count
        return found

    def roles(self) -> set[str]:
        """Return the roles of the counted events."""
        return {role for role, _ in self.tables["roles"]}

    def to_dict(self) -> dict[str, list[list[str | dict[str, int]]]]:
        """Return the counts as JSON can represent them, sorted by name.

        Each row has the names of some keys, and then the counts by their last name: a command
        has hundreds of different durations.
        """
        return {
            name: [[*key, counts] for key, counts in self.rows(name).items()]
            for name in self.tables
        }

    def dumped(self) -> bytes:
        """Return the counts as one line of JSON, without its end."""
        return json.dumps(self.to_dict(), separators=(",", ":")).encode("ascii")

    @classmethod
    def from_dict(cls, stored: object) -> Counters:
        """Return the counters from the result of `to_dict`.

        Args:
            stored: that result. Missing tables are empty, and unknown ones are ignored.

        Raises:
            ValueError: a table is not a list, a row has a wrong length or type, or a count is not
                positive.
        """
        if not isinstance(stored, dict):
            raise ValueError("counters are a mapping of tables")
        counters = cls()
        for name, length in TABLES.items():
            rows = stored.get(name, [])
            if not isinstance(rows, list):
                raise ValueError(f"table {name!r} is a list of rows")
            for row in rows:
                *given, counts = row if isinstance(row, list) and row else [None]
                names = [name for name in given if type(name) is str]
                if len(given) != length - 1 or names != given:
                    raise ValueError(f"a row of {name!r} begins with {length - 1} names")
                if not isinstance(counts, dict) or {*map(type, counts)} - {str}:
                    raise ValueError(f"a row of {name!r} ends with counts by name")
                if {*map(type, counts.values())} - {int} or min(counts.values(), default=1) <= 0:
                    raise ValueError(f"a row of {name!r} ends with counts above zero")
                # At once: a command has hundreds of durations.
                dict.update(counters.tables[name], {(*names, k): n for k, n in counts.items()})
        return counters
