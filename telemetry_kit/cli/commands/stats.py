"""`telemetry-kit stats`: the answers to the product questions as tables and bars.

`insights` computes the numbers; this module lays them out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, islice
from operator import itemgetter

from telemetry_kit._runtime import runtime
from telemetry_kit._units import counted, dates, percent, shares, span
from telemetry_kit.cli import read_report
from telemetry_kit.cli.all_projects import count_projects
from telemetry_kit.cli.arguments import check_choice, check_known, stored_forms
from telemetry_kit.cli.count_cache import keep
from telemetry_kit.cli.output import info, width
from telemetry_kit.cli.periods import period
from telemetry_kit.cli.tables import Column, fold, heading, numbers, sparkline, table
from telemetry_kit.consent import changes
from telemetry_kit.insights import counting
from telemetry_kit.insights.cache import count_log
from telemetry_kit.insights.counting import CountedLog
from telemetry_kit.insights.metrics import NAMES, Metrics
from telemetry_kit.insights.query import Query
from telemetry_kit.insights.reading import metrics_of
from telemetry_kit.paths import ProjectPaths

MAX_ROWS = 10
MAX_SHORT_ROWS = 5
# The tables of the result that are sorted by a count.
RANKED = (
    *("types", "roles", "role_changes", "cross_use", "commands", "agents", "workflows"),
    *("handoffs", "invokers", "versions", "outcomes", "errors"),
)
FOOTNOTE = (
    "Durations are stored rounded up to two significant digits, so the exact value is up to 10 % "
    "lower. In brackets: 95 % Wilson intervals. Days are UTC."
)
MEASURES = (
    ("events", "events"),
    ("roles selected", "roles_chosen"),
    ("commands started", "commands_begun"),
    ("agents started", "agents_begun"),
    ("hand-offs clicked", "handoffs_clicked"),
)


def run(
    project: str | None,
    since: str | None,
    until: str | None,
    role: str | None,
    agent: str | None,
    of_command: str | None,
    top: int | None,
    by: str | None,
    all_projects: bool,
    as_json: bool,
) -> None:
    """Show usage, results, durations and the trend.

    Raises:
        CommandError: a day is invalid, or there is no such name.
    """
    check_choice("--by", by, ("day", "week"))
    paths = changes.paths_of(project)
    asked = {"role": role, "agent": agent, "command": of_command}
    names = {field: text for field, text in asked.items() if text is not None}
    if all_projects and not paths.is_user_scope:
        show_all_projects(paths, since, until, names, top, by, as_json)
        return
    if all_projects:
        info(f"{paths.app} has one log for all folders, and no projects.")
    wanted, seen = count_events(paths, since, until, names)
    found = metrics_of(paths, wanted, seen, names, by)
    if as_json:
        found = found if top is None else first_rows(found, top)
        whole = {"app": paths.app, "projects": [], "total": found} if all_projects else found
        print(json.dumps(whole, indent=2))
    elif found["events"]:
        for line in page(found, width(), top):
            print(line)
    elif not found["incomplete"]:
        info(no_events(wanted))
    keep(paths, seen)
    read_report.check_complete(seen.problems, bool(found["events"]))


def show_all_projects(
    paths: ProjectPaths,
    since: str | None,
    until: str | None,
    names: Mapping[str, str],
    top: int | None,
    by: str | None,
    as_json: bool,
) -> None:
    """Show the counts of each project of the app, and those of all together.

    Raises:
        CommandError: a day is invalid, there is no such name, or a file could not be read.
    """
    rows, wanted, seen = count_projects(paths, since, until, names, by)
    total = metrics_of(paths, wanted, seen, names, by)
    if as_json:
        if top is not None:
            total = first_rows(total, top)
            for row in rows:
                row["stats"] = row["stats"] and first_rows(row["stats"], top)
        print(json.dumps({"app": paths.app, "projects": rows, "total": total}, indent=2))
    elif total["events"]:
        for line in project_section(rows, total, width(), top or MAX_ROWS):
            print(line)
        print()
        for line in page(total, width(), top):
            print(line)
    elif not total["incomplete"]:
        info(no_events(wanted) if rows else f"There is no project with events of {paths.app} yet.")
    read_report.check_complete(seen.problems, bool(total["events"]))


def count_events(
    paths: ProjectPaths, since: str | None, until: str | None, names: Mapping[str, str]
) -> tuple[Query, CountedLog]:
    """Count the events of a period with some names, and report unreadable files on stderr.

    Args:
        paths: the project's paths.
        since: the first day, as the user typed it.
        until: the last day.
        names: the role, agent and command that the events have, as the user typed them.

    Raises:
        CommandError: a day is invalid, or there is no such name.
    """
    fields = {field: stored_forms(paths, field, text) for field, text in names.items()}
    wanted = Query(*period(since, until), fields)
    seen = count_log(paths, wanted)
    read_report.print_problems(seen.problems)
    is_complete = not read_report.unread_files(seen.problems)
    if names and is_complete and not seen.counters.total("events"):
        present = counting.names(paths)
        for field, text in names.items() if any(present.values()) else ():
            check_known(paths, field, text, present[field])
    return wanted, seen


def no_events(wanted: Query) -> str:
    """Return the message if there is no event to show."""
    return (
        "no events yet"
        if wanted.everything
        else f"no such events: see {runtime.command_line} stats"
    )


def first_rows(found: Metrics, top: int) -> Metrics:
    """Return the result of `metrics()` with the first rows of each ranked table only."""
    short = {key: found[key][:top] for key in RANKED}
    short |= {key: first_of_each_role(found[key], top) for key in ("role_commands", "role_agents")}
    return found | short


def first_of_each_role(rows: list[Metrics], top: int) -> list[Metrics]:
    """Return the first rows of each role."""
    groups = groupby(rows, key=itemgetter("role"))
    return [row for _, group in groups for row in islice(group, top)]


# -- the page ----------------------------------------------------------------------------------


def page(found: Metrics, max_width: int, top: int | None = None) -> Iterator[str]:
    """Lay out the result of `metrics()`.

    Args:
        found: the result.
        max_width: columns of the terminal.
        top: the number of rows of each table; by default 10, or 5 of the less important ones.
    """
    rows, short = top or MAX_ROWS, top or MAX_SHORT_ROWS
    asked = ", ".join(f"{name} {found[name]}" for name in NAMES if found[name])
    events = counted(found["events"], "event") + (f" of {asked}" if asked else "")
    if found["sessions"]:
        events += f" in {counted(found['sessions'], 'session')}"
    yield from fold(f"{events}, {dates(found['since'], found['until'])}", max_width)
    yield from role_section(found, max_width, rows)
    yield from role_use_section(found, max_width, "command", short)
    users = {"used by": "role", "command": "command"}
    yield from count_section(
        "Commands of another role", found, "cross_use", max_width, users, short
    )
    yield from work_section(found, max_width, "commands", rows)
    yield from role_use_section(found, max_width, "agent", short)
    yield from work_section(found, max_width, "agents", rows)
    yield from work_section(found, max_width, "workflows", rows)
    yield from handoff_section(found, max_width, rows)
    if [row["invoker"] for row in found["invokers"]] != ["person"]:
        yield from origin_section("Run by", found["invokers"], "invoker", max_width, short)
    yield from origin_section("Versions", found["versions"], "app_version", max_width, short)
    errors = {"of": "name", "error": "error_type"}
    yield from count_section("Errors", found, "errors", max_width, errors, short)
    yield from period_section(found, max_width) if found["by"] else trend_section(found, max_width)
    yield from comparison_section(found, max_width)
    yield ""
    yield from fold(FOOTNOTE, max_width)
    malformed, dropped = found["malformed"], found["dropped"]
    skipped = f"{counted(malformed, 'malformed line')}, {counted(dropped, 'value')} dropped."
    yield from fold(skipped, max_width)


def section(
    title: str,
    max_width: int,
    columns: Sequence[Column],
    counts: Sequence[int] = (),
    hidden: int = 0,
    all_rows: int = 0,
) -> Iterator[str]:
    """Lay out a heading and a table, or nothing if the table is empty.

    Args:
        title: the heading.
        max_width: columns of the terminal.
        columns: the columns of the table.
        counts: the length of the bar of each row, as far as the rows have bars.
        hidden: how many rows are not shown.
        all_rows: the value of `--top` that shows them, too.
    """
    shown = len(columns[0].cells)
    if not shown:
        return
    yield ""
    yield from map(heading, fold(title, max_width))
    most = max(counts, default=0) or 1
    bars = [count / most for count in counts] + [0] * (shown - len(counts)) if counts else []
    yield from table(columns, max_width, bars)
    if hidden > 0:
        yield from fold(f"and {hidden:,} more: --top {all_rows} shows all", max_width)


def with_total(rows: list[Metrics], top: int, name: str, total: Metrics) -> list[Metrics]:
    """Return the first rows, and of several rows also their total.

    Args:
        rows: all rows.
        top: how many are shown.
        name: the key of the name.
        total: the sums of all rows.
    """
    if len(rows) < 2:
        return rows
    return [*rows[:top], {**dict.fromkeys(rows[0], ""), **total, name: f"total of {len(rows):,}"}]


def names(title: str, rows: list[Metrics], key: str = "") -> Column:
    """Make a column of names."""
    return Column(title, [row[key or title] for row in rows], can_fold=True)


def counts_of(title: str, rows: list[Metrics], key: str = "", priority: int = 0) -> Column:
    """Make a column of counts."""
    return numbers(title, [row[key or title] for row in rows], priority)


def project_section(
    projects: list[Metrics], total: Metrics, max_width: int, top: int
) -> Iterator[str]:
    """Lay out the totals of each project, the one with the most events first.

    Args:
        projects: the rows of `count_projects()`.
        total: the result of `metrics()` for all projects.
        max_width: columns of the terminal.
        top: how many projects are shown.
    """
    every = [
        {"project": row["project"], "last day": row["last_day"] or "-", **totals_of(row["stats"])}
        for row in projects
        if row["stats"]
    ]
    every.sort(key=lambda row: -row["events"])
    last_day = max(row["last_day"] or "" for row in projects)
    rows = with_total(every, top, "project", {**totals_of(total), "last day": last_day})
    columns = (
        names("project", rows),
        counts_of("events", rows),
        counts_of("sessions", rows, priority=2),
        counts_of("commands", rows, priority=1),
        counts_of("agents", rows, priority=3),
        Column("last day", [row["last day"] for row in rows]),
    )
    events = [row["events"] for row in every[:top]]
    lines = section("Projects", max_width, columns, events, len(every) - top, len(every))
    yield from islice(lines, 1, None)


def totals_of(found: Metrics) -> Metrics:
    """Return the totals of a project for its row."""
    started = {key: found["totals"][key]["begun"] for key in ("commands", "agents")}
    return {"events": found["events"], "sessions": found["sessions"], **started}


def role_section(found: Metrics, max_width: int, top: int) -> Iterator[str]:
    """Lay out how often each role is selected."""
    every = [row for row in found["roles"] if row["chosen"] or row["events"]]
    percents = shares([row["chosen"] for row in every])
    rows = with_total(every, top, "role", found["totals"]["roles"])
    columns = (
        names("role", rows),
        counts_of("selected", rows, "chosen"),
        Column("share", [*percents[:top], *[""] * (len(every) > 1)], right=True),
        counts_of("events", rows, priority=1),
    )
    selected = [row["chosen"] for row in every[:top]]
    yield from section("Roles", max_width, columns, selected, len(every) - top, len(every))
    for row in found["role_changes"][:3]:
        yield from fold(f"changed from {row['from']} to {row['to']}: {row['count']:,}", max_width)


def role_use_section(found: Metrics, max_width: int, kind: str, top: int) -> Iterator[str]:
    """Lay out the commands or agents of each role; the role is in its first row only."""
    every = found[f"role_{kind}s"]
    rows = first_of_each_role(every, top)
    cells = [
        {**row, "role": "" if at and rows[at - 1]["role"] == row["role"] else row["role"]}
        for at, row in enumerate(rows)
    ]
    most = max((len([*group]) for _, group in groupby(every, key=itemgetter("role"))), default=0)
    columns = (names("role", cells), names(kind, cells), counts_of("started", cells, "count"))
    counts = [row["count"] for row in rows]
    title = f"{kind.title()}s of each role"
    title = f"{title}, the first {top:,}" if len(rows) < len(every) else title
    return section(title, max_width, columns, counts, len(every) - len(rows), most)


def count_section(
    title: str, found: Metrics, key: str, max_width: int, columns: dict[str, str], top: int
) -> Iterator[str]:
    """Lay out names with their counts; `columns` has the titles and keys of the names."""
    every = found[key]
    rows = with_total(every, top, next(iter(columns.values())), found["totals"][key])
    cells = [names(name, rows, key) for name, key in columns.items()]
    cells.append(counts_of("count" if key == "errors" else "started", rows, "count"))
    counts = [row["count"] for row in every[:top]]
    return section(title, max_width, cells, counts, len(every) - top, len(every))


def work_section(found: Metrics, max_width: int, key: str, top: int) -> Iterator[str]:
    """Lay out commands, agents or workflows with results and durations."""
    kind, every = key.removesuffix("s"), found[key]
    rows = with_total(every, top, kind, found["totals"][key])
    columns = (
        names(kind, rows),
        counts_of("started", rows, "begun", priority=4),
        counts_of("done", rows, "completed", priority=2),
        counts_of("failed", rows),
        counts_of("not finished", rows, "unfinished", priority=3),
        Column("rate", [percent(row["rate"]) for row in rows], right=True),
        Column("95 %", [interval(row) for row in rows], priority=5),
        Column("p50", [span(row["p50_ms"]) for row in rows], right=True, priority=1),
        Column("p90", [span(row["p90_ms"]) for row in rows], right=True, priority=6),
        Column("p95", [span(row["p95_ms"]) for row in rows], right=True, priority=3),
    )
    return section(key.title(), max_width, columns, (), len(every) - top, len(every))


def interval(row: Metrics) -> str:
    """Return the confidence interval of a rate."""
    return "" if row["rate"] is None else f"[{percent(row['low'])}, {percent(row['high'])}]"


def handoff_section(found: Metrics, max_width: int, top: int) -> Iterator[str]:
    """Lay out hand-offs with the rate of those that were followed."""
    every = found["handoffs"]
    rows = with_total(every, top, "source", found["totals"]["handoffs"])
    columns = (
        names("from", rows, "source"),
        names("to", rows, "target"),
        counts_of("clicked", rows),
        counts_of("completed", rows, priority=2),
        Column("rate", [percent(row["rate"]) for row in rows], right=True),
        Column("95 %", [interval(row) for row in rows], priority=1),
    )
    return section("Hand-offs", max_width, columns, (), len(every) - top, len(every))


def origin_section(
    title: str, every: list[Metrics], key: str, max_width: int, top: int
) -> Iterator[str]:
    """Lay out invokers or versions with the rate of commands that completed."""
    rows = every[:top]
    columns = (
        names(key.removeprefix("app_"), rows, key),
        counts_of("events", rows),
        counts_of("commands done", rows, "completed", priority=2),
        counts_of("failed", rows, priority=3),
        Column("rate", [percent(row["rate"]) for row in rows], right=True),
        Column("95 %", [interval(row) for row in rows], priority=1),
    )
    return section(title, max_width, columns, (), len(every) - top, len(every))


def trend_section(found: Metrics, max_width: int) -> Iterator[str]:
    """Draw the events of each day and of each week, with the first and the last date below."""
    if not found["days"]:
        return
    yield ""
    yield from map(heading, fold("Events over time", max_width))
    for name, key in (("day", "days"), ("week", "weeks")):
        rows = found[key]
        last = f"last {rows[-1]['events']:,}"
        line = sparkline([row["events"] for row in rows], max(max_width - len(last) - 11, 10))
        yield f"by {name:<4}  {line}  {last}"[:max_width]
        yield f"         {axis(rows[-len(line)][name], rows[-1][name], len(line))}"[:max_width]


def axis(first: str, last: str, columns: int) -> str:
    """Return the dates below the ends of a line, or beside each other if it is too short."""
    if first == last:
        return first
    gap = columns - len(first) - len(last)
    return f"{first}{' ' * gap}{last}" if gap > 1 else f"{first} to {last}"


def period_section(found: Metrics, max_width: int) -> Iterator[str]:
    """Lay out the events of each day, or of each week, by what began."""
    rows = found["periods"]
    measures = enumerate(MEASURES[1:], 2)
    columns = [
        Column({"week": "week from", "day": "day"}[found["by"]], [row["since"] for row in rows]),
        counts_of("events", rows),
        *(
            counts_of(name, rows, key, priority)
            for priority, (name, key) in measures
            if any(row[key] for row in rows)
        ),
        Column(
            "commands done",
            [percent(row["command_completion_rate"]).strip("?") for row in rows],
            right=True,
            priority=1,
        ),
    ]
    counts = [row["events"] for row in rows]
    yield from section(f"Events by {found['by']}", max_width, columns, counts)


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
    is_complete = both["before_is_complete"]
    shown = columns if is_complete else columns[:-1]
    title = " compared with ".join(dates(part["since"], part["until"]) for part in (now, before))
    yield from section(title.replace(" (UTC)", "", 1), max_width, shown)
    if not is_complete:
        note = f"No change in percent: the first event is of {both['first_day']}"
        yield from fold(f"{note}, later than {before['since']}.", max_width)


def change(before: int, now: int) -> str:
    """Return a relative change in percent."""
    if not before:
        return "new"
    share = (now - before) / before
    text = f"{share:+,.0%}"
    if text[1:] != "0%":
        return text
    return f"{text[0]}<1%" if share else "0%"
