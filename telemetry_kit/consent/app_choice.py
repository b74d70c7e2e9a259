"""Select the app of a command if neither its options nor the program name one."""

from __future__ import annotations

import os

from telemetry_kit._runtime import DEFAULT_APP
from telemetry_kit.errors import ConfigurationError, Refused, TelemetryError
from telemetry_kit.paths import is_app_name, own_folders, upward

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE = "TELEMETRY_KIT_APP"


def choose(start: str | None, environ: Mapping[str, str]) -> str:
    """Select the app that `TELEMETRY_KIT_APP` names, else the only one that fits.

    First, that is the one app with a log, settings or a decision for this project. Then it is the
    one app that the user has decided about. If there is none, it is `flowspec`. `start` is a
    directory inside the project; None stands for the working directory.

    Raises:
        ConfigurationError: several apps fit; the message lists them.
    """
    named = environ.get(VARIABLE, "").strip()
    if named:
        return named
    decided = decided_apps(environ)
    known = list(dict.fromkeys([*decided, *apps_above(start, folders_of(decided, environ))]))
    if len(known) > 1:
        known = [app for app in known if has_project(app, start, environ)]
    for apps in (known, decided):
        if len(apps) == 1:
            return apps[0]
        if apps:
            raise ConfigurationError(
                f"several tools record events here: {', '.join(sorted(apps))}. "
                "Select one with --app NAME"
            )
    return DEFAULT_APP


def decided_apps(environ: Mapping[str, str]) -> list[str]:
    """The apps that the user has decided about, for any project or for all."""
    folders = own_folders(environ)
    if folders is None:
        return []
    return [
        name
        for name in filter(is_app_name, names_in(folders[0]))
        if os.path.lexists(f"{folders[0]}/{name}/telemetry.enabled")
        or names_in(f"{folders[0]}/{name}/projects")
    ]


def folders_of(apps: list[str], environ: Mapping[str, str]) -> dict[str, str]:
    """The names of the folders with events, each with its app."""
    if not apps:
        return {}
    from telemetry_kit.privacy import program  # deferred: an undecided user has no such files

    return {program.read_facts(app, environ).get("directory", f".{app}"): app for app in apps}


def apps_above(start: str | None, folders: Mapping[str, str]) -> list[str]:
    """The apps with a log or settings in this directory or one above, up to the repository.

    Args:
        start: a directory; None for the working directory.
        folders: the known names of folders with events, each with its app.
    """
    try:
        here = os.getcwd() if start is None else os.path.realpath(start)
    except (OSError, ValueError):
        return []
    found: list[str] = []
    for folder in upward(here):
        names = names_in(folder)
        for name in names:
            app = folders.get(name, name[1:])
            if name[0] == "." and is_app_name(app) and is_in_use(f"{folder}/{name}"):
                found.append(app)
        if ".git" in names:
            break
    return found


def has_project(app: str, start: str | None, environ: Mapping[str, str]) -> bool:
    """Whether an app has a log, settings or a decision for the project of a directory."""
    # deferred: most users have decided about one app at most
    from telemetry_kit.consent import policy
    from telemetry_kit.privacy import program
    from telemetry_kit.privacy.projects import ProjectDirs

    try:
        paths = program.paths_of(app, start, environ)
    except Refused:
        return False
    folders = (paths.folder, os.path.dirname(paths.repository_files[0][0]))
    if any(map(is_in_use, folders)):
        return True
    try:
        dirs = ProjectDirs.of(paths)
    except TelemetryError:
        return False
    return dirs is not None and policy.has_record(dirs)


def is_in_use(folder: str) -> bool:
    """Whether a folder contains a log or settings of ours."""
    return any(
        name == "telemetry.toml" or (name.startswith("telemetry") and ".jsonl" in name)
        for name in names_in(folder)
    )


def names_in(folder: str) -> list[str]:
    """The sorted names in a folder; empty if it cannot be read."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
