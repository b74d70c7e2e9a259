"""Maintenance of sealed segments: compress, rewrite, and delete them when they expire.

Everything here runs under the maintenance lock and never inside a recorded call.
`storage.rewrite` changes each file, even while a program holds it open.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from time import gmtime, strftime

from telemetry_kit.errors import JournalError
from telemetry_kit.files import leftovers
from telemetry_kit.files.private import name_of
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import limits, rotation
from telemetry_kit.storage import rewrite as storage_rewrite
from telemetry_kit.storage.retention import Term
from telemetry_kit.storage.rewrite import Done
from telemetry_kit.storage.segments import (
    ACTIVE,
    ARCHIVE,
    SEALED,
    Problems,
    Report,
    Segment,
    Source,
    snapshot,
)

_NEVER = "9999-12-31"
_TAIL_BYTES = 1 << 13  # two lines at least
_DAY = re.compile(rb'"timestamp": ?"(\d{4}-\d{2}-\d{2})')


def maintain(home: ProjectPaths, retention_days: int, today: str) -> Done:
    """Bring the journal in order: finish what was broken off, pack, and keep the retention.

    Returns at once where another process is at it.

    Args:
        home: whose journal.
        retention_days: lines older than this go.
        today: the day in UTC, as `YYYY-MM-DD`.
    """
    done = Done()
    _sweep(home)
    if not rotation.holds_anything(home):
        return done  # nothing of ours: no lock either
    try:
        with rotation.maintenance(home) as folder:
            if folder is not None:
                _heal(home, folder, done)
                _pack_all(home, folder, done)
                _retain(home, folder, term(home, retention_days, today), done)
                limits.bound(home, folder, _segments(home), done)
                _forget_counts(folder, done)
    except (JournalError, OSError) as error:
        done.survivors.append(str(error) if isinstance(error, JournalError) else name_of(error))
    return done


def rewrite(home: ProjectPaths, keep: Callable[[bytes], bool], today: str) -> Done:
    """Remove lines from everything that is stored.

    Args:
        home: whose journal.
        keep: told each line without its end; False removes it.
        today: the day in UTC, as `YYYY-MM-DD`.

    Returns:
        How many lines went, and what could not be rewritten.

    Raises:
        JournalError: nothing could be touched.
    """
    done = Done()
    if not rotation.holds_anything(home):
        return done
    with rotation.maintenance(home, rotation.WAIT_SECONDS) as folder:
        if folder is not None:
            try:
                _heal(home, folder, done)
                rotation.seal_under_lock(home, folder, today)
                for segment in _segments(home, survivors=done.survivors):
                    storage_rewrite.thin(home, folder, segment, keep, done)
                _forget_counts(folder, done)
                # On disk before it is called removed: a power failure brings nothing back.
                os.fsync(folder)
            except OSError as error:
                done.survivors.append(f"{home.folder} ({name_of(error)})")
    return done


def _forget_counts(folder: int, done: Done) -> None:
    """The counts of lines that are gone must not name them any longer."""
    if done.lines or done.deleted:
        try:
            os.unlink(rotation.ROLLUP, dir_fd=folder)
        except FileNotFoundError:
            return


def oldest_day(home: ProjectPaths) -> str | None:
    """The day of the oldest line, or None where there is none."""
    with snapshot(home, Problems()) as sources:
        for source in sources:
            found = _DAY.search(next(source.chunks(Report()), b""))
            if found is not None:
                return found[1].decode()
    return None


def before(day: str) -> Callable[[bytes], bool]:
    """Keeps the lines of `day` and later, and those whose day cannot be read.

    Args:
        day: as `YYYY-MM-DD`.
    """
    limit = day.encode("ascii")

    def keep(line: bytes) -> bool:
        found = _DAY.search(line)
        return found is None or found[1] >= limit

    return keep


# -- one step each -----------------------------------------------------------------------------


def _heal(home: ProjectPaths, folder: int, done: Done) -> None:
    for name in os.listdir(folder):
        try:
            if rotation.TEMPORARY.fullmatch(name):
                os.unlink(name, dir_fd=folder)
            elif rotation.SEGMENT.fullmatch(name) and name.endswith(".jsonl"):
                # A sealer that died between rename and chmod left it open to its writers.
                st = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if st.st_mode in (0o100600, stat.S_IFREG | rotation.LENT_MODE):
                    rotation.protect(folder, name)
        except OSError as error:
            done.survivors.append(f"{home.folder}/{name} ({name_of(error)})")


def _sweep(home: ProjectPaths) -> None:
    """Delete what commands that were killed left in the user's own folders."""
    for top in {home.config, home.state}:
        leftovers.sweep(top)
        try:
            places = os.listdir(f"{top}/projects")
        except OSError:
            continue
        for place in places:
            leftovers.sweep(f"{top}/projects/{place}")


