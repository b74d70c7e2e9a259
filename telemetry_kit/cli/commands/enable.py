"""`telemetry-kit enable`: the user reads the notice, then grants or denies consent."""

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
        CommandError: the user cannot be asked, both answers are given, or events cannot be written.
        ConsentError: the decision cannot be written.
    """
    paths = changes.paths_of(project)
    if yes and no:
        raise CommandError("--yes and --no: use one of them. Nothing was changed", USAGE)
    before = changes.denials(paths)
    method = "flag" if yes or no else "prompt"
    answer = prompt.YES if yes else prompt.NO if no else ask(paths, all_projects)
    if answer == prompt.LATER:
        info("Nothing was decided.")
        return
    all_projects = all_projects or answer in (prompt.ALWAYS, prompt.NEVER)
    where = "all projects" if all_projects else safe(paths.shown)
    if answer in (prompt.NO, prompt.NEVER):
        changes.deny(paths, all_projects=all_projects, method=method)
        info(f"Recording is off for {where}. Nothing is recorded any more.")
        return
    # This command does not know the context keys of the tool. The notice names their classes.
    changes.grant(
        paths,
        all_projects=all_projects,
        method=method,
        any_context=not settings.current().context,
        before=None if yes else before,
    )
    decision = policy.decide(paths, runtime.environ)
    if not decision.allowed:
        info(f"Consent for {where} is saved, but recording stays off: {safe(decision.rule.says)}.")
        return
    found = obstacles.obstacles(paths)
    if found:
        problem = f"consent for {where} is saved, but events cannot be written"
        raise CommandError(f"{problem}: {safe('; '.join(found))}")
    info(f"Recording is on for {where} (notice {catalog.NOTICE_VERSION}).")


def ask(paths: ProjectPaths, all_projects: bool) -> str:
    """Show the notice and ask the user.

    Raises:
        CommandError: there is no terminal, or no person at it.
    """
    if not is_terminal():
        raise CommandError("no terminal to ask at: add --yes or --no. Nothing was changed", USAGE)
    if not prompt.is_person(runtime.environ):
        reason = "a coding agent or a shell completion runs this, and only a person can answer"
        raise CommandError(f"{reason}: add --yes or --no. Nothing was changed", USAGE)
    question = prompt.ALL_PROJECTS_QUESTION if all_projects else prompt.QUESTION
    return prompt.ask(notice.lines(paths, everywhere=all_projects), question)
