"""`telemetry-kit clear`: delete the recorded events and the key of their pseudonyms."""

from __future__ import annotations

from telemetry_kit.cli.output import USAGE, CommandError, confirm, info, safe
from telemetry_kit.consent import changes, decision
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.schema.validation import is_day


def run(project: str | None, before: str | None, yes: bool) -> None:
    """Delete the recorded events of this project.

    Raises:
        CommandError: nobody can be asked, or something could not be deleted.
    """
    home = changes.paths_of(project)
    if before is not None:
        _clear_before(home, before, yes)
        return
    if not yes and not confirm(f"Delete all events in {home.folder} and their key?"):
        info("Nothing was changed.")
        return
    failures = changes.clear(home)
    if failures:
        raise CommandError(f"not everything could be deleted: {'; '.join(map(_told, failures))}")
    info(f"Deleted: the events in {home.folder}, and the key that made their pseudonyms.")
    info("Consent is as it was: telemetry-kit status shows it.")


def _clear_before(home: ProjectPaths, day: str, yes: bool) -> None:
    from telemetry_kit.storage import maintenance  # deferred: only for a part

    if not is_day(day):
        raise CommandError(f"--before {day[:20]!r}: write the day as 2026-11-23", USAGE)
    if not yes and not confirm(f"Delete all events before {day} in {home.folder}?"):
        info("Nothing was changed.")
        return
    done = maintenance.rewrite(home, maintenance.keep_since(day), decision.today())
    info(f"Deleted {done.lines} events of the days before {day}.")
    if done.failures:
        raise CommandError(
            f"not everything could be deleted: {'; '.join(map(_told, done.failures))}"
        )


def _told(survivor: str) -> str:
    """What survived, with what to do about a folder where a file of ours would be."""
    what_to_do = "(a folder stands in its place: look into it, and delete it yourself)"
    return safe(survivor.replace("(EISDIR)", what_to_do))
