"""`telemetry-kit view`: the recorded events, newest first.

What an event is, and where it is read from, is the journal's business.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated

import typer

from telemetry_kit import control
from telemetry_kit.cli.terminal import console, out, safe, say, table
from telemetry_kit.journal.lines import Event
from telemetry_kit.journal.reader import newest
from telemetry_kit.journal.segments import Problems

COLUMNS = ("when", "event", "role", "command", "agent", "outcome", "more")
# With fewer characters to a line, columns break words apart: the fields of an event then stand
# below each other.
_MIN_TABLE_WIDTH = 72


def view(
    context: typer.Context,
    limit: Annotated[
        int, typer.Option("-n", "--limit", min=1, metavar="N", help="How many events to show.")
    ] = 20,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print whole records, one JSON object per line.")
    ] = False,
) -> None:
    """Show the recorded events, newest first.

    Raises:
        ConsentError: there is no such project.
    """
    home = control.home_of(context.obj.project)
    problems = Problems()
    events = newest(home, limit, problems)
    for sentence in problems.sentences():
        say(f"telemetry-kit: {safe(sentence)}")
    if not events:
        say("no events yet")
    elif as_json:
        for event in events:
            out(json.dumps(event, separators=(",", ":")))
    else:
        _show([cells(event) for event in events])


def _show(rows: list[tuple[str, ...]]) -> None:
    used = [at for at in range(len(COLUMNS)) if any(row[at] for row in rows)]
    if console().width >= _MIN_TABLE_WIDTH:
        table("", [COLUMNS[at] for at in used], [[row[at] for at in used] for row in rows])
        return
    for row in rows:
        out(safe(f"{row[0]} {row[1]}"))
        for at in used[2:]:
            if row[at]:
                out(safe(f"  {COLUMNS[at]}: {row[at]}"))


def cells(event: Event) -> tuple[str, ...]:
    """One event as the text of its columns."""
    return (
        event["timestamp"].removesuffix("Z").replace("T", " ").removesuffix(" 00:00:00"),
        event["event_type"],
        event.get("role", ""),
        event.get("command", ""),
        event.get("agent", ""),
        event.get("outcome", ""),
        ", ".join(_more(event)),
    )


def _more(event: Event) -> Iterator[str]:
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
