"""Select the app of a report of a coding agent, for users with hooks of several apps."""

from __future__ import annotations

from telemetry_kit import settings
from telemetry_kit._runtime import runtime
from telemetry_kit.agents import pending
from telemetry_kit.consent import app_choice
from telemetry_kit.errors import Refused, TelemetryError
from telemetry_kit.privacy import keys, program
from telemetry_kit.privacy.projects import ProjectDirs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from telemetry_kit.agents.formats import Report


def choose_app(report: Report, apps: Iterable[str], project: str | None) -> str:
    """Select the app of a report: the one that declares its name or has started it.

    If several apps fit or none does, it is the app with a log, settings or a decision for the
    project.

    Args:
        report: the facts of the payload.
        apps: the apps whose user has hooks.
        project: a directory in the project; None for the working directory.

    Returns:
        The app; empty if several fit.
    """
    found = list(apps)
    fits = is_running if report.outcome else is_declared
    for app_fits in (fits, in_project):
        if len(found) > 1:
            found = [app for app in found if app_fits(report, app, project)] or found
    return found[0] if len(found) == 1 else ""


def is_declared(report: Report, app: str, project: str | None) -> bool:
    """Whether the program, the project or the user declared the name of a report for an app."""
    vocabulary, name = settings.VOCABULARY_OF[report.field], report.name
    if program.read(app, runtime.environ, {report.field: name}).get(vocabulary):
        return True
    try:
        paths = program.paths_of(app, project, runtime.environ)
        return name in settings.names_from_files(paths.naming_files)[vocabulary]
    except Refused:
        return False


def is_running(report: Report, app: str, project: str | None) -> bool:
    """Whether what ends has started in an app."""
    try:
        dirs = ProjectDirs.of(program.paths_of(app, project, runtime.environ))
    except TelemetryError:
        return False
    key = keys.current(dirs)
    if dirs is None or key is None:
        return False
    given = report.agent_id if report.field == "agent" else report.prompt
    session = key.outside_id("session_id", report.session)
    span = key.outside_id("parent_id", given) if given else ""
    return any(
        entry.span == span if span else entry.kind == report.field and entry.session == session
        for entry in pending.entries(dirs.state)
    )


def in_project(_report: Report, app: str, project: str | None) -> bool:
    """Whether an app has a log, settings or a decision for the project."""
    return app_choice.has_project(app, project, runtime.environ)
