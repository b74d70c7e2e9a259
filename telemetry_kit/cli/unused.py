"""`telemetry-kit unused`: fields and events that no question reads."""

from __future__ import annotations

import json

from telemetry_kit.cli.output import print_line, width
from telemetry_kit.cli.tables import fold
from telemetry_kit.insights.answers import unread
from telemetry_kit.insights.tally import READ


def run(project: str | None, as_json: bool) -> None:
    """Show what is recorded although no question reads it, and what it serves instead.

    Args:
        project: not looked at: what may be recorded is the same everywhere.
        as_json: print JSON.
    """
    found = unread(READ)
    if as_json:
        print_line(json.dumps(found, indent=2))
        return
    for row in found:
        serves = row["serves"] or "nothing: it can go"
        for line in fold(f"{row['kind']} {row['name']}: {serves}", width()):
            print_line(line)
