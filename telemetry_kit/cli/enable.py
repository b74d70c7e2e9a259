"""`telemetry-kit enable`: the user says yes, after reading what is recorded.

The words come from here and from the catalog; the decision is written by `control`.
"""

from __future__ import annotations

from typing import Annotated

import typer

from telemetry_kit import catalog, consent, control, settings
from telemetry_kit.cli.terminal import confirm, say
from telemetry_kit.home import Home
from telemetry_kit.latch import latch


def notice_lines(home: Home) -> list[str]:
    """The notice, as it is shown before the question."""
    chosen = settings.current()
    prefix = chosen.prefix
    return [
        f"Keep a usage log of {home.app} in this project?",
        "",
        "Recorded: which roles, commands, agents, workflows and hand-offs you use, how they",
        f"ended, how long they took, and the {chosen.resolution}. Declared names are kept; all",
        "others become codes that only a key on this computer can make. That hides them from",
        "a casual reader but is not anonymity.",
        "Never: arguments, file contents, messages, your name, host or e-mail address.",
        f"Kept in {home.log} for {chosen.retention_days} days.",
        "It stays on this computer: the program contains no code to send it.",
        f"See it: telemetry-kit view   Stop: telemetry-kit off, or {prefix}_TELEMETRY_DISABLED=1",
        "Delete it: telemetry-kit clear",
    ]


def enable(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="Say yes without being asked.")] = False,
    all_projects: Annotated[
        bool, typer.Option("--all-projects", help="In all projects, not only this one.")
    ] = False,
) -> None:
    """Start recording in this project.

    Raises:
        Problem: nobody can be asked.
        ConsentError: the decision cannot be written.
    """
    home = control.home_of(context.obj.project)
    if not yes:
        for line in notice_lines(home):
            say(line)
        if not confirm("Keep this log?"):
            say("Nothing was changed.")
            return
    control.enable_telemetry(home.root, all_projects=all_projects)
    decision = consent.decide(home, latch.world.environ)
    where = "all projects" if all_projects else home.root
    if decision.allowed:
        say(f"Recording is on for {where} (notice {catalog.NOTICE_VERSION}).")
    else:
        say(f"Your yes for {where} is kept, but recording stays off: {decision.rule.says}.")
