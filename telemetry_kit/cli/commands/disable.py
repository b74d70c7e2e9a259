"""`telemetry-kit disable`: the user denies consent, in as many steps as a grant takes."""

from __future__ import annotations

from telemetry_kit.cli.output import CommandError, info, safe
from telemetry_kit.consent import changes, notice
from telemetry_kit.errors import JournalError
from telemetry_kit.storage import rotation


def run(project: str | None, all_projects: bool) -> None:
    """Stop recording in this project; programs that run here stop at their next event.

    Raises:
        ConsentError: the decision cannot be written.
        CommandError: the running programs could not be told.
    """
    home = changes.paths_of(project)
    where = "all projects" if all_projects else safe(home.root)
    try:
        changes.disable_telemetry(home.root, all_projects=all_projects, method="flag")
    except JournalError as error:
        told = "programs that run now notice it within 20 ms, not at their very next event"
        raise CommandError(
            f"Recording is off for {where}, but {told}: {safe(str(error))}"
        ) from None
    stops = "Nothing is written from now on"
    if all_projects:
        stops = "Running programs stop within 20 ms"
    info(f"Recording is off for {where}. {stops}.")
    if rotation.disk_usage(home)[1]:
        info(f"What was recorded is still there: {notice.command(home.app)} clear deletes it.")
