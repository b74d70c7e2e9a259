"""Compute metrics from counters: one definition for `stats`, `answers` and JSON.

The caller supplies the counters and lays out the numbers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from datetime import date, timedelta

from telemetry_kit.insights.counters import Counters, Key
from telemetry_kit.insights.query import Query
from telemetry_kit.schema import catalog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TOP = 5
PERIOD_DAYS = 28
Z_95 = 1.959963984540054
_QUANTILES = (("p50", 50), ("p90", 90), ("p95", 95))
_BEGUN = {"commands": ("executed",), "agents": ("invoked", "started"), "workflows": ("started",)}
_KIND = {"commands": "command", "agents": "agent", "workflows": "workflow"}

Metrics = dict[str, "Any"]


def wilson(part: int, whole: int) -> tuple[float, float]:
    """The 95 % score interval of a rate (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927, 209-212).

    Args:
        part: how many of `whole`; not more than it.
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
    """A rate with its interval; all None where there is nothing to divide by.

    Args:
        part: how many of `whole`; taken for `whole` where it is more.
        whole: how many there are.
    """
    if whole <= 0:
        return {"rate": None, "low": None, "high": None}
    part = min(part, whole)
    low, high = wilson(part, whole)
    return {"rate": rounded(part / whole), "low": rounded(low), "high": rounded(high)}


def rounded(share: float) -> float:
    """A share to four digits; what is neither nothing nor all does not become either.

    Args:
        share: from 0 to 1.
    """
    return share if share in (0, 1) else min(max(round(share, 4), 0.0001), 0.9999)


