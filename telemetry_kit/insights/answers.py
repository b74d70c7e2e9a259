"""Each question of the catalog with its present answer in one sentence.

The numbers come from `insights.metrics`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from telemetry_kit.insights.metrics import Metrics
from telemetry_kit.schema import catalog

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Row = dict[str, "Any"]
NAMED = 3
_JOINED = re.compile(", | and ")
_BRACKETS = re.compile(r"\([^)]*\)")


def percent(share: float | None) -> str:
    """A share in words; `?` where there is none. Only all is 100 %, and only nothing is 0 %."""
    if share is None:
        return "?"
    text = f"{share:.0%}"
    if text == "100%" and share < 1:
        return ">99%"
    return "<1%" if text == "0%" and share > 0 else text


def span(milliseconds: int | None) -> str:
    """A length of time, short: `512 ms`, `16.4 s`, `4.4 min`, `3.2 d`."""
    if milliseconds is None:
        return ""
    if milliseconds < 1_000:
        return f"{milliseconds} ms"
    for unit, size, limit in _UNITS:
        if milliseconds < limit or not limit:
            count = milliseconds / size
            return f"{count:.3g} {unit}" if count < 999.5 else f"{count:,.0f} {unit}"
    return ""


# Each with its length in milliseconds, and with what the next one begins.
_UNITS = (("s", 1e3, 60_000), ("min", 6e4, 3_600_000), ("h", 3.6e6, 172_800_000), ("d", 8.64e7, 0))


def answers(found: Metrics) -> list[Row]:
    """Every declared question once, with its answer.

    Args:
        found: what `metrics()` returned.

    Returns:
        In the order of the catalog: `question`, `answer`, and the `events` it is read from.
    """
    rows: dict[str, Row] = {}
    for event in catalog.EVENTS.values():
        row = rows.setdefault(event.question, {"question": event.question, "events": []})
        row["events"].append(event.name)
    for row in rows.values():
        answer = _ANSWERS.get(row["events"][0])
        row["answer"] = (answer(found) if answer else "") or "Nothing was recorded yet."
    return list(rows.values())


def _listed(parts: list[str], more: int = 0) -> str:
    if more > 0:
        parts = [*parts, f"{more} more"]
    if len(parts) == 1:
        return parts[0]
    nested = any(_JOINED.search(_BRACKETS.sub("", part)) for part in parts)
    comma, last = ("; ", "; and ") if nested else (", ", " and ")
    return comma.join(parts[:-1]) + last + parts[-1]


def _top(rows: list[Row], say: Callable[[Row], str]) -> str:
    return _listed([say(row) for row in rows[:NAMED]], len(rows) - NAMED)


def _most(counts: list[tuple[str, int]], whole: int) -> str:
    """What there is most of, with its count and of how many; several where it is a tie.

    Args:
        counts: names with their counts, the largest first, at least one.
        whole: how many there are of all names, and of those without one.
    """
    count = counts[0][1]
    tied = [name for name, n in counts if n == count]
    if len(tied) > 1:
        names = _listed(tied[:NAMED], len(tied) - NAMED)
        return f"{names} equally often ({count:,} of {whole:,} each)"
    if count >= whole:
        return f"only {tied[0]} ({count:,})"
    word = "mostly" if 2 * count > whole else "most often"
    return f"{word} {tied[0]} ({count:,} of {whole:,})"


def _roles(found: Metrics) -> str:
    rows = [row for row in found["roles"] if row["chosen"]]
    if not rows:
        return ""
    return _top(rows, lambda r: f"{r['role']} ({r['chosen']:,}, {percent(r['share'])})") + "."


def _changes(found: Metrics) -> str:
    types = {row["event"]: row["count"] for row in found["types"]}
    changed = types.get("role.changed", 0)
    if not changed and not types.get("role.selected"):
        return ""
    sessions = types.get("role.selected", 0)
    said = f"{_times(changed)}, in {sessions:,} session{'' if sessions == 1 else 's'}"
    pairs = [(f"from {r['from']} to {r['to']}", r["count"]) for r in found["role_changes"]]
    return f"{said}; {_most(pairs, changed)}." if pairs else f"{said}."


def _times(count: int) -> str:
    return "Never" if count == 0 else "Once" if count == 1 else f"{count:,} times"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _by_role(table: str, kind: str) -> Callable[[Metrics], str]:
    def answer(found: Metrics) -> str:
        used: dict[str, list[tuple[str, int]]] = {}
        for row in found[table]:
            used.setdefault(row["role"], []).append((row[kind], row["count"]))
        rows: list[Row] = [{"role": role, "counts": counts} for role, counts in used.items()]
        if not rows:
            return ""

        def say(row: Row) -> str:
            return f"{row['role']}: {_most(row['counts'], sum(n for _, n in row['counts']))}"

        return _top(rows, say) + "."

    return answer


def _commands(found: Metrics) -> str:
    said = _by_role("role_commands", "command")(found)
    crossed = found["cross_use"]
    if not said or not crossed:
        return said
    total = sum(row["count"] for row in crossed)
    most = _most([(f"{row['command']} by {row['role']}", row["count"]) for row in crossed], total)
    return (
        f"{said[:-1]}; another role's commands were used {total:,} "
        f"{'time' if total == 1 else 'times'}, {most}."
    )


def _finish(table: str, kind: str) -> Callable[[Metrics], str]:
    def answer(found: Metrics) -> str:
        rows = [row for row in found[table] if row["rate"] is not None]
        if not rows:
            return ""
        completed = sum(row["completed"] for row in rows)
        ended = completed + sum(row["failed"] for row in rows)
        return (
            f"{completed:,} of {ended:,} that ended {_were(completed)} completed "
            f"({percent(completed / ended)}): " + _top(rows, lambda r: _how(r, kind)) + "."
        )

    return answer


def _how(row: Row, kind: str) -> str:
    took = f", half within {span(row['p50_ms'])}" if row["p50_ms"] else ""
    return f"{row[kind]} {percent(row['rate'])}{took}"


def _fail(table: str, kind: str) -> Callable[[Metrics], str]:
    def answer(found: Metrics) -> str:
        ended = [row for row in found[table] if row["rate"] is not None]
        rows = sorted((r for r in ended if r["failed"]), key=lambda r: (-r["failed"], r[kind]))
        if not rows:
            return "None of those that ended failed." if ended else ""
        errors: dict[str, list[tuple[str, int]]] = {}
        for row in found["errors"]:
            if row["kind"] == kind:
                errors.setdefault(row["name"], []).append((row["error_type"], row["count"]))

        def say(row: Row) -> str:
            counts = errors.get(row[kind])
            most = f", {_most(counts, row['failed'])}" if counts else ""
            ended = row["completed"] + row["failed"]
            return f"{row[kind]} {row['failed']:,} of {ended:,}{most}"

        return _top(rows, say) + "."

    return answer


def _clicked(found: Metrics) -> str:
    clicked = sum(row["clicked"] for row in found["handoffs"])
    if not clicked:
        return ""
    rows = [row for row in found["handoffs"] if row["clicked"]]
    most = _most([(_pair(row), row["clicked"]) for row in rows], clicked)
    return (
        f"{clicked:,} {_were(clicked)} followed, {most}; those that nobody clicks leave no event."
    )


def _reached(found: Metrics) -> str:
    rows = [row for row in found["handoffs"] if row["clicked"]]
    if not rows:
        return ""
    clicked = sum(row["clicked"] for row in rows)
    reached = sum(min(row["completed"], row["clicked"]) for row in rows)
    return (
        f"{reached:,} of {clicked:,} ({percent(reached / clicked)}): "
        + _top(rows, lambda r: f"{_pair(r)} {percent(r['rate'])}")
        + "."
    )


def _pair(row: Row) -> str:
    return f"{row['source']} -> {row['target']}"


def _begun(found: Metrics) -> str:
    rows = [row for row in found["workflows"] if row["begun"]]
    return _top(rows, lambda r: f"{r['workflow']} ({r['begun']:,})") + "." if rows else ""


# By the first event that asks the question.
_ANSWERS: dict[str, Callable[[Metrics], str]] = {
    "role.selected": _roles,
    "role.changed": _changes,
    "agent.invoked": _by_role("role_agents", "agent"),
    "agent.completed": _finish("agents", "agent"),
    "agent.failed": _fail("agents", "agent"),
    "handoff.clicked": _clicked,
    "handoff.completed": _reached,
    "command.executed": _commands,
    "command.completed": _finish("commands", "command"),
    "command.failed": _fail("commands", "command"),
    "workflow.started": _begun,
    "workflow.completed": _finish("workflows", "workflow"),
    "workflow.failed": _fail("workflows", "workflow"),
}
