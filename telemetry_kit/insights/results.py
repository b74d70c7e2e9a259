"""The metrics of the events as typed objects, for a Python program.

Each has the keys of `telemetry-kit stats --json` as its attributes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from telemetry_kit.insights.counters import Counters
from telemetry_kit.insights.metrics import Metrics, metrics

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

# Keys that cannot be attributes.
_ALIASES = {"from": "from_"}


@dataclass(frozen=True, slots=True)
class EventCount:
    """How many events there are of one type."""

    event: str
    count: int


@dataclass(frozen=True, slots=True)
class RoleUse:
    """How often a role was selected, its share of all selections from 0 to 1, and its events."""

    role: str
    chosen: int
    share: float | None
    events: int


@dataclass(frozen=True, slots=True)
class RoleChange:
    """How often people changed from one role to another."""

    from_: str
    to: str
    count: int


@dataclass(frozen=True, slots=True)
class RoleCommand:
    """How often a role started a command."""

    role: str
    command: str
    count: int


@dataclass(frozen=True, slots=True)
class CrossUse:
    """How often a role started a command that is made for another role, its owner."""

    role: str
    command: str
    count: int
    owner: str


@dataclass(frozen=True, slots=True)
class RoleAgent:
    """How often a role started an agent."""

    role: str
    agent: str
    count: int


@dataclass(frozen=True, slots=True)
class WorkTotal:
    """How often commands, agents or workflows started and ended, and how long they took.

    `rate` is the completed share of those that ended, from 0 to 1, and `low` to `high` its 95 %
    Wilson interval; None if none ended. The percentiles are in milliseconds, as they are stored.
    `spans` are those with a span, and `unfinished` those of them that never ended.
    """

    begun: int
    completed: int
    failed: int
    spans: int
    unfinished: int
    rate: float | None
    low: float | None
    high: float | None
    p50_ms: int | None
    p90_ms: int | None
    p95_ms: int | None


@dataclass(frozen=True, slots=True)
class Work(WorkTotal):
    """One command, agent or workflow."""

    name: str


@dataclass(frozen=True, slots=True)
class RoleTotal:
    """How often roles were selected, and their events."""

    chosen: int
    events: int


@dataclass(frozen=True, slots=True)
class CountTotal:
    """The sum of a table of counts."""

    count: int


@dataclass(frozen=True, slots=True)
class HandoffTotal:
    """All hand-offs together."""

    clicked: int
    completed: int
    rate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Totals:
    """The sums of the tables, over all of their rows."""

    roles: RoleTotal
    cross_use: CountTotal
    handoffs: HandoffTotal
    errors: CountTotal
    commands: WorkTotal
    agents: WorkTotal
    workflows: WorkTotal


@dataclass(frozen=True, slots=True)
class Handoff(HandoffTotal):
    """How often a hand-off was clicked, and how often it reached the next agent."""

    source: str
    target: str


@dataclass(frozen=True, slots=True)
class InvokerUse:
    """The events of a person, or of a coding agent that ran the program.

    `completed` and `failed` are commands, and so is `rate`: the share that completed.
    """

    invoker: str
    events: int
    completed: int
    failed: int
    rate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class VersionUse:
    """The events of one version of the program, with the same columns."""

    app_version: str
    events: int
    completed: int
    failed: int
    rate: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class OutcomeCount:
    """How many events there are of one outcome."""

    outcome: str
    count: int


@dataclass(frozen=True, slots=True)
class ErrorCount:
    """How often a command, agent or workflow failed with one type of error."""

    kind: str
    name: str
    error_type: str
    count: int


@dataclass(frozen=True, slots=True)
class DayCount:
    """The events of one day in UTC."""

    day: str
    events: int


@dataclass(frozen=True, slots=True)
class WeekCount:
    """The events of one ISO week, named by its Monday."""

    week: str
    events: int


@dataclass(frozen=True, slots=True)
class Period:
    """The events of one period by what started, from its first to its last day."""

    since: str
    until: str
    events: int
    roles_chosen: int
    commands_begun: int
    agents_begun: int
    handoffs_clicked: int
    command_completion_rate: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A period beside the one of the same length before it.

    The period before is complete only if it does not begin before `first_day`, the day of the first
    event.
    """

    days: int
    first_day: str
    before_is_complete: bool
    now: Period
    before: Period


