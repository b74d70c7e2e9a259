"""`telemetry-kit preview`: the notice, names and a sample of every event; nothing is written."""

from __future__ import annotations

import json

from telemetry_kit.cli.arguments import declared
from telemetry_kit.cli.tables import print_folded
from telemetry_kit.consent import changes, notice
from telemetry_kit.settings import VOCABULARIES


def run(project: str | None, as_json: bool) -> None:
    """Show the notice, all names that are stored in plain text, and a sample of each event."""
    paths = changes.paths_of(project)
    if as_json:
        for event in notice.samples():
            print(json.dumps(event, separators=(",", ":")))
        return
    for line in notice.lines(paths):
        print_folded(line, "")
    print("\nNames that are stored in plain text:")
    for vocabulary in VOCABULARIES:
        names = ", ".join(sorted(declared(paths, vocabulary)))
        print_folded(names or "none", f"  {vocabulary:<9}  ", 13)
    print()
    print_folded("One sample of each event, as it would be stored; h:... is a pseudonym:", "")
    for event in notice.samples():
        print_folded(json.dumps(event, separators=(", ", ":")), "")
