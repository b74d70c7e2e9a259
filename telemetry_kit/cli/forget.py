"""`telemetry-kit forget TEXT`: remove the events that hold a text, from archives too."""

from __future__ import annotations

from typing import Annotated

import typer

from telemetry_kit import control, grants
from telemetry_kit.cli.find import given, limits, lines
from telemetry_kit.cli.terminal import Problem, confirm, out, say
from telemetry_kit.journal import archive
from telemetry_kit.proof.lookup import Lookup


def forget(
    context: typer.Context,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to forget; - reads stdin.")],
    yes: Annotated[bool, typer.Option("--yes", help="Remove without being asked.")] = False,
) -> None:
    """Remove the events that hold a text, in clear or as a pseudonym, and say what remains.

    Raises:
        Problem: nobody can be asked, or something could not be removed.
    """
    home = control.home_of(context.obj.project)
    lookup = Lookup(home, given(text))
    before = lookup.count()
    for line in lines(before):
        out(line)
    if not yes and not confirm(f"Remove {before.events} events from {home.folder}?"):
        say("Nothing was changed.")
        return
    done = archive.rewrite(home, lookup.keeps, grants.today())
    after = lookup.count()
    unknown = f"; {after.retired:,} could not be looked into" if after.retired else ""
    out(f"Removed {done.lines} lines. {after.events} events that hold it remain{unknown}.")
    for line in limits(after):
        say(line)
    if after.in_ledger:
        say("To keep it out of new events, take it out of the tool's or your own declarations.")
    if done.survivors:
        raise Problem("not everything could be removed: " + "; ".join(done.survivors))
    if after.events:
        raise Problem(
            f"what was stored is removed, but a program has recorded {after.events:,} more since: "
            "stop it, or run this again"
        )
