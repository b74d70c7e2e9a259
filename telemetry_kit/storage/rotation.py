"""Rotation of the log: sealing and deletion, under a lock with a short timeout."""

from __future__ import annotations

import os
import re
import stat
import time
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock

from telemetry_kit.errors import JournalError, Refused
from telemetry_kit.files.private import (
    NO_LOCKS,
    SAFE_FLAGS,
    close,
    explain,
    name_of,
    open_folder,
    open_own,
)
from telemetry_kit.storage.ignore_file import ignore
from telemetry_kit.storage.log_file import LOG, what_is_wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from telemetry_kit.paths import ProjectPaths

LOCK = ".telemetry.lock"
COUNT_CACHE = "telemetry-rollup.json"
WAIT_SECONDS = 5.0
SEALED_MODE = 0o400
# The mode while maintenance writes to a sealed file. With 0600, a writer would take it for the log.
WRITABLE_MODE = 0o700
SEGMENT = re.compile(r"telemetry-(\d{4}-\d{2}-\d{2})(?:-(\d+))?\.jsonl(\.gz|\.zst)?")
TEMPORARY = re.compile(r"\.telemetry-.*\.tmp")


@contextmanager
def maintenance(paths: ProjectPaths, wait_seconds: float = 0.0) -> Iterator[int | None]:
    """Hold the maintenance lock, and yield the open folder, or None if there is no folder.

    Args:
        wait_seconds: how long to wait for the lock; 0 tries once.

    Raises:
        JournalError: another process holds it, or the folder belongs to another user.
    """
    try:
        folder = open_folder(paths.folder)
    except FileNotFoundError:
        yield None
        return
    except OSError as error:
        raise JournalError(f"{paths.folder} cannot be opened ({name_of(error)})") from None
    try:
        if not is_own(folder):
            # The owner could not open a lock file that root created.
            raise JournalError(f"{paths.folder} belongs to another user")
        lock = take_lock(paths, folder, wait_seconds)
        try:
            yield folder
        finally:
            close(lock)
    finally:
        close(folder)


def is_own(fd: int) -> bool:
    """Whether an open folder belongs to this user; False if the system does not tell."""
    try:
        return os.fstat(fd).st_uid == os.geteuid()
    except OSError:
        return False


def take_lock(paths: ProjectPaths, folder: int, wait_seconds: float) -> int:
    """Open and lock the lock file.

    Raises:
        JournalError: another process holds the lock, or the file cannot be opened.
    """
    deadline = time.monotonic() + wait_seconds
    while True:
        lock = open_lock(paths, folder)
        try:
            flock(lock, LOCK_EX | LOCK_NB)
            named = os.stat(LOCK, dir_fd=folder, follow_symlinks=False)
            if os.path.samestat(os.fstat(lock), named):
                return lock
        except (BlockingIOError, FileNotFoundError):
            pass  # another process holds it, or a reset has just deleted the file
        except OSError:
            return lock  # the file system has no locks, so work without one
        os.close(lock)
        if time.monotonic() >= deadline:
            raise JournalError(f"another process is busy with {paths.folder}")
        time.sleep(0.01)


def open_lock(paths: ProjectPaths, folder: int) -> int:
    """Open the lock file, or create it.

    Raises:
        JournalError: it cannot be opened.
    """
    try:
        try:
            return open_own(LOCK, os.O_RDWR, dir_fd=folder)
        except FileNotFoundError:
            # First the ignore file, so that git never sees our files.
            ignore(folder, paths)
            lock = open_own(LOCK, os.O_RDWR | os.O_CREAT, dir_fd=folder)
            # A umask may have removed the owner's own bits.
            os.chmod(lock, 0o600)
            return lock
    except OSError as error:
        raise JournalError(f"{paths.lock} cannot be opened ({name_of(error)})") from None
    except Refused as refusal:
        raise JournalError(refusal.reason) from None


