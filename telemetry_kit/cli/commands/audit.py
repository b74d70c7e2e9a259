"""`telemetry-kit audit`: show the decisions and exports, and check that both records are intact."""

from __future__ import annotations

import json
import sys
from typing import Any

from telemetry_kit.cli.output import CommandError, counted, info, safe
from telemetry_kit.cli.tables import print_folded
from telemetry_kit.consent import changes, history, policy
from telemetry_kit.export.log import ExportLog

INDENT = 22
Entry = dict[str, Any]


def run(project: str | None, as_json: bool) -> None:
    """Show the decisions for this project and for all projects, and the exports.

    Raises:
        CommandError: an entry was changed, or the last one is not the present decision.
        TelemetryError: the history cannot be read.
    """
    paths = changes.paths_of(project)
    problems: list[str] = []
    decisions: dict[str, list[Entry]] = {}
    for scope, folder in history.folders(paths):
        decisions[scope] = history.read(folder)
        number = history.broken_at(folder)
        if number is not None:
            problems.append(f"entry {number} for {scope} is not as it was written")
        difference = history.disagrees(folder)
        if difference is not None:
            problems.append(f"for {scope}, {difference}")
        for path in history.set_aside(folder):
            info(f"Moved aside, because it could not be trusted: {safe(path)}")
    problems += filter(None, [policy.lost_key_problem(paths)])
    # An export log of any length is read one entry at a time.
    exports = ExportLog(paths)
    print_json(decisions, exports) if as_json else print_entries(decisions, exports)
    problems += exports.problems
    if problems:
        raise CommandError("; ".join(problems))
    if not as_json and not any(decisions.values()) and not exports.count:
        info("No decision yet.")


def print_json(decisions: dict[str, list[Entry]], exports: ExportLog) -> None:
    """Print both records as one JSON object."""
    write = sys.stdout.write
    write(json.dumps({**decisions, "exports": []}).removesuffix("]}"))
    for number, entry in enumerate(exports):
        write((", " if number else "") + json.dumps(entry))
    write("]}\n")


def print_entries(decisions: dict[str, list[Entry]], exports: ExportLog) -> None:
    """Print one entry of a record in each line."""
    for scope, entries in decisions.items():
        for entry in entries:
            more = f", until {entry['expires']}" if entry.get("expires") else ""
            if "declined" in entry:
                more = ", to an extended scope; the consent remains"
            line = (
                f"{entry.get('at')}  {entry.get('decision')!s:<3}  {scope}, by "
                f"{entry.get('method')}, notice {entry.get('notice')} "
                f"({str(entry.get('notice_sha256'))[:12]}){more}"
            )
            print_folded(line, "", INDENT)
    for number, entry in enumerate(exports):
        if not number:
            print("Exports and reports:")
        fields = entry.get("fields")
        columns = f" of {counted(len(fields), 'field')}" if isinstance(fields, list) else ""
        rows = entry.get("rows")
        events = counted(rows, "event") if isinstance(rows, int) else f"{rows} events"
        line = (
            f"{entry.get('at')}  {events}{columns} to "
            f"{entry.get('destination')}, by {entry.get('command')} "
            f"(SHA-256 {str(entry.get('sha256'))[:12]})"
            f"{', incomplete' if entry.get('incomplete') else ''}"
        )
        print_folded(line, "", INDENT)
