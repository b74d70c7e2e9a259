"""Find the obstacles to writing events here, without making or changing anything."""

from __future__ import annotations

from telemetry_kit._runtime import runtime
from telemetry_kit.consent import cache
from telemetry_kit.errors import ConsentError, KeyUnavailableError
from telemetry_kit.files import private
from telemetry_kit.privacy import keys
from telemetry_kit.privacy.projects import ProjectDirs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from telemetry_kit.paths import ProjectPaths


def is_recording(start: str | None = None) -> bool:
    """Whether an event from a directory (by default the working one) would be stored."""
    if runtime.captured:
        return True
    return cache.is_allowed(start) and not obstacles(cache.lookup(start).paths)


def obstacles(paths: ProjectPaths) -> list[str]:
    """Find what would prevent an event from being written although consent allows it.

    Returns:
        One sentence for each obstacle, with the remedy if it is known.
    """
    from telemetry_kit.storage import rotation  # deferred: it locks, which Windows cannot

    found = rotation.obstacles(paths)
    try:
        dirs = ProjectDirs.of(paths)
        if dirs is not None and not private.is_missing(dirs.key):
            keys.load(dirs.key)
        elif dirs is not None and not private.can_make(dirs.state):
            found = [*found, f"nothing is recorded without a key: {dirs.state} cannot be made"]
    except (ConsentError, KeyUnavailableError) as error:
        found = [*found, f"nothing is recorded without a key: {error}"]
    return found