def seal(paths: ProjectPaths, day: str, wait_seconds: float = WAIT_SECONDS) -> bool:
    """Close the active log to all writers; the next event starts a new one.

    Args:
        day: today in UTC, as `YYYY-MM-DD`. It is part of the segment's name.
        wait_seconds: how long to wait for the lock.

    Returns:
        Whether there was a log to seal.

    Raises:
        JournalError: it could not be sealed.
    """
    # Without a log, create no lock. A process that creates a log now checks consent after that.
    try:
        os.lstat(paths.log)
    except FileNotFoundError:
        return False
    except OSError:
        pass  # the error is raised below
    with maintenance(paths, wait_seconds) as folder:
        return folder is not None and seal_under_lock(paths, folder, day)


def seal_under_lock(
    paths: ProjectPaths, folder: int, day: str, identity: tuple[int, int] | None = None
) -> bool:
    """Do the same while the maintenance lock is held.

    Args:
        day: today in UTC.
        identity: inode and device that the log must have; None for any log.

    Raises:
        JournalError: it could not be sealed.
    """
    try:
        st = os.stat(LOG, dir_fd=folder, follow_symlinks=False)
        if identity is not None and (st.st_ino, st.st_dev) != identity:
            return False
        if stat.S_ISREG(st.st_mode) and st.st_mode & 0o600 != 0o600 and not st.st_size:
            # A process creates it under a umask that removes the owner's bits, and checks consent
            # after that. If it were sealed now, that process would make it writable again.
            return False
        wrong = what_is_wrong(paths.log, st.st_mode, st.st_nlink, st.st_uid)
        if wrong and not is_plain(st):
            raise JournalError(f"{wrong}: it was not sealed")
        name = free_name(folder, day)
        os.rename(LOG, name, src_dir_fd=folder, dst_dir_fd=folder)
        # Writers may continue until now. Their lines are in the segment.
        protect(folder, name)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise JournalError(f"{paths.log} cannot be sealed ({name_of(error)})") from None
    return True


def is_plain(st: os.stat_result) -> bool:
    """Whether it is a regular file of this user with one name. No other file is changed."""
    return stat.S_ISREG(st.st_mode) and st.st_uid == os.geteuid() and st.st_nlink == 1


def protect(folder: int, name: str) -> None:
    """Remove the write bits of a sealed segment, never through a symbolic link.

    Raises:
        OSError: the system refused.
    """
    fd = os.open(name, os.O_RDONLY | SAFE_FLAGS, dir_fd=folder)
    try:
        if is_plain(os.fstat(fd)):
            os.chmod(fd, SEALED_MODE)
    finally:
        os.close(fd)


def free_name(folder: int, day: str) -> str:
    """Return a name for a new segment that neither a segment nor an archive has."""
    # `startswith` first, because this runs inside a recorded call.
    named = [name for name in os.listdir(folder) if name.startswith(f"telemetry-{day}")]
    taken = filter(None, map(SEGMENT.fullmatch, named))
    number = max((int(m[2] or 1) for m in taken), default=0)
    while True:
        number += 1
        name = f"telemetry-{day}.jsonl" if number == 1 else f"telemetry-{day}-{number}.jsonl"
        # A rename would replace an existing file, so check again.
        if not any(exists(folder, name + suffix) for suffix in ("", ".gz", ".zst")):
            return name


def exists(folder: int, name: str) -> bool:
    """Whether a name exists in an open folder."""
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def clear(paths: ProjectPaths) -> list[str]:
    """Delete every stored event; the lock and the files of others remain.

    Returns:
        The files that could not be deleted, each with the reason.
    """
    failures: list[str] = []
    if not holds_anything(paths):
        return failures
    try:
        with maintenance(paths, WAIT_SECONDS) as folder:
            if folder is None:
                return []
            for name in filter(is_ours, sorted(os.listdir(folder))):
                try:
                    os.unlink(name, dir_fd=folder)
                except OSError as error:
                    failures.append(f"{paths.folder}/{name} ({name_of(error)})")
            # Write it to disk before it is reported: a power failure restores nothing.
            os.fsync(folder)
    except JournalError as error:
        failures.append(str(error))
    except OSError as error:
        failures.append(f"{paths.folder} ({name_of(error)})")
    return failures


