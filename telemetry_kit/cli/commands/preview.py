"""`telemetry-kit preview`: the notice and a sample of every event, without writing anything."""

from __future__ import annotations

import json

from telemetry_kit.cli.output import print_line
from telemetry_kit.consent import changes, notice


def run(project: str | None, as_json: bool) -> None:
    """Show the notice and a sample of each event; writes nothing."""
    home = changes.paths_of(project)
    if not as_json:
        for line in notice.lines(home):
            print_line(line)
        print_line()
        print_line("One of each event, as it would be stored:")
    for event in notice.samples():
        print_line(json.dumps(event, separators=(",", ":")))
