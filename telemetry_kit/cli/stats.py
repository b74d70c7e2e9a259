"""`telemetry-kit stats`: the product questions as tables and bars.

The numbers are the insights' business; here they are only laid out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from telemetry_kit import control
from telemetry_kit.cli import damage
from telemetry_kit.cli.days import period
from telemetry_kit.cli.names import declared, forms, given, must_be_known
from telemetry_kit.cli.output import info, print_line, width
from telemetry_kit.cli.rollup import keep
from telemetry_kit.cli.tables import (
    Column,
    fold,
    heading,
    numbers,
    sparkline,
    table,
)
from telemetry_kit.home import Home
from telemetry_kit.insights.answers import percent, span
from telemetry_kit.insights.count import Wanted
from telemetry_kit.insights.figures import TOP, Figures, figures
from telemetry_kit.insights.rollup import Look, look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ROWS = 10
_BUCKETS = (
    "Durations are stored rounded up to a power of two: a percentile is the upper end of its "
    "bucket, and the true one lies between that and half of it. In brackets: 95 % Wilson intervals."
)


def run(
    project: str | None,
    since: str | None,
    until: str | None,
    role: str | None,
    as_json: bool,
) -> None:
    """Show which roles, commands, agents and hand-offs are used, how they end, how long they take.

    Args:
        project: a folder inside the project.
        since: first day.
        until: last day.
        role: events of this role only.
        as_json: print JSON.

    Raises:
        CommandError: a date cannot be understood, or there is no such role.
    """
    home = control.home_of(project)
    wanted = wanted_of(home, since, until, role)
    seen = looked(home, wanted)
    found = figures(seen.tally, wanted, seen.roles | declared(home, "roles"))
    found["incomplete"] = damage.unread(seen.problems)
    check_role(home, role, seen)
    if as_json:
        print_line(json.dumps(found, indent=2))
    elif found["events"]:
        for line in text(found, width()):
            print_line(line)
    elif not found["incomplete"]:
        info(nothing(wanted))
    keep(home, seen)
    damage.must_be_whole(seen.problems, bool(found["events"]))


def wanted_of(home: Home, since: str | None, until: str | None, role: str | None) -> Wanted:
    """Which events are wanted; a role also where it is stored as a pseudonym.

    Raises:
        CommandError: a day cannot be understood, or the role is empty.
    """
    name = given("--role", role)
    codes = forms(home, "role", name) if name is not None else ()
    return Wanted(*period(since, until), name or "", codes)


def check_role(home: Home, role: str | None, seen: Look) -> None:
    """Nothing where events of a role were found, or there may be some.

    Args:
        home: the project's places.
        role: as it was typed.
        seen: what was counted.

    Raises:
        CommandError: there is no such role.
    """
    asked = role is not None and not seen.tally.total("events")
    if role is not None and asked and seen.roles and not damage.unread(seen.problems):
        must_be_known(home, "--role", "role", role, seen.roles)


def looked(home: Home, wanted: Wanted) -> Look:
    """The tally, with what could not be read said on stderr."""
    seen = look(home, wanted)
    damage.tell(seen.problems)
    return seen


def nothing(wanted: Wanted) -> str:
    """What to say where there is no event to show."""
    return "no events yet" if wanted.everything else "no events there: see telemetry-kit stats"


# -- the page --------------------------------------------------------------------------------


def text(found: Figures, room: int) -> Iterator[str]:
    """The whole page.

    Args:
        found: what `figures()` returned.
        room: columns of the terminal.
    """
    yield from _head(found, room)
    yield from _roles(found, room)
    yield from _role_use(found, room, "role_commands", "command", "Commands of each role")
    yield from _cross_use(found, room)
    yield from _work(found, room, "commands", "command", "Commands")
    yield from _role_use(found, room, "role_agents", "agent", "Agents of each role")
    yield from _work(found, room, "agents", "agent", "Agents")
    yield from _work(found, room, "workflows", "workflow", "Workflows")
    yield from _handoffs(found, room)
    yield from _errors(found, room)
    yield from _trend(found, room)
    yield from _comparison(found, room)
    yield ""
    yield from fold(_BUCKETS, room)
    malformed, dropped = found["malformed"], found["dropped"]
    yield from fold(
        f"{malformed:,} malformed line{'' if malformed == 1 else 's'}, "
        f"{dropped:,} value{'' if dropped == 1 else 's'} dropped.",
        room,
    )


def _head(found: Figures, room: int) -> Iterator[str]:
    of = f" of role {found['role']}" if found["role"] else ""
    yield from fold(f"{found['events']:,} events{of}, {found['since']} to {found['until']}", room)


def _roles(found: Figures, room: int) -> Iterator[str]:
    rows = [row for row in found["roles"] if row["chosen"] or row["events"]][:_ROWS]
    if not rows:
        return
    yield ""
    yield from _titled("Roles", room)
    most = max(row["chosen"] for row in rows) or 1
    yield from table(
        (
            Column("role", [row["role"] for row in rows], can_fold=True),
            numbers("chosen", [row["chosen"] for row in rows]),
            Column("share", [percent(row["share"]) for row in rows], right=True),
            numbers("events", [row["events"] for row in rows], priority=1),
        ),
        room,
        [row["chosen"] / most for row in rows],
    )
    for row in found["role_changes"][:3]:
        yield from fold(f"changed from {row['from']} to {row['to']}: {row['count']:,}", room)


def _role_use(found: Figures, room: int, key: str, kind: str, title: str) -> Iterator[str]:
    rows: list[dict[str, Any]] = []
    seen: dict[str, int] = {}
    for row in found[key]:
        seen[row["role"]] = seen.get(row["role"], 0) + 1
        if seen[row["role"]] <= TOP:
            rows.append(row)
    if not rows:
        return
    yield ""
    yield from _titled(f"{title}, the first {TOP}", room)
    most = max(row["count"] for row in rows)
    named = [
        row["role"] if at == 0 or rows[at - 1]["role"] != row["role"] else ""
        for at, row in enumerate(rows)
    ]
    yield from table(
        (
            Column("role", named, can_fold=True),
            Column(kind, [row[kind] for row in rows], can_fold=True),
            numbers("begun", [row["count"] for row in rows]),
        ),
        room,
        [row["count"] / most for row in rows],
    )


def _cross_use(found: Figures, room: int) -> Iterator[str]:
    rows = found["cross_use"]
    if not rows:
        return
    yield ""
    yield from _titled("Commands of another role", room)
    yield from table(
        (
            Column("used by", [row["role"] for row in rows[:TOP]], can_fold=True),
            Column("command", [row["command"] for row in rows[:TOP]], can_fold=True),
            numbers("begun", [row["count"] for row in rows[:TOP]]),
        ),
        room,
        [row["count"] / rows[0]["count"] for row in rows[:TOP]],
    )
    yield from _more(room, len(rows) - TOP)


def _work(found: Figures, room: int, key: str, kind: str, title: str) -> Iterator[str]:
    rows = found[key][:_ROWS]
    if not rows:
        return
    yield ""
    yield from _titled(title, room)
    yield from table(
        (
            Column(kind, [row[kind] for row in rows], can_fold=True),
            numbers("begun", [row["begun"] for row in rows], priority=4),
            numbers("done", [row["completed"] for row in rows], priority=2),
            numbers("failed", [row["failed"] for row in rows]),
            Column("rate", [percent(row["rate"]) for row in rows], right=True),
            Column("95 %", [_interval(row) for row in rows], priority=3),
            Column("p50", [span(row["p50_ms"]) for row in rows], right=True, priority=1),
            Column("p90", [span(row["p90_ms"]) for row in rows], right=True, priority=5),
            Column("p95", [span(row["p95_ms"]) for row in rows], right=True, priority=3),
        ),
        room,
    )
    yield from _more(room, len(found[key]) - _ROWS)


def _interval(row: Figures) -> str:
    return "" if row["rate"] is None else f"[{percent(row['low'])}, {percent(row['high'])}]"


def _handoffs(found: Figures, room: int) -> Iterator[str]:
    rows = found["handoffs"][:_ROWS]
    if not rows:
        return
    yield ""
    yield from _titled("Hand-offs", room)
    yield from table(
        (
            Column("from", [row["source"] for row in rows], can_fold=True),
            Column("to", [row["target"] for row in rows], can_fold=True),
            numbers("clicked", [row["clicked"] for row in rows]),
            numbers("reached", [row["completed"] for row in rows], priority=2),
            Column("rate", [percent(row["rate"]) for row in rows], right=True),
            Column("95 %", [_interval(row) for row in rows], priority=1),
        ),
        room,
    )
    yield from _more(room, len(found["handoffs"]) - _ROWS)


def _errors(found: Figures, room: int) -> Iterator[str]:
    rows = found["errors"][:TOP]
    if not rows:
        return
    yield ""
    yield from _titled("Errors", room)
    yield from table(
        (
            Column("of", [row["name"] for row in rows], can_fold=True),
            Column("error", [row["error_type"] for row in rows], can_fold=True),
            numbers("count", [row["count"] for row in rows]),
        ),
        room,
        [row["count"] / rows[0]["count"] for row in rows],
    )
    yield from _more(room, len(found["errors"]) - TOP)


def _trend(found: Figures, room: int) -> Iterator[str]:
    if not found["days"]:
        return
    yield ""
    yield from _titled("Over time, events", room)
    for name, key in (("by day", "days"), ("by week", "weeks")):
        counts = [row["events"] for row in found[key]]
        last = f"last {counts[-1]:,}"
        line = sparkline(counts, max(room - len(last) - 11, 10))
        yield f"{name:<7}  {line}  {last}"[:room]


_MEASURES = (
    ("events", "events"),
    ("roles chosen", "roles_chosen"),
    ("commands begun", "commands_begun"),
    ("agents begun", "agents_begun"),
    ("hand-offs clicked", "handoffs_clicked"),
)


def _comparison(found: Figures, room: int) -> Iterator[str]:
    both = found["comparison"]
    if both is None or not both["before"]["events"]:
        return
    now, before = both["now"], both["before"]
    yield ""
    yield from _titled(f"The last {both['days']} days and those before", room)
    names = [name for name, key in _MEASURES if now[key] or before[key]]
    keys = [key for _, key in _MEASURES if now[key] or before[key]]
    cells = [[f"{part[key]:,}" for key in keys] for part in (before, now)]
    change = [_change(before[key], now[key]) for key in keys]
    if now["command_completion_rate"] is not None or before["command_completion_rate"] is not None:
        names.append("commands completed")
        for part, column in zip((before, now), cells, strict=True):
            column.append(percent(part["command_completion_rate"]))
        change.append("")
    yield from table(
        (
            Column("", names, can_fold=True),
            Column("before", cells[0], right=True),
            Column("now", cells[1], right=True),
            Column("change", change, right=True),
        ),
        room,
    )


def _change(before: int, now: int) -> str:
    if not before:
        return "new"
    change = (now - before) / before
    text = f"{change:+.0%}"
    if text[1:] != "0%":
        return text
    return f"{text[0]}<1%" if change else "0%"


def _titled(title: str, room: int) -> Iterator[str]:
    return map(heading, fold(title, room))


def _more(room: int, count: int) -> Iterator[str]:
    if count > 0:
        yield from fold(f"and {count:,} more: --json has all", room)
