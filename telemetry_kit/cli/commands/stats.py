"""`telemetry-kit stats`: the answers to the product questions as tables and bars.

`insights` computes the numbers; this module lays them out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from operator import itemgetter

from telemetry_kit._runtime import runtime
from telemetry_kit.cli import read_report
from telemetry_kit.cli.arguments import check_known, declared, stored_forms
from telemetry_kit.cli.count_cache import keep
from telemetry_kit.cli.output import counted, info, width
from telemetry_kit.cli.periods import period
from telemetry_kit.cli.tables import Column, fold, heading, numbers, sparkline, table
from telemetry_kit.consent import changes
from telemetry_kit.insights.answers import percent, span
from telemetry_kit.insights.cache import count_log
from telemetry_kit.insights.counting import CountedLog
from telemetry_kit.insights.metrics import TOP, Metrics, metrics
from telemetry_kit.insights.query import Query
from telemetry_kit.paths import ProjectPaths

MAX_ROWS = 10
FOOTNOTE = (
    "Durations are stored rounded up to a power of two. A percentile is the upper end of its "
    "bucket; the exact value is between half of it and that. In brackets: 95 % Wilson intervals."
)
MEASURES = (
    ("events", "events"),
    ("roles selected", "roles_chosen"),
    ("commands started", "commands_begun"),
    ("agents started", "agents_begun"),
    ("hand-offs clicked", "handoffs_clicked"),
)


def run(
    project: str | None, since: str | None, until: str | None, role: str | None, as_json: bool
) -> None:
    """Show usage, results, durations and the trend.

    Raises:
        CommandError: a day is invalid, or there is no such role.
    """
    paths = changes.paths_of(project)
    wanted, seen = count_events(paths, since, until, role)
    found = metrics(seen.counters, wanted, seen.roles | declared(paths, "roles"), role)
    found["incomplete"] = read_report.unread_files(seen.problems)
    if as_json:
        print(json.dumps(found, indent=2))
    elif found["events"]:
        for line in page(found, width()):
            print(line)
    elif not found["incomplete"]:
        info(no_events(wanted))
    keep(paths, seen)
    read_report.check_complete(seen.problems, bool(found["events"]))


def count_events(
    paths: ProjectPaths, since: str | None, until: str | None, role: str | None
) -> tuple[Query, CountedLog]:
    """Count the events of a period and a role, and report unreadable files on stderr.

    Raises:
        CommandError: a day is invalid, or there is no such role.
    """
    fields = {} if role is None else {"role": stored_forms(paths, "role", role)}
    wanted = Query(*period(since, until), fields)
    seen = count_log(paths, wanted)
    read_report.print_problems(seen.problems)
    is_complete = not read_report.unread_files(seen.problems)
    if role is not None and seen.roles and is_complete and not seen.counters.total("events"):
        check_known(paths, "role", role, seen.roles)
    return wanted, seen


def no_events(wanted: Query) -> str:
    """Return the message if there is no event to show."""
    return (
        "no events yet"
        if wanted.everything
        else f"no such events: see {runtime.command_line} stats"
    )


# -- the page ----------------------------------------------------------------------------------


def page(found: Metrics, max_width: int) -> Iterator[str]:
    """Lay out the result of `metrics()`."""
    role = f" of role {found['role']}" if found["role"] else ""
    events = counted(found["events"], "event")
    yield from fold(f"{events}{role}, {found['since']} to {found['until']}", max_width)
    yield from role_section(found, max_width)
    yield from role_use_section(found, max_width, "command")
    users = {"used by": "role", "command": "command"}
    yield from count_section("Commands of another role", max_width, found["cross_use"], users)
    yield from work_section(found, max_width, "commands")
    yield from role_use_section(found, max_width, "agent")
    yield from work_section(found, max_width, "agents")
    yield from work_section(found, max_width, "workflows")
    yield from handoff_section(found, max_width)
    errors = {"of": "name", "error": "error_type"}
    yield from count_section("Errors", max_width, found["errors"], errors, "count")
    yield from trend_section(found, max_width)
    yield from comparison_section(found, max_width)
    yield ""
    yield from fold(FOOTNOTE, max_width)
    malformed, dropped = found["malformed"], found["dropped"]
    skipped = f"{counted(malformed, 'malformed line')}, {counted(dropped, 'value')} dropped."
    yield from fold(skipped, max_width)


def section(
    title: str, max_width: int, columns: Sequence[Column], counts: Sequence[int] = (), rows: int = 0
) -> Iterator[str]:
    """Lay out a heading and a table, or nothing if the table is empty.

    Args:
        title: the heading.
        max_width: columns of the terminal.
        columns: the columns of the table.
        counts: the length of the bar of each row.
        rows: how many rows there are, shown or not.
    """
    shown = len(columns[0].cells)
    if not shown:
        return
    yield ""
    yield from map(heading, fold(title, max_width))
    most = max(counts, default=0) or 1
    yield from table(columns, max_width, [count / most for count in counts])
    if rows > shown:
        yield from fold(f"and {rows - shown:,} more: --json shows all", max_width)


def names(title: str, rows: list[Metrics], key: str = "") -> Column:
    """Make a column of names."""
    return Column(title, [row[key or title] for row in rows], can_fold=True)


def counts_of(title: str, rows: list[Metrics], key: str = "", priority: int = 0) -> Column:
    """Make a column of counts."""
    return numbers(title, [row[key or title] for row in rows], priority)


def role_section(found: Metrics, max_width: int) -> Iterator[str]:
    """Lay out how often each role is selected."""
    rows = [row for row in found["roles"] if row["chosen"] or row["events"]][:MAX_ROWS]
    columns = (
        names("role", rows),
        counts_of("selected", rows, "chosen"),
        Column("share", [percent(row["share"]) for row in rows], right=True),
        counts_of("events", rows, priority=1),
    )
    yield from section("Roles", max_width, columns, [row["chosen"] for row in rows])
    for row in found["role_changes"][:3]:
        yield from fold(f"changed from {row['from']} to {row['to']}: {row['count']:,}", max_width)


def role_use_section(found: Metrics, max_width: int, kind: str) -> Iterator[str]:
    """Lay out the commands or agents of each role; the role is in its first row only."""
    rows: list[Metrics] = []
    for _, group in groupby(found[f"role_{kind}s"], key=itemgetter("role")):
        first, *others = islice(group, TOP)
        rows += [first, *({**row, "role": ""} for row in others)]
    title = f"{kind.title()}s of each role, the first {TOP}"
    return count_section(title, max_width, rows, {"role": "role", kind: kind}, most=len(rows))


def count_section(
    title: str,
    max_width: int,
    rows: list[Metrics],
    columns: dict[str, str],
    count: str = "started",
    most: int = TOP,
) -> Iterator[str]:
    """Lay out names with their counts; `columns` has the titles and keys of the names."""
    shown = rows[:most]
    cells = [names(name, shown, key) for name, key in columns.items()]
    cells.append(counts_of(count, shown, "count"))
    return section(title, max_width, cells, [row["count"] for row in shown], len(rows))


def work_section(found: Metrics, max_width: int, key: str) -> Iterator[str]:
    """Lay out commands, agents or workflows with results and durations."""
    rows = found[key][:MAX_ROWS]
    columns = (
        names(key.removesuffix("s"), rows),
        counts_of("started", rows, "begun", priority=4),
        counts_of("done", rows, "completed", priority=2),
        counts_of("failed", rows),
        Column("rate", [percent(row["rate"]) for row in rows], right=True),
        Column("95 %", [interval(row) for row in rows], priority=3),
        Column("p50", [span(row["p50_ms"]) for row in rows], right=True, priority=1),
        Column("p90", [span(row["p90_ms"]) for row in rows], right=True, priority=5),
        Column("p95", [span(row["p95_ms"]) for row in rows], right=True, priority=3),
    )
    return section(key.title(), max_width, columns, rows=len(found[key]))


def interval(row: Metrics) -> str:
    """Return the confidence interval of a rate."""
    return "" if row["rate"] is None else f"[{percent(row['low'])}, {percent(row['high'])}]"


def handoff_section(found: Metrics, max_width: int) -> Iterator[str]:
    """Lay out hand-offs with the rate of those that were followed."""
    rows = found["handoffs"][:MAX_ROWS]
    columns = (
        names("from", rows, "source"),
        names("to", rows, "target"),
        counts_of("clicked", rows),
        counts_of("completed", rows, priority=2),
        Column("rate", [percent(row["rate"]) for row in rows], right=True),
        Column("95 %", [interval(row) for row in rows], priority=1),
    )
    return section("Hand-offs", max_width, columns, rows=len(found["handoffs"]))


def trend_section(found: Metrics, max_width: int) -> Iterator[str]:
    """Draw the events of each day and of each week."""
    if not found["days"]:
        return
    yield ""
    yield from map(heading, fold("Events over time", max_width))
    for name, key in (("by day", "days"), ("by week", "weeks")):
        counts = [row["events"] for row in found[key]]
        last = f"last {counts[-1]:,}"
        line = sparkline(counts, max(max_width - len(last) - 11, 10))
        yield f"{name:<7}  {line}  {last}"[:max_width]


def comparison_section(found: Metrics, max_width: int) -> Iterator[str]:
    """Lay out the last days beside the days before them."""
    both = found["comparison"]
    if both is None or not both["before"]["events"]:
        return
    now, before = both["now"], both["before"]
    rows = [
        (name, f"{before[key]:,}", f"{now[key]:,}", change(before[key], now[key]))
        for name, key in MEASURES
        if now[key] or before[key]
    ]
    rates = [part["command_completion_rate"] for part in (before, now)]
    if rates != [None, None]:
        rows.append(("commands completed", percent(rates[0]), percent(rates[1]), ""))
    columns = [
        Column(title, texts, right=bool(title), can_fold=not title)
        for title, *texts in zip(("", "before", "now", "change"), *rows, strict=True)
    ]
    yield from section(f"The last {both['days']} days and those before", max_width, columns)


def change(before: int, now: int) -> str:
    """Return a relative change in percent."""
    if not before:
        return "new"
    share = (now - before) / before
    text = f"{share:+.0%}"
    if text[1:] != "0%":
        return text
    return f"{text[0]}<1%" if share else "0%"
