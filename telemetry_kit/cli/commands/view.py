"""`telemetry-kit view`: show the recorded events, newest first, as trees, or as they arrive.

`storage` reads and parses the events.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import islice

from telemetry_kit.cli import read_report
from telemetry_kit.cli.arguments import forms, given, must_be_known, one_of
from telemetry_kit.cli.output import USAGE, CommandError, info, print_line, safe, width
from telemetry_kit.cli.periods import period
from telemetry_kit.cli.session_tree import render_tree
from telemetry_kit.cli.tables import Column, fold, table
from telemetry_kit.consent import changes
from telemetry_kit.insights.query import Query
from telemetry_kit.insights.selection import Following, newest, sessions
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.schema import catalog
from telemetry_kit.storage.parser import Event
from telemetry_kit.storage.segments import ReadReport

TITLES = ("when", "event", "role", "command", "agent", "outcome", "more")
_POLL_SECONDS = 0.2
_PAGE = 10_000
_CODE = re.compile("h:[0-9a-f]{12}")


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
        CommandError: a date or a name cannot be understood, or two options do not go together.
        ConsentError: there is no such project.
    """
    if tree and (follow or as_json or wide):
        raise CommandError("--tree goes with neither --follow, --json nor --wide", USAGE)
    is_code = _is_code(other)
    home = changes.paths_of(project if other is None or is_code else other)
    words = {
        "event_type": one_of("--event", event, catalog.EVENTS),
        "outcome": one_of("--outcome", outcome, catalog.OUTCOMES),
        "project_id": other if is_code else None,
    }
    asked = {
        name: text
        for name, text in (("role", role), ("agent", agent), ("command", of_command))
        if given(f"--{name}", text) is not None and text is not None
    }
    wanted: dict[str, str | frozenset[str]] = {n: w for n, w in words.items() if w is not None}
    wanted |= {name: forms(home, name, text) for name, text in asked.items()}
    chosen = Query(*period(since, until), wanted)
    problems = ReadReport()
    if tree:
        shown = _show_trees(home, limit, chosen, problems)
    elif follow:
        shown = _follow(home, limit, chosen, wide, as_json)
    else:
        shown = _show(home, limit, chosen, wide, as_json, problems)
    read_report.tell(problems)
    if not shown and not read_report.unread(problems):
        _nothing(home, chosen, asked)
    # A reader that has gone is noticed here, where it is told apart from a failure.
    sys.stdout.flush()
    read_report.must_be_whole(problems, bool(shown))


def _is_code(other: str | None) -> bool:
    """Whether `--project` is a pseudonym.

    Raises:
        CommandError: it is neither one nor a folder.
    """
    if other is None or os.path.isdir(other):
        return False
    if other.startswith(catalog.PSEUDONYM_PREFIX):
        if _CODE.fullmatch(other):
            return True
        raise CommandError(f"--project {safe(other[:40])!r}: a code is h: and 12 hex digits", USAGE)
    raise CommandError(f"--project {safe(other[:200])!r}: there is no such folder", USAGE)


def _show(
    home: ProjectPaths, limit: int, chosen: Query, wide: bool, as_json: bool, problems: ReadReport
) -> int:
    """Show events; how many."""
    events = newest(home, limit, chosen, problems)
    # A page at a time: memory is bounded however many are asked for.
    shown = 0
    while page := list(islice(events, _PAGE)):
        for line in _page(page, wide, as_json):
            print_line(line)
        shown += len(page)
    return shown


def _page(events: list[Event], wide: bool, as_json: bool) -> Iterator[str]:
    if as_json:
        return map(_as_json, events)
    return rows_as_table([cells(event, wide) for event in events], width())


def _as_json(event: Event) -> str:
    return json.dumps(event, separators=(",", ":"))


