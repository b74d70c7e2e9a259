"""Counters over events: one pass, bounded by the number of different names, and mergeable.

Where events come from, and how the counts are shown, is not known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

Key = tuple[str, ...]

# Each table, and how many names make a key of it.
TABLES = {
    "types": 1,  # event type
    "roles": 2,  # role, what: selected, changed, events
    "commands": 2,  # command, what: executed, completed, failed
    "agents": 2,  # agent, what: invoked, started, completed, failed
    "role_commands": 3,  # role, command, what
    "handoffs": 3,  # source agent, target agent, what: clicked, completed
    "outcomes": 1,  # outcome
    "totals": 1,  # events, dropped, malformed
}
UNKNOWN = "?"


class Tally:
    """Counts of events. Tallies of any parts of a log, merged, equal the tally of the whole."""

    __slots__ = ("tables",)

    def __init__(self) -> None:
        self.tables: dict[str, Counter[Key]] = {name: Counter() for name in TABLES}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tally) and self.tables == other.tables

    __hash__ = None  # type: ignore[assignment]

    def add(self, event: Mapping[str, Any]) -> None:
        """Count one event.

        Args:
            event: as the reader yields it; fields it lacks are not counted.
        """
        tables = self.tables
        kind, _, what = event["event_type"].partition(".")
        role, command, agent = event.get("role"), event.get("command"), event.get("agent")
        tables["totals"]["events",] += 1
        tables["totals"]["dropped",] += event.get("dropped", 0)
        tables["types"][event["event_type"],] += 1
        if role is not None:
            tables["roles"][role, "events"] += 1
            if kind == "role":
                tables["roles"][role, what] += 1
        if kind == "command" and command is not None:
            tables["commands"][command, what] += 1
            if role is not None:
                tables["role_commands"][role, command, what] += 1
        if kind == "agent" and agent is not None:
            tables["agents"][agent, what] += 1
        if kind == "handoff":
            source = event.get("source_agent", UNKNOWN)
            tables["handoffs"][source, event.get("target_agent", UNKNOWN), what] += 1
        if "outcome" in event:
            tables["outcomes"][event["outcome"],] += 1

    def count_malformed(self, lines: int) -> None:
        """Count lines that the reader could not read."""
        self.tables["totals"]["malformed",] += lines

    def merge(self, other: Tally) -> None:
        """Add the counts of another tally to this one."""
        for name, table in self.tables.items():
            table.update(other.tables[name])

    def total(self, what: str) -> int:
        """One of the totals: `events`, `dropped` or `malformed`."""
        return self.tables["totals"][what,]

    def rows(self, table: str) -> dict[Key, dict[str, int]]:
        """A table by name, each name with its counts by what happened, sorted by name."""
        found: dict[Key, dict[str, int]] = {}
        for key, count in sorted(self.tables[table].items()):
            found.setdefault(key[:-1], {})[key[-1]] = count
        return found

    def to_dict(self) -> dict[str, list[list[str | int]]]:
        """The counts as JSON can hold them, in an order that depends on nothing else."""
        return {
            name: [[*key, count] for key, count in sorted(table.items()) if count]
            for name, table in self.tables.items()
        }

    @classmethod
    def from_dict(cls, stored: object) -> Tally:
        """The tally that `to_dict` was called on.

        Args:
            stored: what it returned; tables that it lacks are empty, others are ignored.

        Raises:
            ValueError: a table or a row has another shape, or a count is no positive number.
        """
        if not isinstance(stored, dict):
            raise ValueError("a tally is a mapping of tables")
        tally = cls()
        for name, names in TABLES.items():
            rows = stored.get(name, [])
            if not isinstance(rows, list):
                raise ValueError(f"table {name!r} is a list of rows")
            for row in rows:
                key, count = _checked(name, names, row)
                tally.tables[name][key] += count
        return tally


def _checked(table: str, names: int, row: object) -> tuple[Key, int]:
    if isinstance(row, list) and len(row) == names + 1:
        *key, count = row
        if all(type(name) is str for name in key) and type(count) is int and count > 0:
            return tuple(key), count
    raise ValueError(f"a row of {table!r} is {names} names and a count above zero")
