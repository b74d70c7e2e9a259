"""Maintenance of sealed segments: compress, rewrite, and delete them when they expire.

It runs under the maintenance lock, and never inside a recorded call.
"""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from collections.abc import Callable, Iterator

from telemetry_kit._units import counted
from telemetry_kit.errors import JournalError
from telemetry_kit.files import leftovers
from telemetry_kit.files.atomic import NewFile
from telemetry_kit.files.private import name_of
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import limits, rotation
from telemetry_kit.storage.retention import Retention
from telemetry_kit.storage.rewrite import Keep, MaintenanceResult, Rewriter
from telemetry_kit.storage.segments import (
    ACTIVE,
    ARCHIVE,
    SEALED,
    FileReport,
    ReadReport,
    Segment,
    Source,
    snapshot,
)

# Lines of a segment that is added; the recorder seals a log of about as many.
SEGMENT_LINES = 10_000
_NEVER = "9999-12-31"
_DAY = re.compile(rb'"timestamp": ?"(\d{4}-\d{2}-\d{2})')


def maintain(paths: ProjectPaths, retention_days: int, today: str) -> MaintenanceResult:
    """Repair what killed processes left, compress sealed segments, and apply the limits.

    Returns at once if another process holds the lock.

    Args:
        retention_days: how many days lines are kept.
        today: the day in UTC, as `YYYY-MM-DD`.
    """
    result = MaintenanceResult()
    for top in {paths.config, paths.state}:
        leftovers.sweep(top)
        try:
            projects = os.listdir(f"{top}/projects")
        except OSError:
            continue
        for project in projects:
            leftovers.sweep(f"{top}/projects/{project}")
    if not rotation.holds_anything(paths):
        return result  # create no lock file either
    try:
        with rotation.maintenance(paths) as folder:
            if folder is not None:
                rewriter = Rewriter(paths, folder, result)
                repair(rewriter)
                for segment in list_segments(paths):
                    if segment.kind == SEALED:
                        rewriter.compress(segment)
                expire(rewriter, retention(paths, retention_days, today))
                limits.limit_size(rewriter, list_segments(paths))
                delete_count_cache(rewriter)
    except (JournalError, OSError) as error:
        result.failures.append(str(error) if isinstance(error, JournalError) else name_of(error))
    return result


def rewrite(paths: ProjectPaths, keep: Callable[[bytes], bool], today: str) -> MaintenanceResult:
    """Remove lines from the whole log.

    Args:
        keep: receives each line without its newline. False removes it.
        today: the day in UTC, as `YYYY-MM-DD`.

    Returns:
        How many lines were removed, and which files could not be rewritten.

    Raises:
        JournalError: nothing was changed.
    """
    result = MaintenanceResult()
    if not rotation.holds_anything(paths):
        return result
    with rotation.maintenance(paths, rotation.WAIT_SECONDS) as folder:
        if folder is not None:
            rewriter = Rewriter(paths, folder, result)
            try:
                repair(rewriter)
                rotation.seal_under_lock(paths, folder, today)
                for segment in list_segments(paths, failures=result.failures):
                    rewriter.rewrite(segment, keep)
                delete_count_cache(rewriter)
                # Write it to disk before it is reported: a power failure restores nothing.
                os.fsync(folder)
            except OSError as error:
                result.failures.append(f"{paths.folder} ({name_of(error)})")
    return result


def add_segments(paths: ProjectPaths, days: Callable[[], dict[str, list[bytes]]]) -> None:
    """Add lines to the log as sealed segments, each one complete or absent.

    Args:
        paths: the project's paths.
        days: returns the lines by day, with their newlines. It is called under the lock.

    Raises:
        JournalError: not all of them could be added; the message says how many were.
    """
    with rotation.maintenance(paths, rotation.WAIT_SECONDS) as folder:
        if folder is None:
            raise JournalError(f"there is no folder {paths.folder}")
        added = 0
        try:
            for day, lines in days().items():
                for at in range(0, len(lines), SEGMENT_LINES):
                    portion = lines[at : at + SEGMENT_LINES]
                    name = rotation.free_name(folder, day)
                    with NewFile(name, folder) as new:
                        new.write(b"".join(portion))
                        rotation.protect(folder, new.path)
                        new.place(name, replace=False)
                    added += len(portion)
            os.fsync(folder)
        except OSError as error:
            problem = f"{paths.folder} cannot be written to ({name_of(error)})"
            raise JournalError(f"{problem} after {counted(added, 'event')}") from None


def oldest_day(paths: ProjectPaths) -> str | None:
    """Return the day of the oldest line, or None if there is none."""
    with snapshot(paths, ReadReport()) as sources:
        found = (next(days_of(source, FileReport()), None) for source in sources)
        return next(filter(None, found), None)


