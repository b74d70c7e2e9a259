"""Compute metrics from counters: one definition for `stats`, `answers` and JSON.

The caller supplies the counters and formats the numbers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, timedelta

from telemetry_kit.insights.counters import Counters
from telemetry_kit.insights.query import Query
from telemetry_kit.schema import catalog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PERIOD_DAYS = 28
# The names that a query can ask for.
NAMES = ("role", "agent", "command")
Z_95 = 1.959963984540054
_MAX_DAYS = 4_000
_QUANTILES = (("p50", 50), ("p90", 90), ("p95", 95))
# The steps that begin the work of each table.
_BEGIN = {"commands": ("executed",), "agents": ("invoked", "started"), "workflows": ("started",)}

Metrics = dict[str, "Any"]
# How often each number of milliseconds was stored, by name.
Durations = dict[str, dict[int, int]]


def wilson(part: int, whole: int) -> tuple[float, float]:
    """Return the 95 % interval of a rate (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927, 209-212).

    Args:
        part: at most `whole`.
        whole: above zero.

    Returns:
        Its ends, each from 0 to 1.
    """
    rate, z2 = part / whole, Z_95 * Z_95
    middle = rate + z2 / (2 * whole)
    spread = Z_95 * math.sqrt(rate * (1 - rate) / whole + z2 / (4 * whole * whole))
    scale = 1 + z2 / whole
    low = 0.0 if part == 0 else (middle - spread) / scale
    return low, 1.0 if part == whole else (middle + spread) / scale


def rate(part: int, whole: int) -> Metrics:
    """Return a rate with its interval; all three are None if `whole` is zero.

    Args:
        part: a larger one than `whole` counts as `whole`.
        whole: how many there are.
    """
    if whole <= 0:
        return {"rate": None, "low": None, "high": None}
    part = min(part, whole)
    low, high = wilson(part, whole)
    return {"rate": rounded(part / whole), "low": rounded(low), "high": rounded(high)}


def rounded(share: float) -> float:
    """Round a share to four digits. Only 0 becomes 0, and only 1 becomes 1.

    Args:
        share: from 0 to 1.
    """
    return share if share in (0, 1) else min(max(round(share, 4), 0.0001), 0.9999)


def quantile(values: Iterable[tuple[int, int]], percent: int) -> int | None:
    """Return a percentile of counted values, by the nearest-rank method.

    Args:
        values: each with its count.
        percent: the percentile.

    Returns:
        None if all counts are zero.
    """
    ordered = sorted(values)
    rank = -(-sum(count for _, count in ordered) * percent // 100)
    seen = 0
    for value, count in ordered:
        seen += count
        if seen >= rank > 0:
            return value
    return None


def metrics(
    counters: Counters,
    query: Query | None = None,
    roles: Iterable[str] = (),
    names: Mapping[str, str] | None = None,
    by: str | None = None,
) -> Metrics:
    """Compute all metrics of the counted events.

    Args:
        counters: of the events that the query accepts.
        query: which events these are; by default all.
        roles: those of other events.
        names: the role, agent and command that the query asks for, as the user typed them.
        by: `day` or `week`, for a row of each.

    Returns:
        Lists of rows, each sorted by count, then by name; versions with the newest first.
        `stats --json` prints it.
    """
    query = query or Query()
    days: Counter[str] = Counter()
    for (day, _), count in counters.tables["days"].items():
        if query.has_day(day):
            days[day] += count
    every_day = filled_days(days)
    durations = durations_of(counters)
    names = names or {}
    found: Metrics = {
        "since": query.since or (min(days) if days else None),
        "until": query.until or (max(days) if days else None),
        **{name: names.get(name) for name in NAMES},
        "events": counters.total("events"),
        "sessions": counters.total("sessions"),
        "types": table_rows(counters, "types", "event"),
        "roles": role_rows(counters),
        "role_changes": table_rows(counters, "changes", "from", "to"),
        "role_commands": use_by_role(counters, "commands"),
        "cross_use": cross_use(counters, roles),
        "role_agents": use_by_role(counters, "agents"),
        **{table: work_rows(counters, table, durations[table[:-1]]) for table in _BEGIN},
        "handoffs": handoff_rows(counters),
        "invokers": origin_rows(counters, "invokers", "invoker"),
        "versions": version_rows(counters),
        "outcomes": table_rows(counters, "outcomes", "outcome"),
        "errors": table_rows(counters, "errors", "kind", "name", "error_type"),
        "days": every_day,
        "weeks": weeks_of(every_day),
        "by": by,
        "periods": periods(counters, query, every_day, by) if by else [],
        "comparison": comparison(counters, query, days),
        "dropped": counters.total("dropped"),
        "malformed": counters.total("malformed"),
    }
    return found | {"totals": totals(counters, found, durations)}


def sort_rows(rows: list[Metrics], by: str) -> list[Metrics]:
    """Sort rows by a count, the largest first, then by their values."""
    return sorted(rows, key=lambda row: (-row[by], *map(str, row.values())))


def table_rows(counters: Counters, table: str, *names: str) -> list[Metrics]:
    """Return a table as rows, with a key for each name and `count`."""
    counts = counters.tables[table].items()
    return sort_rows(
        [{**dict(zip(names, key, strict=True)), "count": n} for key, n in counts if n], "count"
    )


def role_rows(counters: Counters) -> list[Metrics]:
    """Return how often each role was chosen, its share, and its events."""
    rows: list[Metrics] = []
    for (role,), counts in counters.rows("roles").items():
        chosen = counts.get("selected", 0) + counts.get("changed", 0)
        rows.append(
            {"role": role, "chosen": chosen, "share": None, "events": counts.get("events", 0)}
        )
    total = sum(row["chosen"] for row in rows)
    for row in rows if total else ():
        row["share"] = rounded(row["chosen"] / total)
    return sort_rows(rows, "chosen")


def use_by_role(counters: Counters, table: str) -> list[Metrics]:
    """Return how often each role used each command or agent, the most active role first."""
    kind = table[:-1]
    rows: list[Metrics] = []
    total: Counter[str] = Counter()
    for (role, name), counts in counters.rows(f"role_{table}").items():
        count = sum(counts.get(step, 0) for step in _BEGIN[table])
        total[role] += count
        if count:
            rows.append({"role": role, kind: name, "count": count})
    return sorted(rows, key=lambda r: (-total[r["role"]], r["role"], -r["count"], r[kind]))


def owner_of(command: str, roles: frozenset[str]) -> str | None:
    """Return the role that a command is made for: `qa` for `/qa:check`.

    Args:
        command: its name.
        roles: the known roles.
    """
    before, colon, _ = command.lstrip("/").partition(":")
    return before if colon and before in roles else None


def cross_use(counters: Counters, roles: Iterable[str]) -> list[Metrics]:
    """Return the use of commands that are made for another role."""
    known = frozenset({*catalog.ROLES, *roles, *counters.roles()})
    used = [
        {**r, "owner": owner_of(r["command"], known)} for r in use_by_role(counters, "commands")
    ]
    return sort_rows([row for row in used if row["owner"] not in (None, row["role"])], "count")


def work_rows(counters: Counters, table: str, durations: Durations) -> list[Metrics]:
    """Return how often each command, agent or workflow began and ended, and how long it took."""
    kind = table[:-1]
    spans = spans_of(counters, kind)
    rows = [
        {kind: name, **work_row(table, counts, durations.get(name, {}), spans.get(name, {}))}
        for (name,), counts in counters.rows(table).items()
    ]
    return sorted(rows, key=lambda r: (-max(r["begun"], r["completed"] + r["failed"]), r[kind]))


def work_row(
    table: str,
    counts: Mapping[str, int],
    durations: Mapping[int, int],
    spans: Mapping[str, int],
) -> Metrics:
    """Return the metrics of one command, agent or workflow, or of all of them.

    `spans` are those that have a span, and `unfinished` are those of them that never ended.

    Args:
        table: `commands`, `agents` or `workflows`.
        counts: how many events there are of each step.
        durations: how often each number of milliseconds was stored.
        spans: how many spans started and ended.
    """
    begun = sum(counts.get(step, 0) for step in _BEGIN[table])
    completed, failed = counts.get("completed", 0), counts.get("failed", 0)
    row: Metrics = {"begun": begun, "completed": completed, "failed": failed}
    started, ended = (spans.get(step, 0) for step in ("started", "ended"))
    # The start of a span may be before the period, and its end in it.
    row |= {"spans": max(started, ended), "unfinished": max(started - ended, 0)}
    row |= rate(completed, completed + failed)
    return row | {f"{q}_ms": quantile(durations.items(), percent) for q, percent in _QUANTILES}


def spans_of(counters: Counters, kind: str) -> dict[str, dict[str, int]]:
    """Return how many spans started and ended, by name."""
    found: dict[str, dict[str, int]] = {}
    for (of, name, step), count in counters.tables["spans"].items():
        if of == kind:
            found.setdefault(name, {})[step] = count
    return found


def durations_of(counters: Counters) -> dict[str, Durations]:
    """Return how often each number of milliseconds was stored, by kind and by name."""
    found: dict[str, Durations] = {table[:-1]: {} for table in _BEGIN}
    for (kind, name, milliseconds), count in counters.tables["durations"].items():
        found[kind].setdefault(name, {})[int(milliseconds)] = count
    return found


def handoff_rows(counters: Counters) -> list[Metrics]:
    """Return how often each hand-off was clicked and completed."""
    rows = []
    for (source, target), counts in counters.rows("handoffs").items():
        clicked, completed = counts.get("clicked", 0), counts.get("completed", 0)
        row = {"source": source, "target": target, "clicked": clicked, "completed": completed}
        rows.append(row | rate(completed, clicked))
    return sort_rows(rows, "clicked")


def origin_rows(counters: Counters, table: str, name: str) -> list[Metrics]:
    """Return the events of each invoker or version, and how its commands ended."""
    rows = []
    for (value,), counts in counters.rows(table).items():
        completed, failed = counts.get("completed", 0), counts.get("failed", 0)
        row = {name: value, "events": counts["events"], "completed": completed, "failed": failed}
        rows.append(row | rate(completed, completed + failed))
    return sort_rows(rows, "events")


def version_rows(counters: Counters) -> list[Metrics]:
    """Return the same of each version of the program, the newest first."""

    def numbers(row: Metrics) -> list[int]:
        return [int(number) for number in row["app_version"].split(".")]

    return sorted(origin_rows(counters, "versions", "app_version"), key=numbers, reverse=True)


def totals(counters: Counters, found: Metrics, durations: Mapping[str, Durations]) -> Metrics:
    """Return the sums of each table of `metrics()`, over all of its rows.

    Args:
        counters: of the events.
        found: the tables.
        durations: by kind.
    """

    def sums(table: str, *keys: str) -> Metrics:
        return {key: sum(row[key] for row in found[table]) for key in keys}

    handoffs = sums("handoffs", "clicked", "completed")
    followed = sum(min(row["completed"], row["clicked"]) for row in found["handoffs"])
    total: Metrics = {
        "roles": sums("roles", "chosen", "events"),
        "cross_use": sums("cross_use", "count"),
        "handoffs": handoffs | rate(followed, handoffs["clicked"]),
        "errors": sums("errors", "count"),
    }
    for table in _BEGIN:
        steps: Counter[str] = Counter()
        for (_, step), count in counters.tables[table].items():
            steps[step] += count
        every: Counter[int] = Counter()
        for counts in durations[table[:-1]].values():
            every.update(counts)
        total[table] = work_row(table, steps, every, {}) | sums(table, "spans", "unfinished")
    return total


# -- time ------------------------------------------------------------------------------------


def filled_days(days: Counter[str]) -> list[Metrics]:
    """Return the events of each day from the first to the last, without gaps."""
    if not days:
        return []
    first, last = date.fromisoformat(min(days)), date.fromisoformat(max(days))
    if (last - first).days > _MAX_DAYS:
        # One event with a wrong time would add a million empty days.
        return [{"day": day, "events": count} for day, count in sorted(days.items())]
    every_day = (str(first + timedelta(n)) for n in range((last - first).days + 1))
    return [{"day": day, "events": days[day]} for day in every_day]


def weeks_of(days: list[Metrics]) -> list[Metrics]:
    """Return the events of each ISO week, named by its Monday."""
    weeks: Counter[str] = Counter()
    for row in days:
        weeks[monday_of(row["day"])] += row["events"]
    return [{"week": week, "events": count} for week, count in weeks.items()]


def monday_of(day: str) -> str:
    """Return the first day of the ISO week of a day."""
    found = date.fromisoformat(day)
    # The first day of the calendar is not preceded by a Monday.
    return str(found - timedelta(min(found.weekday(), found.toordinal() - 1)))


def periods(counters: Counters, query: Query, every_day: list[Metrics], by: str) -> list[Metrics]:
    """Return the events of each day or ISO week by what began, oldest first.

    Args:
        counters: of the events.
        query: which days count.
        every_day: the days, as `filled_days` returns them.
        by: `day` or `week`.
    """
    first_of = monday_of if by == "week" else str
    length = 7 if by == "week" else 1
    types: dict[str, Counter[str]] = {first_of(row["day"]): Counter() for row in every_day}
    for (day, name), count in counters.tables["days"].items():
        if query.has_day(day):
            types[first_of(day)][name] += count
    found = []
    for since, counts in types.items():
        last = min(date.fromisoformat(since).toordinal() + length - 1, date.max.toordinal())
        found.append(period_row(since, str(date.fromordinal(last)), counts))
    return found


def comparison(counters: Counters, query: Query, days: Counter[str]) -> Metrics | None:
    """Compare a period with the one of the same length before it; None without events.

    The earlier one is complete only if it does not begin before the first event. Otherwise there
    is no relative change: a part of its days was not recorded, or was deleted since.
    """
    if not days:
        return None
    last = date.fromisoformat(query.until or max(days)).toordinal()
    first = date.fromisoformat(query.since).toordinal() if query.since else last - PERIOD_DAYS + 1
    first = max(first, 1)
    length = last - first + 1
    before = count_period(counters, max(first - length, 1), max(first - 1, 1))
    first_day = min(day for day, _ in counters.tables["days"])
    return {
        "days": length,
        "first_day": first_day,
        "before_is_complete": first_day <= before["since"],
        "now": count_period(counters, first, last),
        "before": before,
    }


def count_period(counters: Counters, first: int, last: int) -> Metrics:
    """Return the events of a period by what began.

    Args:
        counters: with all days.
        first: the first day, as the number that `date.toordinal` returns.
        last: the last day.
    """
    since, until = str(date.fromordinal(first)), str(date.fromordinal(last))
    types: Counter[str] = Counter()
    for (day, name), count in counters.tables["days"].items():
        if since <= day <= until:
            types[name] += count
    return period_row(since, until, types)


def period_row(since: str, until: str, types: Counter[str]) -> Metrics:
    """Return the metrics of one period, from its first to its last day.

    Args:
        since: the first day.
        until: the last day.
        types: how many events there are of each type.
    """
    completed, failed = types["command.completed"], types["command.failed"]
    return {
        "since": since,
        "until": until,
        "events": types.total(),
        "roles_chosen": types["role.selected"] + types["role.changed"],
        "commands_begun": types["command.executed"],
        "agents_begun": types["agent.invoked"] + types["agent.started"],
        "handoffs_clicked": types["handoff.clicked"],
        "command_completion_rate": rate(completed, completed + failed)["rate"],
    }
