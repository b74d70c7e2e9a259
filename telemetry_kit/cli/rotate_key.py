"""`telemetry-kit rotate-key`: a fresh key now, instead of after 28 days."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from telemetry_kit import control, privacy, projects
from telemetry_kit.cli.terminal import Problem, confirm, say
from telemetry_kit.latch import latch
from telemetry_kit.private import name_of


def rotate_key(
    context: typer.Context,
    yes: Annotated[bool, typer.Option("--yes", help="Replace it without being asked.")] = False,
) -> None:
    """Replace the key that makes the pseudonyms of this project.

    Raises:
        Problem: there is no key, nobody can be asked, or it could not be replaced.
        KeyUnavailableError: the key is there but cannot be used; `clear` makes a new one.
    """
    home = control.home_of(context.obj.project)
    place = projects.place_of(home)
    path = "" if place is None else privacy.key_path(home, place)
    if not path or not os.path.lexists(path):
        say("There is no key yet: the first event, or enable, makes it.")
        return
    privacy.load(path)
    if not yes and not confirm("Delete the key in force and make a fresh one?"):
        say("Nothing was changed.")
        return
    try:
        key = privacy.replace(path, latch.world.now())
    except OSError as error:
        raise Problem(f"the key could not be replaced ({name_of(error)})") from None
    say(f"Replaced: the key of this project is now that of epoch {key.epoch}.")
    say("The old one is deleted. The pseudonyms of events before now can no longer be made from")
    say("any text, by you or anybody else; find and forget see later ones only.")
    say("A backup or a snapshot of your state directory may still hold the old key.")
