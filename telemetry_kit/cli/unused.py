"""`telemetry-kit unused`: fields and events that no question reads."""

from __future__ import annotations

import json

from telemetry_kit.cli.layout import width, wrapped
from telemetry_kit.cli.quick import JSON, command
from telemetry_kit.cli.terminal import out
from telemetry_kit.insights.answers import unread
from telemetry_kit.insights.tally import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OPTIONS = (JSON,)


def run(project: str | None, as_json: bool = False) -> None:
    """Show what is recorded although no question reads it, and what it serves instead.

    Args:
        project: not looked at: what may be recorded is the same everywhere.
        as_json: print JSON.
    """
    found = unread(READ)
    if as_json:
        out(json.dumps(found, indent=2))
        return
    for row in found:
        serves = row["serves"] or "nothing: it can go"
        for line in wrapped(f"{row['kind']} {row['name']}: {serves}", width()):
            out(line)


def __getattr__(name: str) -> Any:
    # Typer's own form of the command is made when somebody asks for it.
    if name == "unused":
        return command(OPTIONS, run, name)
    raise AttributeError(name)
