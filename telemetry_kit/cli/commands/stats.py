"""`telemetry-kit stats`: the product questions as tables and bars.

`insights` computes the numbers. This module only lays them out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from telemetry_kit.cli import read_report
from telemetry_kit.cli.arguments import declared, forms, given, must_be_known
from telemetry_kit.cli.count_cache import keep
from telemetry_kit.cli.output import info, print_line, width
from telemetry_kit.cli.periods import period
from telemetry_kit.cli.tables import (
    Column,
    fold,
    heading,
    numbers,
    sparkline,
    table,
)
from telemetry_kit.consent import changes
from telemetry_kit.insights.answers import percent, span
from telemetry_kit.insights.cache import count_log
from telemetry_kit.insights.counting import CountedLog
from telemetry_kit.insights.metrics import TOP, Metrics, metrics
from telemetry_kit.insights.query import Query
from telemetry_kit.paths import ProjectPaths

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass

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
    home = changes.paths_of(project)
    wanted = wanted_of(home, since, until, role)
    seen = looked(home, wanted)
    found = metrics(seen.counters, wanted, seen.roles | declared(home, "roles"), role)
    found["incomplete"] = read_report.unread(seen.problems)
    check_role(home, role, seen)
    if as_json:
        print_line(json.dumps(found, indent=2))
    elif found["events"]:
        for line in text(found, width()):
            print_line(line)
    elif not found["incomplete"]:
        info(nothing(wanted))
    keep(home, seen)
    read_report.must_be_whole(seen.problems, bool(found["events"]))


def wanted_of(home: ProjectPaths, since: str | None, until: str | None, role: str | None) -> Query:
    """Which events are wanted; a role also where it is stored as a pseudonym.

    Raises:
        CommandError: a day cannot be understood, or the role is empty.
    """
    name = given("--role", role)
    fields = {} if name is None else {"role": forms(home, "role", name)}
    return Query(*period(since, until), fields)


def check_role(home: ProjectPaths, role: str | None, seen: CountedLog) -> None:
    """Nothing where events of a role were found, or there may be some.

    Args:
        home: the project's places.
        role: as it was typed.
        seen: what was counted.

    Raises:
        CommandError: there is no such role.
    """
    asked = role is not None and not seen.counters.total("events")
    if role is not None and asked and seen.roles and not read_report.unread(seen.problems):
        must_be_known(home, "--role", "role", role, seen.roles)


def looked(home: ProjectPaths, wanted: Query) -> CountedLog:
    """The counters, with what could not be read said on stderr."""
    seen = count_log(home, wanted)
    read_report.tell(seen.problems)
    return seen


def nothing(wanted: Query) -> str:
    """What to say where there is no event to show."""
    return "no events yet" if wanted.everything else "no events there: see telemetry-kit stats"


# -- the page --------------------------------------------------------------------------------


def text(found: Metrics, max_width: int) -> Iterator[str]:
    """The whole page.

    Args:
        found: what `metrics()` returned.
        max_width: columns of the terminal.
    """
    yield from _head(found, max_width)
    yield from _roles(found, max_width)
    yield from _role_use(found, max_width, "role_commands", "command", "Commands of each role")
    yield from _cross_use(found, max_width)
    yield from _work(found, max_width, "commands", "command", "Commands")
    yield from _role_use(found, max_width, "role_agents", "agent", "Agents of each role")
    yield from _work(found, max_width, "agents", "agent", "Agents")
    yield from _work(found, max_width, "workflows", "workflow", "Workflows")
    yield from _handoffs(found, max_width)
    yield from _errors(found, max_width)
    yield from _trend(found, max_width)
    yield from _comparison(found, max_width)
    yield ""
    yield from fold(_BUCKETS, max_width)
    malformed, dropped = found["malformed"], found["dropped"]
    yield from fold(
        f"{malformed:,} malformed line{'' if malformed == 1 else 's'}, "
        f"{dropped:,} value{'' if dropped == 1 else 's'} dropped.",
        max_width,
    )


def _head(found: Metrics, max_width: int) -> Iterator[str]:
    of = f" of role {found['role']}" if found["role"] else ""
    yield from fold(
        f"{found['events']:,} events{of}, {found['since']} to {found['until']}", max_width
    )


def _section(
    title: str,
    max_width: int,
    columns: Sequence[Column],
    counts: Sequence[int] = (),
    more: int = 0,
) -> Iterator[str]:
    """A heading, a table, and how many rows more there are; nothing where there is no row.

    Args:
        title: the heading.
        max_width: columns of the terminal.
        columns: of the table.
        counts: of each row, drawn as bars.
        more: rows that are not shown.
    """
    if not columns[0].cells:
        return
    yield ""
    yield from map(heading, fold(title, max_width))
    most = max(counts, default=0) or 1
    yield from table(columns, max_width, [count / most for count in counts])
    if more > 0:
        yield from fold(f"and {more:,} more: --json has all", max_width)


def _names(title: str, rows: list[Metrics], key: str = "") -> Column:
    return Column(title, [row[key or title] for row in rows], can_fold=True)


def _counts(title: str, rows: list[Metrics], key: str = "", priority: int = 0) -> Column:
    return numbers(title, [row[key or title] for row in rows], priority)


def _roles(found: Metrics, max_width: int) -> Iterator[str]:
    rows = [row for row in found["roles"] if row["chosen"] or row["events"]][:_ROWS]
    columns = (
        _names("role", rows),
        _counts("chosen", rows),
        Column("share", [percent(row["share"]) for row in rows], right=True),
        _counts("events", rows, priority=1),
    )
    yield from _section("Roles", max_width, columns, [row["chosen"] for row in rows])
    for row in found["role_changes"][:3]:
        yield from fold(f"changed from {row['from']} to {row['to']}: {row['count']:,}", max_width)


def _role_use(found: Metrics, max_width: int, key: str, kind: str, title: str) -> Iterator[str]:
    rows: list[Metrics] = []
    seen: dict[str, int] = {}
    for row in found[key]:
        seen[row["role"]] = number = seen.get(row["role"], 0) + 1
        if number <= TOP:
            rows.append(row if number == 1 else {**row, "role": ""})
    columns = (_names("role", rows), _names(kind, rows), _counts("begun", rows, "count"))
    counts = [row["count"] for row in rows]
    return _section(f"{title}, the first {TOP}", max_width, columns, counts)


def _cross_use(found: Metrics, max_width: int) -> Iterator[str]:
    rows = found["cross_use"][:TOP]
    columns = (
        _names("used by", rows, "role"),
        _names("command", rows),
        _counts("begun", rows, "count"),
    )
    more = len(found["cross_use"]) - TOP
    counts = [row["count"] for row in rows]
    return _section("Commands of another role", max_width, columns, counts, more)


def _work(found: Metrics, max_width: int, key: str, kind: str, title: str) -> Iterator[str]:
    rows = found[key][:_ROWS]
    columns = (
        _names(kind, rows),
        _counts("begun", rows, priority=4),
        _counts("done", rows, "completed", priority=2),
        _counts("failed", rows),
        Column("rate", [percent(row["rate"]) for row in rows], right=True),
        Column("95 %", [_interval(row) for row in rows], priority=3),
        Column("p50", [span(row["p50_ms"]) for row in rows], right=True, priority=1),
        Column("p90", [span(row["p90_ms"]) for row in rows], right=True, priority=5),
        Column("p95", [span(row["p95_ms"]) for row in rows], right=True, priority=3),
    )
    return _section(title, max_width, columns, more=len(found[key]) - _ROWS)


def _interval(row: Metrics) -> str:
    return "" if row["rate"] is None else f"[{percent(row['low'])}, {percent(row['high'])}]"


def _handoffs(found: Metrics, max_width: int) -> Iterator[str]:
    rows = found["handoffs"][:_ROWS]
    columns = (
        _names("from", rows, "source"),
        _names("to", rows, "target"),
        _counts("clicked", rows),
        _counts("reached", rows, "completed", priority=2),
        Column("rate", [percent(row["rate"]) for row in rows], right=True),
        Column("95 %", [_interval(row) for row in rows], priority=1),
    )
    return _section("Hand-offs", max_width, columns, more=len(found["handoffs"]) - _ROWS)


def _errors(found: Metrics, max_width: int) -> Iterator[str]:
    rows = found["errors"][:TOP]
    columns = (
        _names("of", rows, "name"),
        _names("error", rows, "error_type"),
        _counts("count", rows),
    )
    counts = [row["count"] for row in rows]
    return _section("Errors", max_width, columns, counts, len(found["errors"]) - TOP)


def _trend(found: Metrics, max_width: int) -> Iterator[str]:
    if not found["days"]:
        return
    yield ""
    yield from map(heading, fold("Over time, events", max_width))
    for name, key in (("by day", "days"), ("by week", "weeks")):
        counts = [row["events"] for row in found[key]]
        last = f"last {counts[-1]:,}"
        line = sparkline(counts, max(max_width - len(last) - 11, 10))
        yield f"{name:<7}  {line}  {last}"[:max_width]


_MEASURES = (
    ("events", "events"),
    ("roles chosen", "roles_chosen"),
    ("commands begun", "commands_begun"),
    ("agents begun", "agents_begun"),
    ("hand-offs clicked", "handoffs_clicked"),
)


def _comparison(found: Metrics, max_width: int) -> Iterator[str]:
    both = found["comparison"]
    if both is None or not both["before"]["events"]:
        return
    now, before = both["now"], both["before"]
    names = [name for name, key in _MEASURES if now[key] or before[key]]
    keys = [key for _, key in _MEASURES if now[key] or before[key]]
    cells = [[f"{part[key]:,}" for key in keys] for part in (before, now)]
    change = [_change(before[key], now[key]) for key in keys]
    if now["command_completion_rate"] is not None or before["command_completion_rate"] is not None:
        names.append("commands completed")
        for part, column in zip((before, now), cells, strict=True):
            column.append(percent(part["command_completion_rate"]))
        change.append("")
    columns = (
        Column("", names, can_fold=True),
        Column("before", cells[0], right=True),
        Column("now", cells[1], right=True),
        Column("change", change, right=True),
    )
    yield from _section(f"The last {both['days']} days and those before", max_width, columns)


def _change(before: int, now: int) -> str:
    if not before:
        return "new"
    change = (now - before) / before
    text = f"{change:+.0%}"
    if text[1:] != "0%":
        return text
    return f"{text[0]}<1%" if change else "0%"
