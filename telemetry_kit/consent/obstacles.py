"""Find the obstacles to writing events here, without making or changing anything."""

from __future__ import annotations

import os

from telemetry_kit._runtime import runtime
from telemetry_kit.consent import cache
from telemetry_kit.errors import ConsentError, KeyUnavailableError
from telemetry_kit.files import private
from telemetry_kit.privacy import keys, projects

TYPE_CHECKING = False
if TYPE_CHECKING:
    from telemetry_kit.paths import ProjectPaths


def is_recording(start: str | None = None) -> bool:
    """Whether an event from a directory would be stored: consent allows it, and it can be written.

    Args:
        start: a directory inside the project; None for the working directory.
    """
    if runtime.captured:
        return True
    return cache.is_open(start) and not obstacles(cache.lookup(start).home)


def obstacles(home: ProjectPaths) -> list[str]:
    """What would keep an event from being written where consent allows it.

    Args:
        home: the project's places.

    Returns:
        One sentence for each, with what helps where that is known; empty when nothing would.
    """
    from telemetry_kit.storage import rotation  # deferred: it locks, which Windows cannot

    return [*rotation.obstacles(home), *key_obstacles(home)]


def key_obstacles(home: ProjectPaths) -> list[str]:
    """The same of the key alone: without one nothing is recorded."""
    try:
        place = projects.place_of(home)
        if place is None:
            return []
        path = keys.key_path(home, place)
        folder = os.path.dirname(path)
        if not private.is_missing(path):
            keys.load(path)
        elif not private.can_make(folder):
            return [f"nothing is recorded without a key: {folder} cannot be made"]
    except (ConsentError, KeyUnavailableError) as error:
        return [f"nothing is recorded without a key: {error}"]
    return []
