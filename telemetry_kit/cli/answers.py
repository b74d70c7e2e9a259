"""`telemetry-kit answers`: each declared question, with its present answer in one sentence."""

from __future__ import annotations

import json

from telemetry_kit import control
from telemetry_kit.cli import damage
from telemetry_kit.cli.layout import heading, width, wrapped
from telemetry_kit.cli.names import declared
from telemetry_kit.cli.quick import JSON, PERIOD, ROLE, command
from telemetry_kit.cli.rollup import keep
from telemetry_kit.cli.stats import check_role, looked, nothing, wanted_of
from telemetry_kit.cli.terminal import out, say
from telemetry_kit.insights.answers import answers as answers_to
from telemetry_kit.insights.figures import figures

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

OPTIONS = (*PERIOD, ROLE, JSON)


def run(
    project: str | None,
    since: str | None = None,
    until: str | None = None,
    role: str | None = None,
    as_json: bool = False,
) -> None:
    """Answer the questions that the events are recorded for.

    Args:
        project: a folder inside the project.
        since: first day.
        until: last day.
        role: from events of this role only.
        as_json: print JSON.

    Raises:
        Problem: a date cannot be understood, or there is no such role.
    """
    home = control.home_of(project)
    wanted = wanted_of(home, since, until, role)
    seen = looked(home, wanted)
    check_role(home, role, seen)
    roles = seen.roles | declared(home, "roles")
    found = answers_to(figures(seen.tally, wanted, roles))
    unread = damage.unread(seen.problems)
    if as_json:
        out(json.dumps([{**row, "incomplete": unread} for row in found], indent=2))
    else:
        room = width()
        if not seen.tally.total("events") and not unread:
            say(nothing(wanted))
        for row in found:
            for line in wrapped(row["question"], room):
                out(heading(line))
            for line in wrapped(row["answer"], room, "  "):
                out(line)
    keep(home, seen)
    damage.must_be_whole(seen.problems)


def __getattr__(name: str) -> Any:
    # Typer's own form of the command is made when somebody asks for it.
    if name == "answers":
        return command(OPTIONS, run, name)
    raise AttributeError(name)