def _segments(
    home: ProjectPaths, active: bool = False, survivors: list[str] | None = None
) -> list[Segment]:
    problems = Problems()
    with snapshot(home, problems) as sources:
        found = [s.segment for s in sources if active or s.segment.kind in (ARCHIVE, SEALED)]
    if survivors is not None:
        survivors += [f"{home.folder}/{told}" for told in problems.sentences()]
    return found


def term(home: ProjectPaths, retention_days: int, today: str) -> Term:
    """The retention of a journal on one day.

    An archive of the same day proves nothing: the clock that is in question has named it. Before
    the first archive it is the newest event that counts.

    Args:
        home: whose journal.
        retention_days: how many days lines are kept.
        today: the day in UTC, as `YYYY-MM-DD`.
    """
    found = (rotation.SEGMENT.fullmatch(segment.name) for segment in _segments(home))
    days = [match[1] for match in found if match and match[1] != today]
    return Term(retention_days, today, max(days) if days else _newest_day(home) or today)


def _newest_day(home: ProjectPaths) -> str | None:
    """The day of the last line, or None where there is none."""
    with snapshot(home, Problems()) as sources:
        for source in reversed(sources):
            tail = b""
            for chunk in source.chunks(Report()):
                tail = (tail + chunk)[-_TAIL_BYTES:]
            if found := _DAY.findall(tail):
                return str(found[-1], "ascii")
    return None


def _pack_all(home: ProjectPaths, folder: int, done: Done) -> None:
    for segment in _segments(home):
        if segment.kind == SEALED:
            storage_rewrite.pack(home, folder, segment, done)


def _retain(home: ProjectPaths, folder: int, found: Term, done: Done) -> None:
    if found.is_skipped:
        return
    _seal_if_over(home, folder, found)
    for segment in _segments(home):
        if _oldest_sign(folder, segment) < found.oldest:
            _retain_one(home, folder, segment, found, done)


def _oldest_sign(folder: int, segment: Segment) -> str:
    """The day in its name or of its first line; the lines decide, for a clock may have jumped."""
    match = rotation.SEGMENT.fullmatch(segment.name)
    named = match[1] if match else _NEVER
    return min(named, _first_day(folder, segment) or _NEVER)


def _seal_if_over(home: ProjectPaths, folder: int, found: Term) -> None:
    for segment in _segments(home, active=True):
        old = segment.kind == ACTIVE and _oldest_sign(folder, segment) < found.oldest
        if old and any(map(found.over, _all_days(folder, segment))):
            device, inode = segment.identity
            rotation.seal_under_lock(home, folder, found.today, (inode, device))


def _retain_one(home: ProjectPaths, folder: int, segment: Segment, found: Term, done: Done) -> None:
    def stays(line: bytes) -> bool:
        return not _is_over(line, found)

    def stays_for_sure(line: bytes) -> bool:
        return not _is_over(line, found, otherwise=True)

    days = _all_days(folder, segment)
    over = set(filter(found.over, days))
    if over and over == days:
        storage_rewrite.delete(home, folder, segment, stays_for_sure, done)
    elif over:
        storage_rewrite.thin(home, folder, segment, stays, done)


def _is_over(line: bytes, found: Term, otherwise: bool = False) -> bool:
    day = _DAY.search(line)
    return otherwise if day is None else found.over(day[1].decode())


def _first_day(folder: int, segment: Segment) -> str | None:
    return next(_days(Source(segment, folder, None), Report()), None)


def _days(source: Source, report: Report) -> Iterator[str]:
    """The days of its lines, in their order; one that lies across two chunks may come twice."""
    rest = b""
    for chunk in source.chunks(report):
        for found in _DAY.finditer(rest + chunk):
            yield found[1].decode()
        rest = chunk[-64:]


def _all_days(folder: int, segment: Segment) -> set[str]:
    """The days of all lines; what cannot be read is no newer than the file."""
    report = Report()
    source = Source(segment, folder, None)
    changed = source.state()
    days = set(_days(source, report))
    if changed is not None and (report.stopped or not days):
        days.add(strftime("%Y-%m-%d", gmtime(changed.st_mtime)))
    return days
