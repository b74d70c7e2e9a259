"""Select the app of a command if neither its options nor the program name one."""

from __future__ import annotations

import os

from telemetry_kit import paths as homes
from telemetry_kit.errors import ConfigurationError, Refused, TelemetryError
from telemetry_kit.paths import ProjectPaths

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

VARIABLE = "TELEMETRY_KIT_APP"
# The tool whose telemetry module this library grew from.
DEFAULT = "flowspec"


def choose(start: str | None, environ: Mapping[str, str]) -> str:
    """The app that `TELEMETRY_KIT_APP` names, else the only one that fits.

    That is the one app with a log, settings or a decision for this project, else the one app that
    the user has decided about, else `flowspec` where the user has decided about none.

    Args:
        start: a directory inside the project; None for the working directory.
        environ: where the variables are looked up.

    Raises:
        ConfigurationError: several apps fit; the message lists them.
    """
    named = environ.get(VARIABLE, "").strip()
    if named:
        return named
    decided = decided_apps(environ)
    known = [app for app in dict.fromkeys([*decided, *_nearby(start)]) if app]
    for apps in (_with_a_project(known, start, environ) if len(known) > 1 else known, decided):
        if len(apps) == 1:
            return apps[0]
        if apps:
            raise ConfigurationError(
                f"several tools keep events here: {', '.join(sorted(apps))}. "
                "Choose one with --app NAME"
            )
    return DEFAULT


def decided_apps(environ: Mapping[str, str]) -> list[str]:
    """The apps that the user has decided about, for any project or for all."""
    folders = homes.own_folders(environ)
    if folders is None:
        return []
    found = [name for name in _names_in(folders[0]) if homes.is_app_name(name)]
    return [
        name
        for name in found
        if os.path.lexists(f"{folders[0]}/{name}/telemetry.enabled")
        or _names_in(f"{folders[0]}/{name}/projects")
    ]


def _nearby(start: str | None) -> list[str]:
    """The apps that have a log or settings in a folder of this directory or around it."""
    try:
        here = os.getcwd() if start is None else os.path.realpath(start)
    except (OSError, ValueError):
        return []
    found: list[str] = []
    for folder in homes.upward(here):
        names = _names_in(folder)
        for name in names:
            app = name[1:] if name.startswith(".") else ""
            if homes.is_app_name(app) and _is_kept_in(f"{folder}/{name}"):
                found.append(app)
        if ".git" in names:
            break
    return found


def _with_a_project(
    apps: Iterable[str], start: str | None, environ: Mapping[str, str]
) -> list[str]:
    # deferred: most users have decided about one app at most
    from telemetry_kit.consent import policy
    from telemetry_kit.privacy import projects

    found = []
    for app in apps:
        try:
            home = homes.find(app, start, environ)
        except Refused:
            continue
        try:
            place = projects.place_of(home)
        except TelemetryError:
            place = None
        if _is_ours(home) or (place is not None and policy.has_decision(home, place)):
            found.append(app)
    return found


def _is_ours(home: ProjectPaths) -> bool:
    folders = (home.folder, os.path.dirname(home.repository_files[0][0]))
    return any(_is_kept_in(folder) for folder in folders)


def _is_kept_in(folder: str) -> bool:
    """Whether a folder holds a log or settings of ours."""
    return any(
        name == "telemetry.toml" or (name.startswith("telemetry") and ".jsonl" in name)
        for name in _names_in(folder)
    )


def _names_in(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
