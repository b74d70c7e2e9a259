"""`telemetry-kit projects`: list the projects with events or a key, from the user's index."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from telemetry_kit._runtime import runtime
from telemetry_kit.cli import output, tables
from telemetry_kit.cli.output import in_bytes, info
from telemetry_kit.consent import changes, policy
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy import projects
from telemetry_kit.storage import rotation


def run(project: str | None, as_json: bool) -> None:
    """List each project of the app: its folder, whether it records, its size and its last event."""
    paths = changes.paths_of(project)
    found = [facts(paths.of_root(root)) for root in projects.roots(paths.state)]
    if as_json:
        print(json.dumps({"app": paths.app, "projects": found}))
    elif not found:
        info(f"There is no project with events of {paths.app} yet.")
    else:
        print_projects(found)


def facts(paths: ProjectPaths) -> dict[str, Any]:
    """Return the facts about one project, as `--json` prints them."""
    files, size = rotation.disk_usage(paths)
    try:
        # The log is written at every event, so its own time is that of the last one.
        last = time.strftime("%Y-%m-%d", time.gmtime(os.stat(paths.log).st_mtime))
    except OSError:
        last = None
    return {
        "project": paths.root,
        "exists": os.path.isdir(paths.parent),
        "recording": policy.decide(paths, runtime.environ).allowed,
        "files": files,
        "bytes": size,
        "last_event": last,
    }


def print_projects(found: list[dict[str, Any]]) -> None:
    """Print the projects as a table."""
    columns = [
        tables.Column("project", [one["project"] for one in found], can_fold=True),
        tables.Column("recording", [words_of(one) for one in found]),
        tables.Column("size", [in_bytes(one["bytes"]) for one in found], right=True),
        tables.Column("last event", [one["last_event"] or "-" for one in found]),
    ]
    for line in tables.table(columns, output.width()):
        print(line)
    info(
        "Days are in UTC. `view` and `stats` with --project FOLDER show the events of one project."
    )


def words_of(one: dict[str, Any]) -> str:
    """Return whether a project records, in one word."""
    if not one["exists"]:
        return "missing"
    return "on" if one["recording"] else "off"
