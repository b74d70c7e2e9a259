"""`telemetry-kit rotate-key`: make a new key now, instead of after 28 days."""

from __future__ import annotations

import os

from telemetry_kit._runtime import runtime
from telemetry_kit.cli.output import CommandError, confirm, info
from telemetry_kit.consent import changes
from telemetry_kit.files.private import name_of
from telemetry_kit.privacy import keys, projects


def run(project: str | None, yes: bool) -> None:
    """Replace the key that makes the pseudonyms of this project.

    Raises:
        CommandError: there is no key, nobody can be asked, or it could not be replaced.
        KeyUnavailableError: the key is there but cannot be used; `clear` makes a new one.
    """
    home = changes.paths_of(project)
    dirs = projects.ProjectDirs.of(home)
    path = "" if dirs is None else dirs.key
    if not path or not os.path.lexists(path):
        info("There is no key yet: the first event, or enable, makes it.")
        return
    keys.load(path)
    if not yes and not confirm("Delete the key in force and make a fresh one?"):
        info("Nothing was changed.")
        return
    try:
        key = keys.replace(path, runtime.now())
    except OSError as error:
        raise CommandError(f"the key could not be replaced ({name_of(error)})") from None
    info(f"Replaced: the key of this project is now that of epoch {key.epoch}.")
    info("The old one is deleted. The pseudonyms of events before now can no longer be made from")
    info("any text, by you or anybody else; find and forget see later ones only.")
    info("A backup or a snapshot of your state directory may still hold the old key.")
