"""Insights from the recorded events: counters, metrics, answers and selections."""

from __future__ import annotations

from telemetry_kit._runtime import SUPPORTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from datetime import date

    from telemetry_kit.insights.results import Stats


def stats(
    project_root: str | os.PathLike[str] | None = None,
    *,
    since: str | date | None = None,
    until: str | date | None = None,
    role: str | None = None,
) -> Stats:
    """Count the recorded events of a project: the numbers of `telemetry-kit stats`.

    It also works while recording is off, and creates no file.

    Args:
        project_root: a directory inside the project; the working directory by default.
        since: the first day in UTC, in the forms that `read_events()` takes.
        until: the last day in UTC.
        role: only events of this role, in plain text or under its current pseudonym.

    Returns:
        An object with the keys of `stats --json` as attributes, and each row of a table as an
        object. `incomplete` has the names of files that could not be read completely.

    Raises:
        ValueError: an argument is invalid, or `configure(app=...)` is missing.

    Example:
        >>> from telemetry_kit import configure
        >>> from telemetry_kit.insights import stats
        >>> with configure(app="acme"):
        ...     found = stats(since="7d")
        >>> for agent in found.agents:
        ...     print(agent.name, agent.completed, agent.failed, agent.rate, agent.p50_ms)
        >>> found.events
        0
    """
    # deferred: each command imports this package, and most commands count nothing
    from telemetry_kit.insights import results

    if not SUPPORTED:
        return results.of_no_events()
    from telemetry_kit.insights import cache, reading  # deferred: as above

    paths, query = reading.resolve(project_root, since, until, role)
    if paths is None:
        return results.of_no_events()
    counted = cache.count_log(paths, query)
    names = {} if role is None else {"role": role}
    return results.typed(reading.metrics_of(paths, query, counted, names))
