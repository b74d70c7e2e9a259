"""`telemetry-kit forget TEXT`: delete the events that contain a text, also in archives."""

from __future__ import annotations

from telemetry_kit.cli.commands.find import SPELLED, limits, lines, read_texts
from telemetry_kit.cli.output import CommandError, confirm, counted, info
from telemetry_kit.cli.tables import print_folded
from telemetry_kit.consent import changes, decision
from telemetry_kit.storage import maintenance
from telemetry_kit.verification.lookup import Lookup


def run(project: str | None, text: str, yes: bool) -> None:
    """Delete the events that contain a text and report how many remain.

    Raises:
        CommandError: the user cannot be asked, or something could not be deleted.
    """
    paths = changes.paths_of(project)
    lookup = Lookup(paths, read_texts(text))
    before = lookup.count()
    for line in lines(before):
        print_folded(line, "", 4)
    info(SPELLED)
    if not yes and not confirm(f"Delete {counted(before.events, 'event')} in {paths.folder}?"):
        info("Nothing was changed.")
        return
    done = maintenance.rewrite(paths, lookup.keeps, decision.today())
    after = lookup.count()
    unknown = f"; {after.other_keys:,} could not be searched" if after.other_keys else ""
    left = counted(after.events, "event")
    deleted = counted(done.lines, "line")
    print_folded(f"Deleted {deleted}. Remaining: {left} with the text{unknown}.", "", 4)
    for line in limits(after):
        info(line)
    if after.is_declared:
        info("New events will contain it: delete it from the declarations of the tool or your own.")
    if done.failures:
        raise CommandError("not everything could be deleted: " + "; ".join(done.failures))
    if after.events:
        raise CommandError(
            f"a program has recorded {counted(after.events, 'more event')} with the text "
            "meanwhile: stop the program, or run this command again"
        )
