"""`telemetry-kit reset`: delete everything, so that the user is undecided again."""

from __future__ import annotations

from telemetry_kit._runtime import runtime
from telemetry_kit.agents import installation
from telemetry_kit.cli.output import CommandError, confirm, info, safe
from telemetry_kit.consent import changes, policy
from telemetry_kit.errors import ConsentError
from telemetry_kit.export import log
from telemetry_kit.files.private import name_of
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy import projects


def run(project: str | None, all_projects: bool, yes: bool) -> None:
    """Delete the events, the key, the decision and its history.

    Raises:
        CommandError: the user cannot be asked, or something could not be deleted.
    """
    paths = changes.paths_of(project)
    whose = f"all projects of {paths.app}" if all_projects else safe(paths.shown)
    if not yes and not confirm(f"Delete events, keys, decisions and their history of {whose}?"):
        info("Nothing was changed.")
        return
    roots = [one.root for one in changes.all_project_paths(paths)] if all_projects else []
    kept = "" if all_projects else kept_decisions(paths)
    failures = changes.reset(paths, all_projects=all_projects)
    try:
        log.delete_early(paths)
    except (ConsentError, OSError) as error:
        reason = str(error) if isinstance(error, ConsentError) else name_of(error)
        failures.append(f"the export log ({reason})")
    hooks: list[str] = []
    if all_projects:
        hooks, kept_hooks = installation.uninstall_all(paths.app, runtime.environ)
        failures += kept_hooks
    if failures:
        raise CommandError(f"not everything could be deleted: {'; '.join(failures)}")
    what = "events" if kept else "events, keys, decisions and their history"
    info(f"Deleted: {what} of {whose}{':' if roots or hooks else '.'}")
    for path in [*roots, *hooks]:
        info(f"  {safe(path)}")
    if kept:
        info(f"Not deleted: {safe(kept)}.")
    elif not all_projects:
        left = policy.decide(paths, runtime.environ).rule
        if left.owner == "user" and left.verdict in (policy.GRANT, policy.DENY):
            says = safe(left.says)
            info(f"This decision remains: {says}. reset --all-projects deletes that, too.")


def kept_decisions(paths: ProjectPaths) -> str:
    """Return why decisions that may be about this project are kept; empty if none are."""
    problem = policy.lost_key_problem(paths)
    if problem:
        return problem
    try:
        dirs = projects.ProjectDirs.of(paths)
    except ConsentError as error:
        return str(error)
    if dirs is None or policy.has_record(dirs) or not policy.has_project_records(paths):
        return ""
    return (
        "this folder has no decision. If it was moved, the decision about its former path is kept. "
        "reset --all-projects deletes it"
    )
