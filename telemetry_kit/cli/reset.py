"""`telemetry-kit reset`: erase everything, as if nobody had ever been asked."""

from __future__ import annotations

from typing import Annotated

import typer

from telemetry_kit import consent, control
from telemetry_kit.cli.terminal import Problem, confirm, safe, say
from telemetry_kit.latch import latch

_DECIDED = (consent.GRANT, consent.DENY)


def reset(
    context: typer.Context,
    all_projects: Annotated[
        bool, typer.Option("--all-projects", help="Every decision and key, not only this one's.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Erase without being asked.")] = False,
) -> None:
    """Erase the events, the key, the decision and its history.

    Raises:
        Problem: nobody can be asked, or something could not be deleted.
    """
    home = control.home_of(context.obj.project)
    whose = f"all projects of {home.app}" if all_projects else safe(home.root)
    if not yes and not confirm(f"Erase events, keys, decisions and their history of {whose}?"):
        say("Nothing was changed.")
        return
    survivors = control.reset(home, all_projects=all_projects)
    if survivors:
        raise Problem(f"not everything could be deleted: {'; '.join(survivors)}")
    say(f"Erased: events, keys, decisions and their history of {whose}.")
    left = None if all_projects else consent.decide(home, latch.world.environ)
    if left is not None and left.rule.owner == "user" and left.rule.verdict in _DECIDED:
        say(f"What still holds: {safe(left.rule.says)}. reset --all-projects erases that, too.")
    if all_projects:
        say("Events of other projects are still in their folders; no key can name them any more.")
