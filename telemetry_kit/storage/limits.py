"""Limits of the log: delete expired segments, and the oldest ones beyond the size limit.

This runs inside a recorded call, once in ten thousand events. It checks names, sizes and times
only, and reads and compresses no file. Segments that a program has open are left to the commands.
"""

from __future__ import annotations

import os
import stat
import time

from telemetry_kit.storage import rotation
from telemetry_kit.storage.rewrite import MaintenanceResult, Rewriter, lock
from telemetry_kit.storage.segments import Segment, order_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from telemetry_kit.paths import ProjectPaths

MAX_BYTES = 1 << 30
MAX_CLOCK_DAYS = 400


def seal_full(paths: ProjectPaths, identity: tuple[int, int], keep_days: int, now: float) -> None:
    """Seal the log, and delete what is beyond the limits.

    Args:
        identity: inode and device that the log must have.
        keep_days: how many days lines are kept.
        now: seconds since the epoch.

    Raises:
        JournalError: another process holds the lock, or the log could not be sealed.
        OSError: the folder cannot be listed.
    """
    with rotation.maintenance(paths) as folder:
        if folder is not None and rotation.seal_under_lock(paths, folder, day_of(now), identity):
            expire(paths, folder, keep_days, now)


def expire(paths: ProjectPaths, folder: int, keep_days: int, now: float) -> MaintenanceResult:
    """Delete segments whose lines are all expired, and the oldest beyond the size limit.

    A segment is expired if the day in its name and the day of its last change are, because no
    line was written later. If the newest segment of an earlier day is more than 400 days old, the
    clock may be wrong, and nothing expires.

    Args:
        folder: the open folder of the log, under the maintenance lock.
        keep_days: how many days lines are kept.
        now: seconds since the epoch.

    Raises:
        OSError: the folder cannot be listed.
    """
    rewriter = Rewriter(paths, folder, MaintenanceResult())
    found = []
    for name in filter(rotation.SEGMENT.fullmatch, os.listdir(folder)):
        st = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(st.st_mode):
            found.append((order_of(name), Segment(name, st), day_of(st.st_mtime)))
    found.sort(key=lambda item: item[0])
    today, oldest = day_of(now), day_of(now, keep_days)
    newest = max((order[0] for order, _, _ in found if order[0] != today), default=today)
    is_clock_plausible = newest >= day_of(now, MAX_CLOCK_DAYS)
    left = []
    for order, segment, changed in found:
        is_expired = is_clock_plausible and max(order[0], changed) < oldest
        if not is_expired or not delete_if_free(rewriter, segment):
            left.append(segment)
    limit_size(rewriter, left)
    return rewriter.result


def limit_size(rewriter: Rewriter, segments: list[Segment]) -> None:
    """Delete the oldest of the given segments beyond the size limit; the newest stays.

    The segments are in order, the oldest first.
    """
    total = sum(segment.size_bytes for segment in segments)
    for segment in segments[:-1]:
        if total <= MAX_BYTES:
            return
        if delete_if_free(rewriter, segment):
            rewriter.result.deleted_for_space += 1
            total -= segment.size_bytes


def delete_if_free(rewriter: Rewriter, segment: Segment) -> bool:
    """Delete a segment unless a program has it open, and return whether it is deleted."""
    before = rewriter.result.deleted
    with rewriter.reported(segment), lock(rewriter.folder, segment) as is_free:
        if is_free:
            rewriter.unlink(segment)
            rewriter.result.deleted += 1
    return rewriter.result.deleted > before


def day_of(seconds: float, back_days: int = 0) -> str:
    """Return the UTC day of a time, or of so many days before, as `YYYY-MM-DD`."""
    return time.strftime("%Y-%m-%d", time.gmtime(max(seconds - back_days * 86_400, 0)))
