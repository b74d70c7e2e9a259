"""Counters over events: one pass, bounded by the number of different names, and mergeable.

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

# Each table, and how many names make a key of it.
TABLES = {
    "types": 1,  # event type
    "days": 2,  # day, event type
    "roles": 2,  # role, what: selected, changed, events
    "changes": 2,  # previous role, role
    "commands": 2,  # command, what: executed, completed, failed
    "agents": 2,  # agent, what: invoked, started, completed, failed
    "workflows": 2,  # workflow, what: started, completed, failed
    "role_commands": 3,  # role, command, what
    "role_agents": 3,  # role, agent, what
    "handoffs": 3,  # source agent, target agent, what: clicked, completed
    "outcomes": 1,  # outcome
    "errors": 3,  # command, agent or workflow; its name; error type
    "durations": 3,  # command, agent or workflow; its name; milliseconds rounded up
    "totals": 1,  # events, dropped, malformed
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
    "outcome",
    "error_type",
    "duration_ms",
    "dropped",
)
UNKNOWN = "?"
_WORK = {"command": "commands", "agent": "agents", "workflow": "workflows"}
_ENDED = ("completed", "failed")


class Counters:
    """Counts of events. Those of any parts of a log, merged, equal the counters of the whole."""

    __slots__ = ("tables",)

    def __init__(self) -> None:
        self.tables: dict[str, Counter[Key]] = {name: Counter() for name in TABLES}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Counters) and self.tables == other.tables

    __hash__ = None  # type: ignore[assignment]

    def add(self, event: Mapping[str, Any]) -> None:
        """Count one event.

        Args:
            event: as the reader yields it; fields it lacks are not counted.
        """
        if "timestamp" in event:
            self.count_day(event["timestamp"][:10], event["event_type"], 1)
        self.count(event)

    def count_day(self, day: str, event_type: str, times: int) -> None:
        """Count events of one type on one day, in the table of days alone."""
        self.tables["days"][day, event_type] += times

    def count(self, event: Mapping[str, Any], times: int = 1) -> None:
        """Count one event in all tables but that of days.

        Args:
            event: at least its `event_type`.
            times: how many events there are that say the same.
        """
        tables = self.tables
        kind, _, what = event["event_type"].partition(".")
        role = event.get("role")
        tables["totals"]["events",] += times
        if "dropped" in event:
            tables["totals"]["dropped",] += event["dropped"] * times
        tables["types"][event["event_type"],] += times
        if role is not None:
            tables["roles"][role, "events"] += times
            if kind == "role":
                tables["roles"][role, what] += times
                if "previous_role" in event:
                    tables["changes"][event["previous_role"], role] += times
        if kind in _WORK and event.get(kind) is not None:
            self._count_work(kind, what, event, times)
        if kind == "handoff":
            source = event.get("source_agent", UNKNOWN)
            tables["handoffs"][source, event.get("target_agent", UNKNOWN), what] += times
        if "outcome" in event:
            tables["outcomes"][event["outcome"],] += times

    def _count_work(self, kind: str, what: str, event: Mapping[str, Any], times: int) -> None:
        tables, name, role = self.tables, event[kind], event.get("role")
        tables[_WORK[kind]][name, what] += times
        if role is not None and kind != "workflow":
            tables["role_" + _WORK[kind]][role, name, what] += times
        if what in _ENDED and "duration_ms" in event:
            tables["durations"][kind, name, str(event["duration_ms"])] += times
        if what == "failed" and "error_type" in event:
            tables["errors"][kind, name, event["error_type"]] += times

    def count_malformed(self, lines: int) -> None:
        """Count lines that the reader could not read."""
        self.tables["totals"]["malformed",] += lines

    def merge(self, other: Counters) -> None:
        """Add the counts of other counters to this one."""
        for name, table in self.tables.items():
            table.update(other.tables[name])

    def take_away(self, other: Counters) -> None:
        """Undo the merging of other counters."""
        for name, table in self.tables.items():
            for key, count in other.tables[name].items():
                table[key] -= count
                if not table[key]:
                    del table[key]

    def total(self, what: str) -> int:
        """One of the totals: `events`, `dropped` or `malformed`."""
        return self.tables["totals"][what,]

    def rows(self, table: str) -> dict[Key, dict[str, int]]:
        """A table by name, each name with its counts by what happened, sorted by name."""
        found: dict[Key, dict[str, int]] = {}
        for key, count in sorted(self.tables[table].items()):
            found.setdefault(key[:-1], {})[key[-1]] = count
        return found

    def roles(self) -> set[str]:
        """Every role in the counted events."""
        return {role for role, _ in self.tables["roles"]}

    def to_dict(self) -> dict[str, list[list[str | int]]]:
        """The counts as JSON can hold them, in an order that depends on nothing else."""
        return {
            name: [[*key, count] for key, count in sorted(table.items()) if count]
            for name, table in self.tables.items()
        }

    def dumped(self) -> bytes:
        """The counts as one line of JSON, without its end."""
        return json.dumps(self.to_dict(), separators=(",", ":")).encode("ascii")

    @classmethod
    def from_dict(cls, stored: object) -> Counters:
        """The counters that `to_dict` was called on.

        Args:
            stored: what it returned; tables that it lacks are empty, others are ignored.

        Raises:
            ValueError: a table or a row has another shape, or a count is no positive number.
        """
        if not isinstance(stored, dict):
            raise ValueError("counters are a mapping of tables")
        counters = cls()
        for name, names in TABLES.items():
            rows = stored.get(name, [])
            if not isinstance(rows, list):
                raise ValueError(f"table {name!r} is a list of rows")
            for row in rows:
                key, count = _checked(name, names, row)
                counters.tables[name][key] += count
        return counters


def _checked(table: str, names: int, row: object) -> tuple[Key, int]:
    if isinstance(row, list) and len(row) == names + 1:
        *key, count = row
        if set(map(type, key)) == {str} and type(count) is int and count > 0:
            return tuple(key), count
    raise ValueError(f"a row of {table!r} is {names} names and a count above zero")
