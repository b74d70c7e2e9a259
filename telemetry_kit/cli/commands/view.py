"""`telemetry-kit view`: show the recorded events, newest first, as trees, or as they arrive."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice

from telemetry_kit._units import counted, span
from telemetry_kit.cli import read_report
from telemetry_kit.cli.arguments import check_choice, check_known, stored_forms
from telemetry_kit.cli.count_cache import keep
from telemetry_kit.cli.output import USAGE, CommandError, has_reader, info, safe, width
from telemetry_kit.cli.periods import period
from telemetry_kit.cli.session_tree import render_tree
from telemetry_kit.cli.tables import Column, fold, table
from telemetry_kit.consent import changes
from telemetry_kit.insights.cache import count_log
from telemetry_kit.insights.query import Query
from telemetry_kit.insights.selection import Following, count_sessions, newest, sessions
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.schema import catalog
from telemetry_kit.storage.parser import Event
from telemetry_kit.storage.segments import ReadReport

TITLES = ("when (UTC)", "event", "role", "command", "agent", "outcome", "more")
POLL_SECONDS = 0.2
PAGE_EVENTS = 10_000
PSEUDONYM = re.compile("h:[0-9a-f]{12}")
OTHER_FIELDS = {
    "previous_role": "before: {}",
    "workflow": "workflow {}",
    "error_type": "{}",
    "exit_code": "exit {}",
}
IDS = (
    "event_id",
    "seq",
    "project_id",
    "session_id",
    "span_id",
    "parent_id",
    "source",
    "invoker",
    "app_version",
    "key_epoch",
    "schema_version",
)


def run(
    project: str | None,
    limit: int,
    since: str | None,
    until: str | None,
    event: str | None,
    role: str | None,
    agent: str | None,
    of_command: str | None,
    outcome: str | None,
    other: str | None,
    wide: bool,
    as_json: bool,
    follow: bool,
    tree: bool,
) -> None:
    """Show the recorded events.

    Raises:
        CommandError: a day or a name is invalid, or two options exclude each other.
        ConsentError: there is no such project.
    """
    if tree and (follow or as_json or wide):
        raise CommandError("--tree cannot be used with --follow, --json or --wide", USAGE)
    by_pseudonym = other is not None and is_pseudonym(other)
    paths = changes.paths_of(project if other is None or by_pseudonym else other)
    check_choice("--event", event, catalog.EVENTS)
    check_choice("--outcome", outcome, catalog.OUTCOMES)
    other = other if by_pseudonym else None
    fields = {"event_type": event, "outcome": outcome, "project_id": other}
    asked = {"role": role, "agent": agent, "command": of_command}
    names = {field: text for field, text in asked.items() if text is not None}
    wanted: dict[str, str | frozenset[str]] = {
        **{field: text for field, text in fields.items() if text is not None},
        **{field: stored_forms(paths, field, text) for field, text in names.items()},
    }
    chosen = Query(*period(since, until), wanted)
    problems = ReadReport()
    if tree:
        shown = show_trees(paths, limit, chosen, problems)
        report_more(shown, limit, "session", partial(count_sessions, paths, chosen))
    elif follow:
        shown = show_new(paths, limit, chosen, wide, as_json)
    else:
        shown = show_events(paths, limit, chosen, wide, as_json, problems)
        if not as_json:
            report_more(shown, limit, "event", partial(count_events, paths, chosen))
    read_report.print_problems(problems)
    if not shown and not read_report.unread_files(problems):
        report_no_events(paths, chosen, names)
    read_report.check_complete(problems, bool(shown))


def is_pseudonym(other: str) -> bool:
    """Whether the value of `--project` is a pseudonym.

    Raises:
        CommandError: it is neither a pseudonym nor a folder.
    """
    if os.path.isdir(other):
        return False
    if not other.startswith(catalog.PSEUDONYM_PREFIX):
        raise CommandError(f"--project {safe(other[:200])!r}: there is no such folder", USAGE)
    if not PSEUDONYM.fullmatch(other):
        problem = f"--project {safe(other[:40])!r}"
        raise CommandError(f"{problem}: a pseudonym is h: and 12 hex digits", USAGE)
    return True


def show_events(
    paths: ProjectPaths, limit: int, chosen: Query, wide: bool, as_json: bool, problems: ReadReport
) -> int:
    """Print events, newest first, and return their number."""
    events = newest(paths, limit, chosen, problems)
    # One page at a time, so that any number of events takes the same memory.
    shown = 0
    while page := list(islice(events, PAGE_EVENTS)):
        rows = [] if as_json else [cells(event, wide) for event in page]
        for line in map(to_json, page) if as_json else rows_as_table(rows, width()):
            print(line)
        shown += len(page)
    return shown


def report_more(shown: int, limit: int, noun: str, count: Callable[[], int]) -> None:
    """Print how many of all events or sessions are shown, unless all are.

    Args:
        shown: how many are shown.
        limit: how many were asked for.
        noun: what they are.
        count: returns how many there are. The user sees the others before this ends.
    """
    if shown < limit:
        return
    sys.stdout.flush()
    total = count()
    if total > shown:
        print()
        for line in fold(f"{shown:,} of {counted(total, noun)} shown: -n N shows more", width()):
            print(line)


def count_events(paths: ProjectPaths, chosen: Query) -> int:
    """Return the number of events that a query accepts, from the count cache if possible."""
    if chosen.fields.keys() - {"event_type"}:
        return count_log(paths, chosen).counters.total("events")
    # The table of days has all of them by type.
    seen = count_log(paths)
    keep(paths, seen)
    types = chosen.fields.get("event_type")
    return sum(
        count
        for (day, name), count in seen.counters.tables["days"].items()
        if chosen.has_day(day) and (types is None or name in types)
    )


def to_json(event: Event) -> str:
    """Return one event as a JSON line."""
    return json.dumps(event, separators=(",", ":"))


def report_no_events(paths: ProjectPaths, chosen: Query, names: dict[str, str]) -> None:
    """Report that no event matches.

    Raises:
        CommandError: a name is unknown.
    """
    if chosen.everything or next(newest(paths, 1, Query(), ReadReport()), None) is None:
        info("no events yet")
        return
    if names:
        from telemetry_kit.insights import counting  # deferred: only if nothing was found

        present = counting.names(paths)
        for field, text in names.items():
            check_known(paths, field, text, present[field])
    info("no such events")


def show_trees(paths: ProjectPaths, limit: int, chosen: Query, problems: ReadReport) -> int:
    """Print sessions as trees and return their number."""
    shown = 0
    for session, events in sessions(paths, limit, chosen, problems):
        if shown:
            print()
        for line in render_tree(session, events, width()):
            print(line)
        shown += 1
    return shown


def show_new(paths: ProjectPaths, limit: int, chosen: Query, wide: bool, as_json: bool) -> int:
    """Print the last events, oldest first, and then each new one until Ctrl-C."""
    following = Following(paths, chosen)
    shown = list(newest(paths, limit, chosen, ReadReport()))
    for event in reversed(shown):
        print_event(event, wide, as_json)
    sys.stdout.flush()
    # An event that arrives between the two calls is returned by both.
    known = {event["event_id"] for event in shown if "event_id" in event}
    try:
        while has_reader():
            for event in following.news():
                if event.get("event_id") not in known:
                    print_event(event, wide, as_json)
            sys.stdout.flush()
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        pass
    return 1  # so that no message about missing events follows


def print_event(event: Event, wide: bool, as_json: bool) -> None:
    """Print one event without a table."""
    row = "  ".join(filter(None, cells(event, wide)))
    for line in (to_json(event),) if as_json else fold(row, width()):
        print(line)


# -- one event as a row ------------------------------------------------------------------------


def rows_as_table(rows: Sequence[Sequence[str]], max_width: int) -> Iterator[str]:
    """Lay out events, each as the result of `cells`, as a table without empty columns."""
    columns = [
        Column(title, texts, can_fold=True, remark=title == TITLES[-1])
        for title, *texts in zip(TITLES, *rows, strict=True)
        if any(texts)
    ]
    return table(columns, max_width, ruled=True)


def cells(event: Event, wide: bool = False) -> tuple[str, ...]:
    """Return the texts of one event, for the columns of `TITLES`."""
    ids = [f"{n.removesuffix('_id')} {event[n]}" for n in IDS if n in event] if wide else []
    return (
        event["timestamp"].removesuffix("Z").replace("T", " ").removesuffix(" 00:00:00"),
        event["event_type"],
        event.get("role", ""),
        event.get("command", ""),
        event.get("agent", ""),
        event.get("outcome", ""),
        ", ".join((*other_fields(event), *ids)),
    )


def other_fields(event: Event) -> Iterator[str]:
    """Yield the texts of the fields that have no column."""
    if "source_agent" in event or "target_agent" in event:
        yield f"{event.get('source_agent', '?')} -> {event.get('target_agent', '?')}"
    for name, text in OTHER_FIELDS.items():
        if name in event:
            yield text.format(event[name])
    if "duration_ms" in event:
        yield span(event["duration_ms"])
    for name in ("context", "metadata"):
        for key, value in event.get(name, {}).items():
            yield f"{key}={value if isinstance(value, str) else json.dumps(value)}"
    if "dropped" in event:
        yield f"{event['dropped']} dropped"
