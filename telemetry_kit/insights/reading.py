"""Read stored events for a Python program: its arguments, and the events that they select."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping

from telemetry_kit import settings
from telemetry_kit._runtime import runtime
from telemetry_kit.errors import ConfigurationError, Refused
from telemetry_kit.insights import periods, selection
from telemetry_kit.insights.counting import CountedLog
from telemetry_kit.insights.metrics import Metrics, metrics
from telemetry_kit.insights.query import Query
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy import declared_names, keys
from telemetry_kit.schema import catalog
from telemetry_kit.schema.validation import text
from telemetry_kit.storage.parser import Event
from telemetry_kit.storage.segments import ReadReport


def resolve(
    project_root: object,
    since: object = None,
    until: object = None,
    role: object = None,
    event: object = None,
) -> tuple[ProjectPaths | None, Query]:
    """Return the project and the query that the arguments of `read_events()` name.

    Returns:
        The paths, or None if there is no home directory or no working directory; and the query.

    Raises:
        ValueError: an argument is invalid, or the program has no name.
    """
    if not settings.current().app:
        raise ConfigurationError("the tool has no name: call configure(app=...) before reading")
    first, last = periods.period(since, until, keys.day_of(runtime.now()))
    fields: dict[str, str | frozenset[str]] = {}
    if event is not None:
        fields["event_type"] = catalog.event(event).name  # type: ignore[arg-type]  # it checks
    name = text(role)
    if role is not None and name is None:
        raise ValueError(f"role={role!r:.60}: give the name of a role")
    start: str | None = None
    if project_root is not None:
        start = folder_of(project_root)
    try:
        paths = settings.current().paths(start)
    except Refused:
        return None, Query()
    if name is not None:
        fields["role"] = keys.stored_forms(paths, "role", name)
    return paths, Query(first, last, fields)


def folder_of(path: object) -> str:
    """Return the real path of a folder.

    Raises:
        ValueError: there is no such folder.
    """
    try:
        found = os.path.realpath(os.fsdecode(path))  # type: ignore[arg-type]  # it checks
        if os.path.isdir(found):
            return found
    except (TypeError, ValueError):
        pass
    raise ValueError(f"project_root={path!r:.80}: there is no such folder")


def events(paths: ProjectPaths | None, query: Query) -> Iterator[Event]:
    """Yield the events that a query accepts, oldest first, and then warn of unreadable data."""
    problems = ReadReport()
    if paths is not None:
        yield from selection.events(paths, query, problems)
    for sentence in problems.sentences():
        warnings.warn(f"telemetry_kit: {sentence}", stacklevel=2)


def metrics_of(
    paths: ProjectPaths,
    query: Query,
    counted: CountedLog,
    names: Mapping[str, str],
    by: str | None = None,
) -> Metrics:
    """Return what `stats --json` prints.

    Args:
        paths: the project.
        query: which events count.
        counted: their counts.
        names: the role, agent and command that the query asks for, as the user typed them.
        by: `day` or `week`, for a row of each.
    """
    roles = counted.roles | declared_names.all_declared(paths, "roles")
    found = metrics(counted.counters, query, roles, names, by)
    problems = counted.problems
    found |= {"incomplete": problems.unread_files, "other_version": problems.other_version}
    return found
