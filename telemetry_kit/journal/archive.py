"""What happens to sealed segments: packed, thinned out, deleted when their time is over.

Everything here runs under the maintenance lock and never inside a recorded call. A sealed segment
is touched only when no writer holds its lease any more; until its archive is whole, it is the
sealed file that counts.
"""

from __future__ import annotations

import os
import re
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from fcntl import LOCK_EX, LOCK_NB, flock

from telemetry_kit import private
from telemetry_kit.errors import JournalError
from telemetry_kit.home import Home
from telemetry_kit.journal import upkeep
from telemetry_kit.journal.segments import (
    ARCHIVE,
    SEALED,
    Problems,
    Report,
    Segment,
    Source,
    is_bomb,
    snapshot,
)
from telemetry_kit.private import name_of

MAX_BYTES = 1 << 30
MAX_CLOCK_DAYS = 400
_COMPRESSION = 6
_LEASE_SECONDS = 1.0
_CHUNK_BYTES = 1 << 16
_DAY = re.compile(rb'"timestamp": ?"(\d{4}-\d{2}-\d{2})')


@dataclass(slots=True)
class Done:
    """What maintenance did.

    Args:
        archived: segments packed.
        deleted: segments deleted because their time, or the space for them, was over.
        lines: lines removed from segments that stay.
        leased: sealed segments left alone because a program still holds them open.
        survivors: what should have gone and could not, each with the reason.
    """

    archived: int = 0
    deleted: int = 0
    lines: int = 0
    leased: int = 0
    survivors: list[str] = field(default_factory=list)


def maintain(home: Home, retention_days: int, today: str) -> Done:
    """Bring the journal in order: finish what was broken off, pack, and keep the retention.

    Returns at once where another process is at it.

    Args:
        home: whose journal.
        retention_days: lines older than this go.
        today: the day in UTC, as `YYYY-MM-DD`.
    """
    done = Done()
    _sweep(home)
    if not upkeep.size(home):
        return done  # nothing is stored: no lock either
    try:
        with upkeep.maintenance(home) as folder:
            if folder is not None:
                _heal(home, folder, done)
                oldest = oldest_kept(home, retention_days, today)
                if oldest is not None:
                    _seal_if_old(home, folder, oldest, today)
                _pack_all(home, folder, done)
                if oldest is not None:
                    _retain(home, folder, oldest, done)
                _bound(home, folder, done)
                _forget_counts(folder, done)
    except (JournalError, OSError) as error:
        done.survivors.append(str(error) if isinstance(error, JournalError) else name_of(error))
    return done


def rewrite(home: Home, keep: Callable[[bytes], bool], today: str) -> Done:
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
    with upkeep.maintenance(home, upkeep.WAIT_SECONDS) as folder:
        if folder is not None:
            try:
                _heal(home, folder, done)
                upkeep.seal_under_lock(home, folder, today)
                for segment in _segments(home, survivors=done.survivors):
                    _thin(home, folder, segment, keep, done)
                _forget_counts(folder, done)
            except OSError as error:
                done.survivors.append(f"{home.folder} ({name_of(error)})")
    return done


def _forget_counts(folder: int, done: Done) -> None:
    """The counts of lines that are gone must not name them any longer."""
    if done.lines or done.deleted:
        try:
            os.unlink(upkeep.ROLLUP, dir_fd=folder)
        except FileNotFoundError:
            return


def oldest_day(home: Home) -> str | None:
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


def _heal(home: Home, folder: int, done: Done) -> None:
    for name in os.listdir(folder):
        try:
            if upkeep.TEMPORARY.fullmatch(name):
                os.unlink(name, dir_fd=folder)
            elif upkeep.SEGMENT.fullmatch(name) and name.endswith(".jsonl"):
                # A sealer that died between rename and chmod left it open to its writers.
                st = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if st.st_mode == 0o100600:
                    upkeep.protect(folder, name)
        except OSError as error:
            done.survivors.append(f"{home.folder}/{name} ({name_of(error)})")


def _sweep(home: Home) -> None:
    """Delete what commands that were killed left in the user's own folders."""
    for top in {home.config, home.state}:
        private.sweep(top)
        try:
            places = os.listdir(f"{top}/projects")
        except OSError:
            continue
        for place in places:
            private.sweep(f"{top}/projects/{place}")