def _nothing(home: ProjectPaths, chosen: Query, asked: dict[str, str]) -> None:
    """Say that there is nothing, and why that may be.

    Raises:
        CommandError: a name that was asked for is none.
    """
    if chosen.everything or next(newest(home, 1, Query(), ReadReport()), None) is None:
        info("no events yet")
        return
    if asked:
        from telemetry_kit.insights.counting import names  # deferred: only where nothing was found

        present = names(home)
        for name, text in asked.items():
            must_be_known(home, f"--{name}", name, text, present[name])
    info("no such events")


def _show_trees(home: ProjectPaths, limit: int, chosen: Query, problems: ReadReport) -> int:
    """Show sessions; how many."""
    shown = 0
    for session, events in sessions(home, limit, chosen, problems):
        if shown:
            print_line()
        for line in render_tree(session, events, width()):
            print_line(line)
        shown += 1
    return shown


def _follow(home: ProjectPaths, limit: int, chosen: Query, wide: bool, as_json: bool) -> int:
    """Show the last events, oldest first, and then each new one, until Ctrl-C."""
    following = Following(home, chosen)
    shown = list(newest(home, limit, chosen, ReadReport()))
    for event in reversed(shown):
        _print(event, wide, as_json)
    sys.stdout.flush()
    # What came between the two looks is in both.
    twice = {event["event_id"] for event in shown if "event_id" in event}
    try:
        while True:
            for event in following.news():
                if event.get("event_id") not in twice:
                    _print(event, wide, as_json)
            sys.stdout.flush()
            time.sleep(_POLL_SECONDS)
    except KeyboardInterrupt:
        return 1  # whoever followed until now need not be told that there is nothing


def _print(event: Event, wide: bool, as_json: bool) -> None:
    if as_json:
        print_line(_as_json(event))
        return
    row = [cell for cell in cells(event, wide) if cell]
    for line in fold("  ".join(row), width()):
        print_line(line)


# -- one event as a row --------------------------------------------------------------------------


def rows_as_table(rows: Sequence[Sequence[str]], max_width: int) -> Iterator[str]:
    """Events as lines of at most `max_width` columns; a column without a value is not shown.

    Args:
        rows: what `cells` returned, at least one.
        max_width: columns of the terminal.
    """
    columns = [
        Column(title, texts, can_fold=True, remark=title == TITLES[-1])
        for title, *texts in zip(TITLES, *rows, strict=True)
        if any(texts)
    ]
    return table(columns, max_width, ruled=True)


def cells(event: Event, wide: bool = False) -> tuple[str, ...]:
    """One event as the text of its columns.

    Args:
        event: as the reader yields it.
        wide: also ids, sequence, source and key epoch.
    """
    return (
        event["timestamp"].removesuffix("Z").replace("T", " ").removesuffix(" 00:00:00"),
        event["event_type"],
        event.get("role", ""),
        event.get("command", ""),
        event.get("agent", ""),
        event.get("outcome", ""),
        ", ".join((*_others(event), *(_ids(event) if wide else ()))),
    )


def _others(event: Event) -> Iterator[str]:
    if "source_agent" in event or "target_agent" in event:
        yield f"{event.get('source_agent', '?')} -> {event.get('target_agent', '?')}"
    if "previous_role" in event:
        yield f"before: {event['previous_role']}"
    if "workflow" in event:
        yield f"workflow {event['workflow']}"
    if "duration_ms" in event:
        yield f"{event['duration_ms']} ms"
    if "error_type" in event:
        yield str(event["error_type"])
    if "exit_code" in event:
        yield f"exit {event['exit_code']}"
    for name in ("context", "metadata"):
        for key, value in event.get(name, {}).items():
            yield f"{key}={value if isinstance(value, str) else json.dumps(value)}"
    if "dropped" in event:
        yield f"{event['dropped']} dropped"


_IDS = (
    "event_id",
    "seq",
    "project_id",
    "session_id",
    "span_id",
    "parent_id",
    "source",
    "key_epoch",
    "schema_version",
)


def _ids(event: Event) -> Iterator[str]:
    for name in _IDS:
        if name in event:
            yield f"{name.removesuffix('_id')} {event[name]}"
