"""Rotation of the log: sealing and deletion, under a lock with a short timeout.

No event is written here, and nothing in here runs inside a recorded call.
"""

from __future__ import annotations

import os
import re
import stat
import time
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock

from telemetry_kit.errors import JournalError, Refused
from telemetry_kit.files.private import NO_LOCKS, explain, name_of, open_for_writing
from telemetry_kit.storage.ignore_file import ignore
from telemetry_kit.storage.log_file import LOG, what_is_wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from telemetry_kit.paths import ProjectPaths

LOCK = ".telemetry.lock"
ROLLUP = "telemetry-rollup.json"
WAIT_SECONDS = 5.0
SEALED_MODE = 0o400
# Not 0600, by which a writer would take a sealed file for the active one again.
LENT_MODE = 0o700
SEGMENT = re.compile(r"telemetry-(\d{4}-\d{2}-\d{2})(?:-(\d+))?\.jsonl(\.gz|\.zst)?")
TEMPORARY = re.compile(r"\.telemetry-.*\.tmp")


@contextmanager
def maintenance(home: ProjectPaths, wait_seconds: float = 0.0) -> Iterator[int | None]:
    """Hold the maintenance lock; yields the open folder, or None where there is none.

    Args:
        home: whose journal.
        wait_seconds: how long to try; 0 tries once.

    Raises:
        JournalError: another process holds it, or the folder belongs to somebody else.
    """
    try:
        folder = os.open(home.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise JournalError(f"{home.folder} cannot be opened ({name_of(error)})") from None
    try:
        if not is_mine(folder):
            # A lock file of root would keep the owner from maintaining it ever again.
            raise JournalError(f"{home.folder} belongs to another user")
        lock = _lock(home, folder, wait_seconds)
        try:
            yield folder
        finally:
            _close(lock)
    finally:
        _close(folder)


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return  # nothing was written through it


def _lock(home: ProjectPaths, folder: int, wait_seconds: float) -> int:
    until = time.monotonic() + wait_seconds
    while True:
        lock = _open_lock(home, folder)
        try:
            flock(lock, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            os.close(lock)
        except OSError:
            # A file system without flock: there is nothing better than going on.
            return lock
        else:
            if _is_at(lock, folder):
                return lock
            # A reset deleted it meanwhile.
            os.close(lock)
        if time.monotonic() >= until:
            raise JournalError(f"another process is busy with {home.folder}")
        time.sleep(0.01)


def _open_lock(home: ProjectPaths, folder: int) -> int:
    try:
        try:
            return open_for_writing(LOCK, os.O_RDWR, dir_fd=folder)
        except FileNotFoundError:
            # First, so that version control takes nothing of ours.
            ignore(folder, home)
            lock = open_for_writing(LOCK, os.O_RDWR | os.O_CREAT, dir_fd=folder)
            # A umask may have taken the owner's own bits away, for good.
            os.chmod(lock, 0o600)
            return lock
    except OSError as error:
        raise JournalError(f"{home.lock} cannot be opened ({name_of(error)})") from None
    except Refused as refusal:
        raise JournalError(refusal.reason) from None


def _is_at(lock: int, folder: int) -> bool:
    """Whether the lock is still the file of its name."""
    try:
        found = os.stat(LOCK, dir_fd=folder, follow_symlinks=False)
        return os.path.samestat(os.fstat(lock), found)
    except OSError:
        return False


def seal(home: ProjectPaths, day: str, wait_seconds: float = WAIT_SECONDS) -> bool:
    """Close the active log to all writers; the next event begins a new one.

    Args:
        home: whose journal.
        day: today in UTC, as `YYYY-MM-DD`; it names the segment.
        wait_seconds: how long to try to get the lock.

    Returns:
        Whether there was a log to seal.

    Raises:
        JournalError: it could not be sealed.
    """
    # Where there is none there is nothing to lock for, and no lock to be made: who makes a log now
    # asks for consent once more after that.
    try:
        os.lstat(home.log)
    except FileNotFoundError:
        return False
    except OSError:
        pass  # what stands there is told below
    with maintenance(home, wait_seconds) as folder:
        return folder is not None and seal_under_lock(home, folder, day)


def seal_under_lock(
    home: ProjectPaths, folder: int, day: str, only: tuple[int, int] | None = None
) -> bool:
    """The same where the maintenance lock is held already.

    Args:
        home: whose journal.
        folder: its open folder.
        day: today in UTC.
        only: inode and device that the log must have; None for whatever it is.

    Raises:
        JournalError: it could not be sealed.
    """
    try:
        st = os.stat(LOG, dir_fd=folder, follow_symlinks=False)
        if only is not None and (st.st_ino, st.st_dev) != only:
            return False
        if stat.S_ISREG(st.st_mode) and st.st_mode & 0o600 != 0o600 and not st.st_size:
            # It is being made, under a umask that takes the owner's bits: who makes it asks for
            # consent after that, and sealed now it would be opened again.
            return False
        wrong = what_is_wrong(home.log, st.st_mode, st.st_nlink, st.st_uid)
        if wrong and not is_plain(st):
            raise JournalError(f"{wrong}: it was not sealed")
        name = _free_name(folder, day)
        os.rename(LOG, name, src_dir_fd=folder, dst_dir_fd=folder)
        # Until this the writers may go on: their lines are in the segment all the same.
        protect(folder, name)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise JournalError(f"{home.log} cannot be sealed ({name_of(error)})") from None
    return True


def is_mine(fd: int) -> bool:
    """Whether what is open belongs to this user."""
    try:
        return os.fstat(fd).st_uid == os.geteuid()
    except OSError:
        return False


def is_plain(st: os.stat_result) -> bool:
    """Whether this is a plain file of this user with one name: only such a one is changed."""
    return stat.S_ISREG(st.st_mode) and st.st_uid == os.geteuid() and st.st_nlink == 1


def protect(folder: int, name: str) -> None:
    """Take the write bits of a sealed segment away, never through a link.

    Raises:
        OSError: it could not be done.
    """
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(name, flags, dir_fd=folder)
    try:
        if is_plain(os.fstat(fd)):
            os.chmod(fd, SEALED_MODE)
    finally:
        os.close(fd)


def _free_name(folder: int, day: str) -> str:
    # First by the cheap sign: this runs inside a recorded call.
    named = [name for name in os.listdir(folder) if name.startswith(f"telemetry-{day}")]
    taken = filter(None, map(SEGMENT.fullmatch, named))
    number = max((int(m[2] or 1) for m in taken), default=0)
    while True:
        number += 1
        name = f"telemetry-{day}.jsonl" if number == 1 else f"telemetry-{day}-{number}.jsonl"
        # A rename would put an end to what stands there, so a listing alone is not believed.
        if not any(_exists(folder, name + packing) for packing in ("", ".gz", ".zst")):
            return name


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def clear(home: ProjectPaths) -> list[str]:
    """Delete every stored event; the lock and what is not ours stay.

    Returns:
        What could not be deleted, each with the reason.
    """
    survivors: list[str] = []
    if not holds_anything(home):
        return survivors
    try:
        with maintenance(home, WAIT_SECONDS) as folder:
            if folder is None:
                return []
            for name in sorted(os.listdir(folder)):
                if _is_ours(name):
                    try:
                        os.unlink(name, dir_fd=folder)
                    except OSError as error:
                        survivors.append(f"{home.folder}/{name} ({name_of(error)})")
            # On disk before it is called deleted: a power failure brings nothing back.
            os.fsync(folder)
    except JournalError as error:
        survivors.append(str(error))
    except OSError as error:
        survivors.append(f"{home.folder} ({name_of(error)})")
    return survivors


def take_back(home: ProjectPaths, folder: int, log: int, made: list[str]) -> None:
    """Delete what a writer made that was refused then: after a reset nothing of it may be there.

    Args:
        home: whose journal.
        folder: its open folder.
        log: the open log, which the writer made.
        made: the folder, if the writer made it, and the names that it made in it, in order.
    """
    try:
        # Alone, and still empty: no other writer has it open.
        flock(log, LOCK_EX | LOCK_NB)
        named = os.stat(LOG, dir_fd=folder, follow_symlinks=False)
        if named.st_size or not os.path.samestat(named, os.fstat(log)):
            return
        for name in reversed(dict.fromkeys(made)):
            if name == home.folder:
                os.rmdir(name)
            else:
                os.unlink(name, dir_fd=folder)
    except OSError:
        return  # somebody else uses it, or something else is in it


def holds_anything(home: ProjectPaths) -> bool:
    """Whether anything of ours is stored, so that there is something to lock for."""
    try:
        return any(map(_is_ours, os.listdir(home.folder)))
    except OSError as error:
        # What cannot be looked at is told by who tries.
        return not isinstance(error, FileNotFoundError)


def _is_ours(name: str) -> bool:
    return bool(name in (LOG, ROLLUP) or SEGMENT.fullmatch(name) or TEMPORARY.fullmatch(name))


def size(home: ProjectPaths) -> int:
    """How many bytes all segments have together."""
    return extent(home)[1]


def extent(home: ProjectPaths) -> tuple[int, int]:
    """How many files hold events, and how many bytes they have together."""
    files = total = 0
    try:
        with os.scandir(home.folder) as entries:
            for entry in entries:
                if entry.name == LOG or SEGMENT.fullmatch(entry.name):
                    total += entry.stat(follow_symlinks=False).st_size
                    files += 1
    except OSError:
        return files, total
    return files, total


def obstacles(home: ProjectPaths) -> list[str]:
    """What would keep an event from being written here, without writing anything.

    Returns:
        One sentence for each; empty when a writer would find everything in order.
    """
    try:
        folder = os.lstat(home.folder)
    except FileNotFoundError:
        return _cannot_make(home)
    except OSError as error:
        return [f"{home.folder}: {explain(error)}"]
    if stat.S_ISLNK(folder.st_mode):
        return [f"{home.folder} is a symbolic link"]
    if not stat.S_ISDIR(folder.st_mode):
        return [f"{home.folder} is not a folder"]
    found = []
    if folder.st_uid != os.geteuid() or folder.st_mode & 0o002:
        found.append(f"{home.folder} is not a private folder of yours")
    try:
        log = os.lstat(home.log)
    except FileNotFoundError:
        return found + (_read_only(home.folder) or _full(home.folder))
    except OSError as error:
        return [*found, f"{home.log}: {explain(error)}"]
    wrong = what_is_wrong(home.log, log.st_mode, log.st_nlink, log.st_uid)
    if wrong:
        return [*found, wrong]
    return found + (_read_only(home.log) or _full(home.folder))


def trouble(home: ProjectPaths) -> list[str]:
    """The same, and what would keep the log from being sealed."""
    found = obstacles(home)
    return found or (_read_only(home.folder) if os.path.lexists(home.log) else [])


def without_locks(home: ProjectPaths) -> str:
    """One sentence where the log cannot be locked, else an empty string; writes nothing."""
    try:
        fd = os.open(home.log, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        # As a writer does: it keeps no other writer out.
        flock(fd, LOCK_SH | LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return (
                f"files in {home.folder} cannot be locked ({name_of(error)}): "
                "events are recorded there, but never packed"
            )
    finally:
        _close(fd)
    return ""


def _cannot_make(home: ProjectPaths) -> list[str]:
    if os.geteuid() == 0 and os.stat(home.root).st_uid != 0:
        return [f"{home.root} belongs to another user"]
    return _read_only(home.root) or _full(home.root)


def _read_only(path: str) -> list[str]:
    if os.statvfs(path).f_flag & os.ST_RDONLY:
        return [f"{path}: the file system is read-only"]
    return [] if os.access(path, os.W_OK) else [f"{path} cannot be written to"]


def _full(path: str) -> list[str]:
    left = os.statvfs(path)
    return [f"{path}: the disk is full"] if left.f_bavail == 0 and left.f_blocks else []
