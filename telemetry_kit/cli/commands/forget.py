"""`telemetry-kit forget TEXT`: delete the events that contain a text, also in archives."""

from __future__ import annotations

from telemetry_kit.cli.commands.find import given, limits, lines
from telemetry_kit.cli.output import CommandError, confirm, info, print_line
from telemetry_kit.consent import changes, decision
from telemetry_kit.storage import maintenance
from telemetry_kit.verification.lookup import Lookup


def run(project: str | None, text: str, yes: bool) -> None:
    """Remove the events that hold a text, in clear or as a pseudonym, and say what remains.

    Raises:
        CommandError: nobody can be asked, or something could not be removed.
    """
    home = changes.paths_of(project)
    lookup = Lookup(home, given(text))
    before = lookup.count()
    for line in lines(before):
        print_line(line)
    if not yes and not confirm(f"Remove {before.events} events from {home.folder}?"):
        info("Nothing was changed.")
        return
    done = maintenance.rewrite(home, lookup.keeps, decision.today())
    after = lookup.count()
    unknown = f"; {after.other_keys:,} could not be looked into" if after.other_keys else ""
    print_line(f"Removed {done.lines} lines. {after.events} events that hold it remain{unknown}.")
    for line in limits(after):
        info(line)
    if after.is_declared:
        info("To keep it out of new events, take it out of the tool's or your own declarations.")
    if done.failures:
        raise CommandError("not everything could be removed: " + "; ".join(done.failures))
    if after.events:
        raise CommandError(
            f"what was stored is removed, but a program has recorded {after.events:,} more since: "
            "stop it, or run this again"
        )
