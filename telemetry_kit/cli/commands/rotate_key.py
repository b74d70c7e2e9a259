"""`telemetry-kit rotate-key`: make a new key now, instead of after 28 days."""

from __future__ import annotations

import os

from telemetry_kit._runtime import runtime
from telemetry_kit.cli.output import CommandError, confirm, info
from telemetry_kit.consent import changes
from telemetry_kit.files.private import name_of
from telemetry_kit.privacy import keys, projects


def run(project: str | None, yes: bool) -> None:
    """Replace the key of the pseudonyms of this project.

    Raises:
        CommandError: the user cannot be asked, or the key could not be replaced.
        KeyUnavailableError: the key cannot be used; `clear` makes a new one.
    """
    paths = changes.paths_of(project)
    dirs = projects.ProjectDirs.of(paths)
    path = "" if dirs is None else dirs.key
    if not path or not os.path.lexists(path):
        info("There is no key yet: enable or the first event creates it.")
        return
    keys.load(path)
    if not yes and not confirm("Delete the current key and make a new one?"):
        info("Nothing was changed.")
        return
    try:
        key = keys.replace(path, runtime.now())
    except OSError as error:
        raise CommandError(f"the key could not be replaced ({name_of(error)})") from None
    info(f"Replaced: the key of {paths.scope} is now that of epoch {key.epoch}.")
    info("The old key is deleted. Earlier pseudonyms cannot be computed from any text again,")
    info("neither by you nor by another person. find and forget see only later ones.")
    info("A backup or a snapshot of your state directory may still contain the old key.")
