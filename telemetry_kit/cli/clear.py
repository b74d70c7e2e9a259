"""`telemetry-kit clear`: delete what was recorded, and the key that made its pseudonyms."""

from __future__ import annotations

from typing import Annotated

import typer

from telemetry_kit import control
from telemetry_kit.cli.terminal import Problem, confirm, say


def clear(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without being asked.")] = False,
) -> None:
    """Delete the recorded events of this project.

    Raises:
        Problem: nobody can be asked, or something could not be deleted.
    """
    home = control.home_of(context.obj.project)
    if not yes and not confirm(f"Delete all events in {home.folder} and their key?"):
        say("Nothing was changed.")
        return
    survivors = control.clear(home)
    if survivors:
        raise Problem(f"not everything could be deleted: {'; '.join(survivors)}")
    say(f"Deleted: the events in {home.folder}, and the key that made their pseudonyms.")
    say("Consent is as it was: telemetry-kit status shows it.")
