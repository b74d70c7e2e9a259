"""`telemetry-kit preview`: the notice and a sample of every event, without writing anything."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from telemetry_kit import control, notice
from telemetry_kit.cli.terminal import out


def preview(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print the samples only.")] = False,
) -> None:
    """Show the notice and a sample of each event; writes nothing."""
    home = control.home_of(context.obj.project)
    if not as_json:
        for line in notice.lines(home):
            out(line)
        out()
        out("One of each event, as it would be stored:")
    for event in notice.samples():
        out(json.dumps(event, separators=(",", ":")))
