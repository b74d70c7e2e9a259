"""`telemetry-kit reset`: erase everything, so that the user is undecided again."""

from __future__ import annotations

from telemetry_kit._runtime import runtime
from telemetry_kit.cli.output import CommandError, confirm, info, safe
from telemetry_kit.consent import changes, policy
from telemetry_kit.errors import ConsentError
from telemetry_kit.export import log
from telemetry_kit.files.private import name_of
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy import projects

_DECIDED = (policy.GRANT, policy.DENY)


def run(project: str | None, all_projects: bool, yes: bool) -> None:
    """Erase the events, the key, the decision and its history.

    Raises:
        CommandError: nobody can be asked, or something could not be deleted.
    """
    home = changes.paths_of(project)
    whose = f"all projects of {home.app}" if all_projects else safe(home.root)
    if not yes and not confirm(f"Erase events, keys, decisions and their history of {whose}?"):
        info("Nothing was changed.")
        return
    roots = [one.root for one in changes.all_project_paths(home)] if all_projects else []
    stays = "" if all_projects else _what_stays(home)
    failures = changes.reset(home, all_projects=all_projects) + _exports(home)
    if failures:
        raise CommandError(f"not everything could be deleted: {'; '.join(failures)}")
    what = "events" if stays else "events, keys, decisions and their history"
    info(f"Erased: {what} of {whose}{':' if roots else '.'}")
    if stays:
        info(f"Not erased: {safe(stays)}.")
        return
    left = None if all_projects else policy.decide(home, runtime.environ)
    if left is not None and left.rule.owner == "user" and left.rule.verdict in _DECIDED:
        info(f"What still holds: {safe(left.rule.says)}. reset --all-projects erases that, too.")
    for root in roots:
        info(f"  {safe(root)}")


def _exports(home: ProjectPaths) -> list[str]:
    try:
        log.delete_early(home)
    except (ConsentError, OSError) as error:
        why = str(error) if isinstance(error, ConsentError) else name_of(error)
        return [f"the note of what was exported ({why})"]
    return []


def _what_stays(home: ProjectPaths) -> str:
    """Decisions that may be about this project and cannot be told to be; empty when none."""
    problem = policy.lost_key_problem(home)
    if problem:
        return problem
    try:
        dirs = projects.ProjectDirs.of(home)
    except ConsentError as error:
        return str(error)
    if dirs is None or policy.has_record(dirs) or not policy.has_project_records(home):
        return ""
    return (
        "there is no decision about this folder. If it was moved here, the one about its former "
        "path is kept still, and reset --all-projects erases it"
    )
