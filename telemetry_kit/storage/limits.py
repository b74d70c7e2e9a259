"""Limits of the log: delete expired segments, and the oldest ones beyond the limit.

This runs inside a recorded call, once in ten thousand events. So no file is read or compressed:
it checks names, sizes and times only, and leaves open segments to the commands.
"""

from __future__ import annotations

import os
import stat
import time

from telemetry_kit.storage import rewrite, rotation
from telemetry_kit.storage.rewrite import Done
from telemetry_kit.storage.segments import ARCHIVE, SEALED, Segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from telemetry_kit.paths import ProjectPaths

MAX_BYTES = 1 << 30
MAX_CLOCK_DAYS = 400


def seal_full(home: ProjectPaths, only: tuple[int, int], keep_days: int, now: float) -> None:
    """Seal the log, and let go what is over.

    Args:
        home: whose journal.
        only: inode and device that the log must have.
        keep_days: lines older than this go.
        now: seconds since the epoch.

    Raises:
        JournalError: somebody else is at it, or it could not be sealed.
        OSError: the folder cannot be listed.
    """
    with rotation.maintenance(home) as folder:
        if folder is not None and rotation.seal_under_lock(home, folder, _day(now), only):
            tidy(home, folder, keep_days, now)


def tidy(home: ProjectPaths, folder: int, keep_days: int, now: float) -> Done:
    """Delete segments whose lines are all over, and the oldest of those that are too much.

    A segment is over when the day in its name and the day of its last change are: nothing was
    written to it later. None is over where the newest of an earlier day is more than 400 days
    old: the clock may be wrong.

    Args:
        home: whose journal.
        folder: its open folder, under the maintenance lock.
        keep_days: lines older than this go.
        now: seconds since the epoch.

    Raises:
        OSError: the folder cannot be listed.
    """
    done = Done()
    found = _listed(folder)
    today, oldest = _day(now), _day(now, keep_days)
    newest = max((named for _, named, _ in found if named != today), default=today)
    in_doubt = newest < _day(now, MAX_CLOCK_DAYS)
    left = []
    for segment, named, changed in found:
        is_over = max(named, changed) < oldest and not in_doubt
        if not is_over or not _let_go(home, folder, segment, done):
            left.append(segment)
    bound(home, folder, left, done)
    return done


def bound(home: ProjectPaths, folder: int, segments: list[Segment], done: Done) -> None:
    """Delete the oldest segments of more than the journal may take; the newest stays.

    Args:
        home: whose journal.
        folder: its open folder, under the maintenance lock.
        segments: sealed ones and archives, oldest first.
        done: filled.
    """
    total = sum(s.size_bytes for s in segments)
    for segment in segments[:-1]:
        if total <= MAX_BYTES:
            return
        if _let_go(home, folder, segment, done):
            done.crowded += 1
            total -= segment.size_bytes


def _let_go(home: ProjectPaths, folder: int, segment: Segment, done: Done) -> bool:
    """Delete a segment that no program holds open; whether it is gone."""
    before = done.deleted
    if not rewrite.is_held(folder, segment):
        rewrite.delete(home, folder, segment, lambda _line: True, done)
    return done.deleted > before


def _listed(folder: int) -> list[tuple[Segment, str, str]]:
    """Segments with the day in their name and that of their last change, oldest first."""
    found = []
    for name in os.listdir(folder):
        match = rotation.SEGMENT.fullmatch(name)
        if match is None:
            continue
        st = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(st.st_mode):
            segment = Segment(
                name, ARCHIVE if match[3] else SEALED, st.st_size, (st.st_dev, st.st_ino)
            )
            found.append(((match[1], int(match[2] or 1), name), segment, _day(st.st_mtime)))
    return [(segment, order[0], day) for order, segment, day in sorted(found, key=lambda f: f[0])]


def _day(seconds: float, back_days: int = 0) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(max(seconds - back_days * 86_400, 0)))
