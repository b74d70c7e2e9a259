"""`telemetry-kit enable`: the user says yes, or no, after reading what is recorded.

The words come from `notice`, the question from `asking`; the decision is written by `control`.
"""

from __future__ import annotations

from telemetry_kit import asking, catalog, checks, consent, control, notice, settings
from telemetry_kit.cli.output import USAGE, CommandError, info, is_terminal, safe
from telemetry_kit.home import Home
from telemetry_kit.latch import latch


def run(project: str | None, yes: bool, no: bool, all_projects: bool) -> None:
    """Start recording in this project.

    Raises:
        CommandError: nobody can be asked, the answer is given twice, or events cannot be written.
        ConsentError: the decision cannot be written.
    """
    home = control.home_of(project)
    if yes and no:
        raise CommandError("--yes and --no: say one of them. Nothing was changed", USAGE)
    before = control.denials(home)
    method = "flag" if yes or no else "prompt"
    answer = asking.YES if yes else asking.NO if no else _asked(home, all_projects)
    if answer == asking.LATER:
        info("Nothing was decided.")
        return
    where = "all projects" if all_projects else safe(home.root)
    if answer == asking.NO:
        control.refuse(home, all_projects=all_projects, method=method)
        info(f"Recording is off for {where}. Nothing is written from now on.")
        return
    # Context keys that the notice could not name, because only the tool knows them, it named by
    # their classes.
    control.accept(
        home,
        all_projects=all_projects,
        method=method,
        any_context=not settings.current().context,
        before=None if yes else before,
    )
    decision = consent.decide(home, latch.world.environ)
    if not decision.allowed:
        info(f"Your yes for {where} is kept, but recording stays off: {safe(decision.rule.says)}.")
        return
    found = checks.obstacles(home)
    if found:
        kept = f"your yes for {where} is kept, but events cannot be written"
        raise CommandError(f"{kept}: {safe('; '.join(found))}")
    info(f"Recording is on for {where} (notice {catalog.NOTICE_VERSION}).")


def _asked(home: Home, all_projects: bool) -> str:
    if not is_terminal():
        raise CommandError("no terminal to ask at: add --yes or --no. Nothing was changed", USAGE)
    if not asking.is_person(latch.world.environ):
        why = "a coding agent or a shell completion runs this, and only a person can answer"
        raise CommandError(f"{why}: add --yes or --no. Nothing was changed", USAGE)
    return asking.ask(notice.lines(home, everywhere=all_projects), asking.QUESTION)