def holds_anything(paths: ProjectPaths) -> bool:
    """Whether any of our files exists, so that a lock is needed."""
    try:
        return any(map(is_ours, os.listdir(paths.folder)))
    except OSError as error:
        # The next step reports any other error.
        return not isinstance(error, FileNotFoundError)


def is_ours(name: str) -> bool:
    """Whether a file with this name holds events or counts of ours."""
    return bool(name in (LOG, COUNT_CACHE) or SEGMENT.fullmatch(name) or TEMPORARY.fullmatch(name))


def disk_usage(paths: ProjectPaths) -> tuple[int, int]:
    """Return how many files hold events, and how many bytes they have together."""
    files = total = 0
    try:
        with os.scandir(paths.folder) as entries:
            for entry in entries:
                if entry.name == LOG or SEGMENT.fullmatch(entry.name):
                    total += entry.stat(follow_symlinks=False).st_size
                    files += 1
    except OSError:
        pass  # count the files that can be read
    return files, total


def obstacles(paths: ProjectPaths) -> list[str]:
    """Return the reasons why an event could not be written here, without writing anything."""
    try:
        folder = os.lstat(paths.folder)
    except FileNotFoundError:
        if os.geteuid() == 0 and os.stat(paths.parent).st_uid != 0:
            return [f"{paths.parent} belongs to another user"]
        return disk_obstacles(paths.parent)
    except OSError as error:
        return [f"{paths.folder}: {explain(error)}"]
    if stat.S_ISLNK(folder.st_mode):
        return [f"{paths.folder} is a symbolic link"]
    if not stat.S_ISDIR(folder.st_mode):
        return [f"{paths.folder} is not a folder"]
    found = []
    if folder.st_uid != os.geteuid() or folder.st_mode & 0o002:
        found.append(f"{paths.folder} is not a private folder of yours")
    try:
        log = os.lstat(paths.log)
    except FileNotFoundError:
        return found + disk_obstacles(paths.folder)
    except OSError as error:
        return [*found, f"{paths.log}: {explain(error)}"]
    wrong = what_is_wrong(paths.log, log.st_mode, log.st_nlink, log.st_uid)
    return [*found, wrong] if wrong else found + disk_obstacles(paths.log)


def trouble(paths: ProjectPaths) -> list[str]:
    """Return those reasons, or else the reasons why the log could not be sealed."""
    found = obstacles(paths)
    return found or (disk_obstacles(paths.folder) if os.path.lexists(paths.log) else [])


def disk_obstacles(path: str) -> list[str]:
    """Return why nothing can be written to a path."""
    disk = os.statvfs(path)
    if disk.f_flag & os.ST_RDONLY:
        return [f"{path}: the file system is read-only"]
    if not os.access(path, os.W_OK):
        return [f"{path} cannot be written to"]
    return [f"{path}: the disk is full"] if disk.f_bavail == 0 and disk.f_blocks else []


def without_locks(paths: ProjectPaths) -> str:
    """Return one sentence if the log cannot be locked, else an empty string."""
    try:
        fd = os.open(paths.log, os.O_RDONLY | SAFE_FLAGS)
    except OSError:
        return ""
    try:
        # A shared lock, as a writer takes it, excludes no other writer.
        flock(fd, LOCK_SH | LOCK_NB)
    except OSError as error:
        if error.errno in NO_LOCKS:
            return (
                f"files in {paths.folder} cannot be locked ({name_of(error)}): "
                "events are recorded there, but never compressed"
            )
    finally:
        close(fd)
    return ""