def keep_since(day: str, undated: bool = True) -> Keep:
    """Return a filter that keeps the lines of a day and later.

    Args:
        day: as `YYYY-MM-DD`.
        undated: whether it keeps lines without a readable day.
    """
    limit = day.encode("ascii")

    def keep(line: bytes) -> bool:
        found = _DAY.search(line)
        return undated if found is None else found[1] >= limit

    return keep


def retention(paths: ProjectPaths, retention_days: int, today: str) -> Retention:
    """Return the retention of a log on one day.

    The newest archive of an earlier day shows whether the clock is plausible. One of the same day
    proves nothing, because the same clock named it. Without such an archive, the newest event
    decides.
    """
    days = [day for day in map(day_in_name, list_segments(paths)) if day not in (today, _NEVER)]
    return Retention(retention_days, today, max(days) if days else newest_day(paths) or today)


# -- one step each -----------------------------------------------------------------------------


def repair(rewriter: Rewriter) -> None:
    """Delete temporary files, and seal segments of a process that was killed while sealing."""
    folder = rewriter.folder
    for name in os.listdir(folder):
        try:
            if rotation.TEMPORARY.fullmatch(name):
                os.unlink(name, dir_fd=folder)
            elif rotation.SEGMENT.fullmatch(name) and name.endswith(".jsonl"):
                # A process that was killed between rename and chmod left it writable.
                mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
                if mode in (0o100600, stat.S_IFREG | rotation.WRITABLE_MODE):
                    rotation.protect(folder, name)
        except OSError as error:
            path = f"{rewriter.paths.folder}/{name}"
            rewriter.result.failures.append(f"{path} ({name_of(error)})")


def delete_count_cache(rewriter: Rewriter) -> None:
    """Delete the cached counts if lines were removed, because the cache names them."""
    if rewriter.result.lines or rewriter.result.deleted:
        try:
            os.unlink(rotation.COUNT_CACHE, dir_fd=rewriter.folder)
        except FileNotFoundError:
            return


def list_segments(
    paths: ProjectPaths, active: bool = False, failures: list[str] | None = None
) -> list[Segment]:
    """Return the sealed segments and archives, oldest first.

    Args:
        active: whether to include the active log.
        failures: receives the files that cannot be used.
    """
    problems = ReadReport()
    with snapshot(paths, problems) as sources:
        found = [s.segment for s in sources if active or s.segment.kind in (ARCHIVE, SEALED)]
    if failures is not None:
        failures += [f"{paths.folder}/{sentence}" for sentence in problems.sentences()]
    return found


def newest_day(paths: ProjectPaths) -> str | None:
    """Return the day of the last line, or None if there is none."""
    with snapshot(paths, ReadReport()) as sources:
        for source in reversed(sources):
            last = deque(days_of(source, FileReport()), maxlen=1)
            if last:
                return last[0]
    return None


def expire(rewriter: Rewriter, found: Retention) -> None:
    """Remove expired lines, and seal the active log first if it has some."""
    if found.is_skipped:
        return
    paths, folder = rewriter.paths, rewriter.folder
    for segment in list_segments(paths, active=True):
        is_old = segment.kind == ACTIVE and oldest_sign(folder, segment) < found.oldest
        if is_old and any(map(found.is_expired, all_days(folder, segment))):
            device, inode = segment.identity
            rotation.seal_under_lock(paths, folder, found.today, (inode, device))
    for segment in list_segments(paths):
        if oldest_sign(folder, segment) < found.oldest:
            days = all_days(folder, segment)
            expired = set(filter(found.is_expired, days))
            if expired and expired == days:
                rewriter.delete(segment, keep_since(found.oldest, undated=False))
            elif expired:
                rewriter.rewrite(segment, keep_since(found.oldest))


def day_in_name(segment: Segment) -> str:
    """Return the day in the name of a segment; for the active log, a day after all others."""
    match = rotation.SEGMENT.fullmatch(segment.name)
    return match[1] if match else _NEVER


def oldest_sign(folder: int, segment: Segment) -> str:
    """Return the day in the name or that of the first line, the earlier one.

    Both are only signs, because the clock may have been changed. The days of all lines decide.
    """
    first = next(days_of(Source(segment, folder, None), FileReport()), _NEVER)
    return min(day_in_name(segment), first)


def days_of(source: Source, report: FileReport) -> Iterator[str]:
    """Yield the day of each line in order; one that lies across two chunks may come twice."""
    rest = b""
    for chunk in source.chunks(report):
        for found in _DAY.finditer(rest + chunk):
            yield found[1].decode()
        rest = chunk[-64:]


def all_days(folder: int, segment: Segment) -> set[str]:
    """Return the days of all lines; an unreadable line counts with the last change of the file."""
    report = FileReport()
    source = Source(segment, folder, None)
    changed = source.state()
    days = set(days_of(source, report))
    if changed is not None and (report.stopped or not days):
        days.add(limits.day_of(changed.st_mtime))
    return days