def _segments(
    home: Home, active: bool = False, survivors: list[str] | None = None
) -> list[Segment]:
    problems = Problems()
    with snapshot(home, problems) as sources:
        found = [s.segment for s in sources if active or s.segment.kind in (ARCHIVE, SEALED)]
    if survivors is not None:
        survivors += [f"{home.folder}/{told}" for told in problems.sentences()]
    return found


def oldest_kept(home: Home, retention_days: int, today: str) -> str | None:
    """The first day that the retention keeps.

    Args:
        home: whose journal.
        retention_days: how many days lines are kept.
        today: the day in UTC, as `YYYY-MM-DD`.

    Returns:
        That day, or None where the clock is so far past the newest archive that it cannot be
        right: one wrong clock must not delete everything.
    """
    try:
        names = os.listdir(home.folder)
        newest = max((m[1] for m in map(upkeep.SEGMENT.fullmatch, names) if m), default="")
        now = date.fromisoformat(today)
        if newest and now - date.fromisoformat(newest) > timedelta(MAX_CLOCK_DAYS):
            return None
        return (now - timedelta(retention_days)).isoformat()
    except (OSError, ValueError, OverflowError):
        return None


def _seal_if_old(home: Home, folder: int, oldest: str, today: str) -> None:
    for segment in _segments(home, active=True):
        if segment.kind not in (ARCHIVE, SEALED):
            first, last = _first_day(folder, segment), _last_day(home)
            trusted = last is not None and _days(last, today) <= MAX_CLOCK_DAYS
            if first is not None and first < oldest and trusted:
                device, inode = segment.identity
                upkeep.seal_under_lock(home, folder, today, (inode, device))


def _days(begin: str, end: str) -> int:
    return (date.fromisoformat(end) - date.fromisoformat(begin)).days


def _pack_all(home: Home, folder: int, done: Done) -> None:
    for segment in _segments(home):
        if segment.kind == SEALED:
            _thin(home, folder, segment, None, done)


def _retain(home: Home, folder: int, oldest: str, done: Done) -> None:
    keep = before(oldest)
    for segment in _segments(home):
        match = upkeep.SEGMENT.fullmatch(segment.name)
        if match is not None and match[1] < oldest:
            # A clock that stood in the past gives new lines an old name: the lines decide.
            if (_newest_day(folder, segment) or "") < oldest:
                _delete(home, folder, segment, done)
            else:
                _thin(home, folder, segment, keep, done)
        elif (_first_day(folder, segment) or oldest) < oldest:
            _thin(home, folder, segment, keep, done)


def _bound(home: Home, folder: int, done: Done) -> None:
    segments = _segments(home)
    total = sum(s.size_bytes for s in segments)
    for segment in segments:
        if total <= MAX_BYTES:
            return
        total -= segment.size_bytes
        _delete(home, folder, segment, done)


def _delete(home: Home, folder: int, segment: Segment, done: Done) -> None:
    try:
        _unlink(folder, segment)
    except OSError as error:
        done.survivors.append(f"{home.folder}/{segment.name} ({name_of(error)})")
    else:
        done.deleted += 1


def _unlink(folder: int, segment: Segment) -> None:
    if segment.kind == SEALED:
        # What an archiver that was killed has left behind it must not come to light.
        try:
            os.unlink(f"{segment.name}.gz", dir_fd=folder)
        except FileNotFoundError:
            pass
    os.unlink(segment.name, dir_fd=folder)


def _thin(
    home: Home,
    folder: int,
    segment: Segment,
    keep: Callable[[bytes], bool] | None,
    done: Done,
) -> None:
    """Pack a segment, without the lines that are not to be kept.

    `keep` is None to pack a sealed segment as it is, where no writer is left; with it, a segment
    that a sleeping program holds open is rewritten too, unless it grows meanwhile.
    """
    lock = None
    try:
        if segment.kind == SEALED:
            lock = _without_writers(folder, segment.name, _LEASE_SECONDS if keep else 0.0)
            if lock is None and keep is None:
                done.leased += 1
                return
        _replace(home, folder, segment, keep, done)
    except OSError as error:
        done.survivors.append(f"{home.folder}/{segment.name} ({name_of(error)})")
    finally:
        if lock is not None:
            os.close(lock)


