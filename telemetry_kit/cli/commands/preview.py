"""`telemetry-kit preview`: the notice and a sample of every event; nothing is written."""

from __future__ import annotations

import json

from telemetry_kit.consent import changes, notice


def run(project: str | None, as_json: bool) -> None:
    """Show the notice and a sample of each event."""
    paths = changes.paths_of(project)
    if not as_json:
        for line in notice.lines(paths):
            print(line)
        print("\nOne sample of each event, as it would be stored:")
    for event in notice.samples():
        print(json.dumps(event, separators=(",", ":")))
