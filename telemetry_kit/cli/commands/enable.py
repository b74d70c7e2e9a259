"""`telemetry-kit enable`: the user reads the notice, then grants or denies consent.

`consent.notice` has the text, `consent.prompt` asks, and `consent.changes` writes the decision.
"""

from __future__ import annotations

from telemetry_kit import settings
from telemetry_kit._runtime import runtime
from telemetry_kit.cli.output import USAGE, CommandError, info, is_terminal, safe
from telemetry_kit.consent import changes, notice, obstacles, policy, prompt
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.schema import catalog


def run(project: str | None, yes: bool, no: bool, all_projects: bool) -> None:
    """Start recording in this project.

    Raises:
        CommandError: nobody can be asked, the answer is given twice, or events cannot be written.
        ConsentError: the decision cannot be written.
    """
    home = changes.paths_of(project)
    if yes and no:
        raise CommandError("--yes and --no: say one of them. Nothing was changed", USAGE)
    before = changes.denials(home)
    method = "flag" if yes or no else "prompt"
    answer = prompt.YES if yes else prompt.NO if no else _asked(home, all_projects)
    if answer == prompt.LATER:
        info("Nothing was decided.")
        return
    where = "all projects" if all_projects else safe(home.root)
    if answer == prompt.NO:
        changes.deny(home, all_projects=all_projects, method=method)
        info(f"Recording is off for {where}. Nothing is written from now on.")
        return
    # Context keys that the notice could not name, because only the tool knows them, it named by
    # their classes.
    changes.grant(
        home,
        all_projects=all_projects,
        method=method,
        any_context=not settings.current().context,
        before=None if yes else before,
    )
    decision = policy.decide(home, runtime.environ)
    if not decision.allowed:
        info(f"Your yes for {where} is kept, but recording stays off: {safe(decision.rule.says)}.")
        return
    found = obstacles.obstacles(home)
    if found:
        kept = f"your consent for {where} is kept, but events cannot be written"
        raise CommandError(f"{kept}: {safe('; '.join(found))}")
    info(f"Recording is on for {where} (notice {catalog.NOTICE_VERSION}).")


def _asked(home: ProjectPaths, all_projects: bool) -> str:
    if not is_terminal():
        raise CommandError("no terminal to ask at: add --yes or --no. Nothing was changed", USAGE)
    if not prompt.is_person(runtime.environ):
        why = "a coding agent or a shell completion runs this, and only a person can answer"
        raise CommandError(f"{why}: add --yes or --no. Nothing was changed", USAGE)
    return prompt.ask(notice.lines(home, everywhere=all_projects), prompt.QUESTION)