def _without_writers(folder: int, name: str, wait_seconds: float) -> int | None:
    """The sealed file with all leases given back; None where a program keeps one."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(name, flags, dir_fd=folder)
    except PermissionError:
        # Sealed means read-only, to us as well; an exclusive flock does not need more.
        fd = os.open(name, os.O_RDONLY | flags & ~os.O_RDWR, dir_fd=folder)
    until = time.monotonic() + wait_seconds
    while True:
        try:
            flock(fd, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(fd)
                return None
            time.sleep(0.005)
        except OSError:
            os.close(fd)
            return None
        else:
            return fd


def _replace(
    home: Home, folder: int, segment: Segment, keep: Callable[[bytes], bool] | None, done: Done
) -> None:
    stem = segment.name.partition(".jsonl")[0]
    report = Report()
    removed = _Removed(keep)
    kept: int | None = None
    temporary = f".{stem}-{os.urandom(4).hex()}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    out = os.open(temporary, flags, 0o600, dir_fd=folder)
    try:
        try:
            os.fchmod(out, 0o600)
            for level in (_COMPRESSION, 0):
                removed = _Removed(keep)
                chunks = removed.counted(Source(segment, folder, None).chunks(report))
                kept = _pack(out, removed.filter(chunks) if keep else chunks, level)
                if kept is not None:
                    break
                os.ftruncate(out, 0)
                os.lseek(out, 0, os.SEEK_SET)
            else:
                report.stopped = "it is larger than an archive may be, and stays as it is"
            os.fsync(out)
        finally:
            os.close(out)
        if report.stopped:
            # Better a damaged archive than what is left of it.
            done.survivors.append(f"{home.folder}/{segment.name} ({report.stopped})")
            return
        if keep is not None and not removed.lines and segment.kind == ARCHIVE:
            return
        if segment.kind == SEALED:
            found = os.stat(segment.name, dir_fd=folder, follow_symlinks=False)
            if found.st_size != removed.bytes:
                done.survivors.append(f"{home.folder}/{segment.name} (it is still written to)")
                return
        if kept:
            os.rename(temporary, f"{stem}.jsonl.gz", src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
            if segment.kind == SEALED:
                os.unlink(segment.name, dir_fd=folder)
        else:
            _unlink(folder, segment)
        done.lines += removed.lines
        if segment.kind == SEALED and kept:
            done.archived += 1
        elif not kept:
            done.deleted += 1
    finally:
        try:
            os.unlink(temporary, dir_fd=folder)
        except FileNotFoundError:
            pass


class _Removed:
    """Filters lines and counts those that go, and the bytes that came.

    Args:
        keep: told each line without its end.
    """

    def __init__(self, keep: Callable[[bytes], bool] | None) -> None:
        self._keep = keep or (lambda _line: True)
        self.lines = 0
        self.bytes = 0

    def counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.bytes += len(chunk)
            yield chunk

    def filter(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        rest = b""
        for chunk in chunks:
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if self._kept(line):
                    yield line + b"\n"
        if rest and self._kept(rest):
            yield rest

    def _kept(self, line: bytes) -> bool:
        kept = self._keep(line)
        self.lines += not kept
        return kept


def _pack(out: int, chunks: Iterator[bytes], level: int) -> int | None:
    """Write chunks as gzip, without a name or a time in it.

    Returns:
        How many bytes went in; None when a reader would take the result for a bomb.
    """
    pack = zlib.compressobj(level, zlib.DEFLATED, 31)
    total = packed = 0
    for chunk in chunks:
        total += len(chunk)
        piece = pack.compress(chunk)
        packed += len(piece)
        _write(out, piece)
        if is_bomb(packed if level else total, total):
            return None
    _write(out, pack.flush())
    return total


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _first_day(folder: int, segment: Segment) -> str | None:
    for chunk in Source(segment, folder, None).chunks(Report()):
        found = _DAY.search(chunk)
        return found[1].decode() if found else None
    return None


def _newest_day(folder: int, segment: Segment) -> str | None:
    newest, rest = b"", b""
    for chunk in Source(segment, folder, None).chunks(Report()):
        # A day may lie across two chunks.
        newest = max([newest, *_DAY.findall(rest + chunk)])
        rest = chunk[-64:]
    return newest.decode() or None


def _last_day(home: Home) -> str | None:
    try:
        fd = os.open(home.log, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        end = os.fstat(fd).st_size
        found = _DAY.findall(os.pread(fd, _CHUNK_BYTES, max(0, end - _CHUNK_BYTES)))
        return found[-1].decode() if found else None
    finally:
        os.close(fd)