def quantile(buckets: Iterable[tuple[int, int]], percent: int) -> int | None:
    """The bucket that a percentile falls into, by the nearest-rank method.

    Args:
        buckets: upper end and count.
        percent: which percentile.

    Returns:
        The upper end of that bucket, None where there is no count.
    """
    ordered = sorted(buckets)
    rank = -(-sum(count for _, count in ordered) * percent // 100)
    seen = 0
    for end, count in ordered:
        seen += count
        if seen >= rank > 0:
            return end
    return None


def metrics(
    counters: Counters,
    wanted: Query | None = None,
    roles: Iterable[str] = (),
    role: str | None = None,
) -> Metrics:
    """All the numbers.

    Args:
        counters: of the wanted events.
        wanted: which these were, for the period and the one before it.
        roles: those there are beyond the built-in ones and those of the wanted events.

    Returns:
        Lists of rows, each list from most to least, by name where equal. It is what
        `stats --json` prints.
    """
    wanted = wanted or Query()
    days = {d: n for d, n in _by_day(counters).items() if wanted.has_day(d)}
    return {
        "since": wanted.since or (min(days) if days else None),
        "until": wanted.until or (max(days) if days else None),
        "role": role,
        "events": counters.total("events"),
        "types": _counted(counters.tables["types"], ("event",)),
        "roles": _roles(counters),
        "role_changes": _counted(counters.tables["changes"], ("from", "to")),
        "role_commands": _used(counters, "role_commands", "command", ("executed",)),
        "cross_use": _cross_use(counters, roles),
        "role_agents": _used(counters, "role_agents", "agent", _BEGUN["agents"]),
        "commands": _work(counters, "commands"),
        "agents": _work(counters, "agents"),
        "workflows": _work(counters, "workflows"),
        "handoffs": _handoffs(counters),
        "outcomes": _counted(counters.tables["outcomes"], ("outcome",)),
        "errors": _counted(counters.tables["errors"], ("kind", "name", "error_type")),
        "days": _filled(days),
        "weeks": _weeks(days),
        "comparison": _comparison(counters, wanted, days),
        "dropped": counters.total("dropped"),
        "malformed": counters.total("malformed"),
    }


def _ranked(rows: list[Metrics], by: str) -> list[Metrics]:
    return sorted(rows, key=lambda row: (-row[by], *(str(v) for v in row.values())))


def _counted(table: Counter[Key], names: tuple[str, ...]) -> list[Metrics]:
    rows = [{**dict(zip(names, key, strict=True)), "count": n} for key, n in table.items() if n]
    return _ranked(rows, "count")


def _roles(counters: Counters) -> list[Metrics]:
    rows = counters.rows("roles")
    chosen = sum(_chosen(counts) for counts in rows.values())
    return _ranked(
        [
            {
                "role": role,
                "chosen": _chosen(counts),
                "share": rounded(_chosen(counts) / chosen) if chosen else None,
                "events": counts.get("events", 0),
            }
            for (role,), counts in rows.items()
        ],
        "chosen",
    )


def _chosen(counts: dict[str, int]) -> int:
    return counts.get("selected", 0) + counts.get("changed", 0)


def _used(counters: Counters, table: str, kind: str, begun: tuple[str, ...]) -> list[Metrics]:
    """Who used what how often: all of it, the role that used most first."""
    rows: list[Metrics] = [
        {"role": role, kind: name, "count": sum(counts.get(what, 0) for what in begun)}
        for (role, name), counts in counters.rows(table).items()
    ]
    total: Counter[str] = Counter()
    for row in rows:
        total[row["role"]] += row["count"]
    used = [row for row in rows if row["count"]]
    return sorted(used, key=lambda r: (-total[r["role"]], r["role"], -r["count"], r[kind]))


def owner_of(command: str, roles: frozenset[str]) -> str | None:
    """The role that a command is made for, by its name: `/qa:check` is the one of `qa`.

    Args:
        command: its name.
        roles: the roles there are.
    """
    before = command.lstrip("/").partition(":")[0]
    return before if before in roles and ":" in command else None


def _cross_use(counters: Counters, roles: Iterable[str]) -> list[Metrics]:
    used = _used(counters, "role_commands", "command", ("executed",))
    known = frozenset({*catalog.ROLES, *roles, *counters.roles()})
    found = []
    for row in used:
        owner = owner_of(row["command"], known)
        if owner is not None and owner != row["role"]:
            found.append({**row, "owner": owner})
    return _ranked(found, "count")


def _work(counters: Counters, table: str) -> list[Metrics]:
    buckets: dict[str, list[tuple[int, int]]] = {}
    for (kind, name, end), count in counters.tables["durations"].items():
        if kind == _KIND[table] and count:
            buckets.setdefault(name, []).append((int(end), count))
    found = []
    for (name,), counts in counters.rows(table).items():
        begun = sum(counts.get(what, 0) for what in _BEGUN[table])
        completed, failed = counts.get("completed", 0), counts.get("failed", 0)
        row = {_KIND[table]: name, "begun": begun, "completed": completed, "failed": failed}
        row |= rate(completed, completed + failed)
        row |= {f"{q}_ms": quantile(buckets.get(name, ()), percent) for q, percent in _QUANTILES}
        found.append(row)
    return sorted(found, key=lambda r: (-max(r["begun"], r["completed"] + r["failed"]), *_text(r)))


def _text(row: Metrics) -> list[str]:
    return [str(value) for value in row.values()]


def _handoffs(counters: Counters) -> list[Metrics]:
    found = []
    for (source, target), counts in counters.rows("handoffs").items():
        clicked, completed = counts.get("clicked", 0), counts.get("completed", 0)
        row = {"source": source, "target": target, "clicked": clicked, "completed": completed}
        found.append(row | rate(completed, clicked))
    return _ranked(found, "clicked")


# -- time ------------------------------------------------------------------------------------


def _by_day(counters: Counters) -> dict[str, int]:
    days: Counter[str] = Counter()
    for (day, _), count in counters.tables["days"].items():
        days[day] += count
    return dict(days)


def _filled(days: dict[str, int]) -> list[Metrics]:
    """Every day from the first to the last, also those without an event."""
    if not days:
        return []
    first, last = date.fromisoformat(min(days)), date.fromisoformat(max(days))
    if (last - first).days > 4_000:
        # One wrong clock long ago must not make a million empty days.
        return [{"day": d, "events": n} for d, n in sorted(days.items())]
    every = (str(first + timedelta(n)) for n in range((last - first).days + 1))
    return [{"day": d, "events": days.get(d, 0)} for d in every]


def _weeks(days: dict[str, int]) -> list[Metrics]:
    """By ISO week, named by its Monday."""
    weeks: Counter[str] = Counter()
    for row in _filled(days):
        day = date.fromisoformat(row["day"])
        # The first days there are can lie before any Monday.
        weeks[str(day - timedelta(min(day.weekday(), day.toordinal() - 1)))] += row["events"]
    return [{"week": week, "events": count} for week, count in weeks.items()]


def _comparison(counters: Counters, wanted: Query, days: dict[str, int]) -> Metrics | None:
    """A period and the one of the same length before it; None where no day is known."""
    if not days:
        return None
    last = date.fromisoformat(wanted.until or max(days))
    first = date.fromisoformat(wanted.since) if wanted.since else None
    if first is None:
        first = date.fromordinal(max(last.toordinal() - PERIOD_DAYS + 1, 1))
    length = (last - first).days + 1
    before = date.fromordinal(max(first.toordinal() - length, 1))
    ends = (
        (str(first), str(last)),
        (str(before), str(date.fromordinal(max(first.toordinal() - 1, 1)))),
    )
    now, then = (_measures(counters, *pair) for pair in ends)
    return {
        "days": length,
        "now": {"since": ends[0][0], "until": ends[0][1], **now},
        "before": {"since": ends[1][0], "until": ends[1][1], **then},
    }


def _measures(counters: Counters, first: str, last: str) -> Metrics:
    types: Counter[str] = Counter()
    for (day, name), count in counters.tables["days"].items():
        if first <= day <= last:
            types[name] += count
    completed, failed = types["command.completed"], types["command.failed"]
    return {
        "events": types.total(),
        "roles_chosen": types["role.selected"] + types["role.changed"],
        "commands_begun": types["command.executed"],
        "agents_begun": types["agent.invoked"] + types["agent.started"],
        "handoffs_clicked": types["handoff.clicked"],
        "command_completion_rate": rate(completed, completed + failed)["rate"],
    }
