"""`telemetry-kit disable`: the user denies consent, in as many steps as a grant takes."""

from __future__ import annotations

from telemetry_kit._runtime import runtime
from telemetry_kit.cli.output import CommandError, info, safe
from telemetry_kit.consent import changes
from telemetry_kit.errors import JournalError
from telemetry_kit.storage import rotation


def run(project: str | None, all_projects: bool) -> None:
    """Stop recording in this project; running programs stop at their next event.

    Raises:
        ConsentError: the decision cannot be written.
        CommandError: the running programs could not be notified.
    """
    paths = changes.paths_of(project)
    where = "all projects" if all_projects else safe(paths.shown)
    try:
        changes.deny(paths, all_projects=all_projects, method="flag")
    except JournalError as error:
        delay = "running programs notice it within 20 ms, not at their next event"
        raise CommandError(
            f"Recording is off for {where}, but {delay}: {safe(str(error))}"
        ) from None
    effect = (
        "Running programs stop within 20 ms" if all_projects else "Nothing is recorded any more"
    )
    info(f"Recording is off for {where}. {effect}.")
    if rotation.disk_usage(paths)[1]:
        info(f"The recorded events are still there: {runtime.command_line} clear deletes them.")
