"""`telemetry-kit clear`: delete the recorded events and the key of their pseudonyms."""

from __future__ import annotations

from telemetry_kit._runtime import runtime
from telemetry_kit.cli.output import USAGE, CommandError, confirm, counted, info, safe
from telemetry_kit.consent import changes, decision
from telemetry_kit.schema.validation import is_day


def run(project: str | None, before: str | None, yes: bool) -> None:
    """Delete the recorded events of this project.

    Raises:
        CommandError: the user cannot be asked, or something could not be deleted.
    """
    paths = changes.paths_of(project)
    if before is not None and not is_day(before):
        raise CommandError(f"--before {before[:20]!r}: write the day as 2026-11-23", USAGE)
    what = "all events and their key" if before is None else f"all events before {before}"
    if not yes and not confirm(f"Delete {what} in {paths.folder}?"):
        info("Nothing was changed.")
        return
    if before is None:
        survivors = changes.clear(paths)
    else:
        from telemetry_kit.storage import maintenance  # deferred: only for a part of the events

        done = maintenance.rewrite(paths, maintenance.keep_since(before), decision.today())
        info(f"Deleted {counted(done.lines, 'event')} of the days before {before} (UTC).")
        survivors = done.failures
    if survivors:
        # A folder with the name of one of our files is the user's own.
        hint = "(a folder has its name: look into it, and delete it yourself)"
        left = (safe(survivor.replace("(EISDIR)", hint)) for survivor in survivors)
        raise CommandError(f"not everything could be deleted: {'; '.join(left)}")
    if before is None:
        info(f"Deleted: the events in {paths.folder}, and the key of their pseudonyms.")
        info(f"Consent is unchanged: {runtime.command_line} status shows it.")
