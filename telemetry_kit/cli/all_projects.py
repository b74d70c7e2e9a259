"""Count the events of all projects in the user's index: of each one, and of all together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from telemetry_kit.cli import read_report
from telemetry_kit.cli.arguments import check_known, declared, stored_forms
from telemetry_kit.cli.count_cache import keep
from telemetry_kit.cli.output import CommandError, info, safe
from telemetry_kit.cli.periods import period
from telemetry_kit.insights import counting
from telemetry_kit.insights.cache import count_log
from telemetry_kit.insights.counters import Counters
from telemetry_kit.insights.counting import CountedLog
from telemetry_kit.insights.metrics import Metrics
from telemetry_kit.insights.query import Query
from telemetry_kit.insights.reading import metrics_of
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy import projects
from telemetry_kit.storage.segments import ReadReport


def count_projects(
    paths: ProjectPaths,
    since: str | None,
    until: str | None,
    names: Mapping[str, str],
    by: str | None,
) -> tuple[list[Metrics], Query, CountedLog]:
    """Count the events of each project, and report on stderr what could not be read.

    Args:
        paths: the paths of any project of the app.
        since: the first day, as the user typed it.
        until: the last day.
        names: the role, agent and command that the events have, as the user typed them.
        by: `day` or `week`, for a row of each.

    Returns:
        A row for each project, by path; which events count; and the counts of all projects, in
        whose report the files have their paths.

    Raises:
        CommandError: a day is invalid, or no project has such a name.
    """
    days = period(since, until)
    total = CountedLog(Counters(), ReadReport(), set())
    rows, counted = [], []
    for one in map(paths.of_root, projects.roots(paths.state)):
        if not exists(one.parent):
            info(f"{safe(one.root)}: this folder does not exist any more, so it is left out.")
            rows.append({"project": one.root, "exists": False, "last_day": None, "stats": None})
            continue
        wanted = Query(*days, {field: stored_forms(one, field, names[field]) for field in names})
        seen = count_log(one, wanted)
        keep(one, seen)
        counted.append(one)
        stats = metrics_of(one, wanted, seen, names, by)
        last_day = stats["days"][-1]["day"] if stats["days"] else None
        rows.append({"project": one.root, "exists": True, "last_day": last_day, "stats": stats})
        total.counters.merge(seen.counters)
        total.roles |= seen.roles | declared(one, "roles")
        for name, report in seen.problems.files.items():
            total.problems.files[os.path.join(one.folder, name)] = report
    read_report.print_problems(total.problems)
    if not total.counters.total("events") and not read_report.unread_files(total.problems):
        check_names(counted, names)
    return rows, Query(*days, names), total


def exists(folder: str) -> bool:
    """Whether a folder exists, which may be unreadable."""
    try:
        os.stat(folder)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def check_names(counted: Sequence[ProjectPaths], names: Mapping[str, str]) -> None:
    """Check that each name is declared or in some event, in any of the projects.

    Raises:
        CommandError: a name is unknown in all of them.
    """
    if not names:
        return
    present = [(one, counting.names(one)) for one in counted]
    for field, text in names.items() if any(any(p.values()) for _, p in present) else ():
        everywhere = set().union(*(found[field] for _, found in present))
        mistakes = []
        for one, _ in present:
            try:
                check_known(one, field, text, everywhere)
            except CommandError as error:
                mistakes.append(error)
        if len(mistakes) == len(present):
            raise mistakes[0]