@dataclass(frozen=True, slots=True)
class Stats:
    """What `telemetry-kit stats --json` prints. Days are `YYYY-MM-DD`, and None without events."""

    since: str | None
    until: str | None
    role: str | None
    agent: str | None
    command: str | None
    events: int
    sessions: int
    types: tuple[EventCount, ...]
    roles: tuple[RoleUse, ...]
    role_changes: tuple[RoleChange, ...]
    role_commands: tuple[RoleCommand, ...]
    cross_use: tuple[CrossUse, ...]
    role_agents: tuple[RoleAgent, ...]
    commands: tuple[Work, ...]
    agents: tuple[Work, ...]
    workflows: tuple[Work, ...]
    handoffs: tuple[Handoff, ...]
    invokers: tuple[InvokerUse, ...]
    versions: tuple[VersionUse, ...]
    outcomes: tuple[OutcomeCount, ...]
    errors: tuple[ErrorCount, ...]
    days: tuple[DayCount, ...]
    weeks: tuple[WeekCount, ...]
    by: str | None
    periods: tuple[Period, ...]
    comparison: Comparison | None
    dropped: int
    malformed: int
    totals: Totals
    incomplete: tuple[str, ...]
    other_version: int


_ROWS: dict[str, type[Any]] = {
    "types": EventCount,
    "roles": RoleUse,
    "role_changes": RoleChange,
    "role_commands": RoleCommand,
    "cross_use": CrossUse,
    "role_agents": RoleAgent,
    "handoffs": Handoff,
    "invokers": InvokerUse,
    "versions": VersionUse,
    "outcomes": OutcomeCount,
    "errors": ErrorCount,
    "days": DayCount,
    "weeks": WeekCount,
    "periods": Period,
}
_TOTALS: dict[str, type[Any]] = {
    "roles": RoleTotal,
    "cross_use": CountTotal,
    "handoffs": HandoffTotal,
    "errors": CountTotal,
    **dict.fromkeys(("commands", "agents", "workflows"), WorkTotal),
}


def typed(found: Metrics) -> Stats:
    """Return metrics as typed objects.

    Args:
        found: the result of `reading.metrics_of()`.
    """
    values = dict(found, incomplete=tuple(found["incomplete"]))
    for key, kind in _ROWS.items():
        values[key] = rows(kind, found[key])
    for key in ("commands", "agents", "workflows"):
        values[key] = rows(Work, ({**row, "name": row[key[:-1]]} for row in found[key]))
    totals = {key: of(kind, found["totals"][key]) for key, kind in _TOTALS.items()}
    values["totals"] = Totals(**totals)
    both = found["comparison"]
    if both is not None:
        periods = {key: of(Period, both[key]) for key in ("now", "before")}
        values["comparison"] = of(Comparison, {**both, **periods})
    return of(Stats, values)


def of_no_events() -> Stats:
    """Return the metrics of a project without events."""
    return typed({**metrics(Counters()), "incomplete": [], "other_version": 0})


def rows(kind: type[T], found: Iterable[Metrics]) -> tuple[T, ...]:
    """Return each row as an object."""
    return tuple(of(kind, row) for row in found)


def of(kind: type[T], row: Metrics) -> T:
    """Return one row as an object of a class, by the names of its fields."""
    values = {_ALIASES.get(key, key): value for key, value in row.items()}
    return kind(**{field.name: values[field.name] for field in fields(kind)})  # type: ignore[arg-type]
