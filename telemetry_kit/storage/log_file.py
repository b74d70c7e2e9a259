"""Open the log file with checks of its owner, mode and links, or create it if consent allows."""

from __future__ import annotations

import os
import stat
from errno import EAGAIN, EWOULDBLOCK
from fcntl import F_DUPFD_CLOEXEC, LOCK_EX, LOCK_NB, LOCK_SH, fcntl, flock

from telemetry_kit.errors import Off, Refused
from telemetry_kit.files.private import NO_LOCKS, SAFE_FLAGS, make_last_folder, open_folder
from telemetry_kit.storage.ignore_file import ignore

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from telemetry_kit.paths import ProjectPaths

LOG = "telemetry.jsonl"
ACTIVE_MODE = 0o100600
_SEALED_MODE = 0o100400
_FLAGS = os.O_RDWR | os.O_APPEND | SAFE_FLAGS
_ATTEMPTS = 50

# Bound here, because nothing can be looked up while the interpreter shuts down.
_fstat, _close = os.fstat, os.close


class Lease:
    """An open log under a shared lock.

    Args:
        fd: the open file.
        seen: its mode, inode, device and link count when it was opened.
    """

    __slots__ = ("fd", "seen")

    def __init__(self, fd: int, seen: tuple[int, int, int, int]) -> None:
        self.fd = fd
        self.seen = seen

    def is_same_file(self) -> bool:
        """Whether the number is still that of our file; the program may have reused it."""
        try:
            return _fstat(self.fd)[1:3] == self.seen[1:3]
        except OSError:
            return False

    def close(self) -> None:
        """Close the file, also if it was sealed: an open descriptor prevents its compression."""
        if self.is_same_file():
            try:
                _close(self.fd)
            except OSError:
                return  # each line was confirmed by its own write


class LogOpener:
    """Opens the log of one project.

    Args:
        allowed: checks consent. It is called before anything is created, and again after the log
            was created.
    """

    def __init__(self, paths: ProjectPaths, allowed: Callable[[], bool]) -> None:
        self.paths = paths
        self.allowed = allowed

    def open(self) -> Lease:
        """Open the log under a shared lock, and create it if it is missing.

        Raises:
            Off: it is missing, and recording was turned off.
            Refused: its folder or file is not safe to use.
            OSError: the system refused.
        """
        created: list[str] = []
        folder = self.open_log_folder(created)
        try:
            for _ in range(_ATTEMPTS):
                lease = self.try_open(folder, created)
                if lease is not None:
                    return lease
        finally:
            _close(folder)
        raise Refused(f"{self.paths.log} was replaced by other processes at every attempt")

    def open_log_folder(self, created: list[str]) -> int:
        """Open the folder of the log; one that is created is added to `created`."""
        path = self.paths.folder
        try:
            fd = open_folder(path)
        except FileNotFoundError:
            if not self.allowed():
                raise Off("recording was turned off") from None
            # Root would leave a folder in the user's project that the user cannot write to.
            if os.geteuid() == 0 and os.stat(self.paths.parent).st_uid != 0:
                raise Refused(f"{self.paths.parent} belongs to another user") from None
            make_last_folder(path)
            created.append(path)
            fd = open_folder(path)
        st = _fstat(fd)
        if st.st_uid == os.geteuid() and not st.st_mode & 0o002:
            return fd
        _close(fd)
        raise Refused(f"{path} is not a private folder of yours")

    def try_open(self, folder: int, created: list[str]) -> Lease | None:
        """Open the log once; None if it was sealed, deleted or created by another process."""
        try:
            fd = os.open(LOG, _FLAGS, dir_fd=folder)
        except FileNotFoundError:
            new = self.create(folder, created)
            if new is None:
                return None
            fd = new
        fd = above_the_streams(fd)
        try:
            try:
                flock(fd, LOCK_SH | LOCK_NB)
            except OSError as error:
                if error.errno in (EAGAIN, EWOULDBLOCK):
                    _close(fd)
                    return None
                # Without locks the log is written all the same, but never archived by itself.
                if error.errno not in NO_LOCKS:
                    raise
            st = _fstat(fd)
            mode, _, _, links = seen = st[:4]
            if mode == _SEALED_MODE or links == 0:
                _close(fd)
                return None
            wrong = what_is_wrong(self.paths.log, mode, links, st.st_uid)
            if wrong:
                raise Refused(wrong)
            if LOG not in created:
                ignore(folder, self.paths)
            elif not self.allowed():
                self.undo(folder, fd, created)
                raise Off("recording was turned off")
        except BaseException:
            _close(fd)
            raise
        return Lease(fd, seen)

    def create(self, folder: int, created: list[str]) -> int | None:
        """Create the log and open it; None if another process has just created it."""
        if not created and not self.allowed():
            raise Off("recording was turned off")
        # First the ignore file, so that git never sees a log that it does not ignore.
        if ignore(folder, self.paths):
            created.append(".gitignore")
        try:
            fd = os.open(LOG, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
        except FileExistsError:
            return None
        created.append(LOG)
        try:
            # Change only a wrong mode of the active log: another process may have sealed it.
            st = _fstat(fd)
            if st.st_mode != ACTIVE_MODE:
                named = os.stat(LOG, dir_fd=folder, follow_symlinks=False)
                if os.path.samestat(named, st):
                    os.fchmod(fd, 0o600)
        except FileNotFoundError:
            return fd  # sealing starts with a rename
        except BaseException:
            _close(fd)
            raise
        return fd

    def undo(self, folder: int, log: int, created: list[str]) -> None:
        """Delete what was created just now: after a reset, none of it may remain.

        Args:
            log: the open log.
            created: the path of the folder if it was created, and names in it, in order.
        """
        try:
            # Only if the log is empty and no other process has it open.
            flock(log, LOCK_EX | LOCK_NB)
            named = os.stat(LOG, dir_fd=folder, follow_symlinks=False)
            if named.st_size or not os.path.samestat(named, _fstat(log)):
                return
            for name in reversed(dict.fromkeys(created)):
                if name == self.paths.folder:
                    os.rmdir(name)
                else:
                    os.unlink(name, dir_fd=folder)
        except OSError:
            return  # another process uses the log, or the folder has other files


def above_the_streams(fd: int) -> int:
    """Move a file to a number above 2, because the program may have closed its streams."""
    if fd > 2:
        return fd
    try:
        return fcntl(fd, F_DUPFD_CLOEXEC, 3)
    finally:
        _close(fd)


def what_is_wrong(path: str, mode: int, links: int, owner: int) -> str:
    """Return why a file cannot be the log, or an empty string if it can.

    Args:
        path: its path.
        mode: its mode, kind and permissions.
        links: its number of names.
        owner: its user id.
    """
    if stat.S_ISLNK(mode):
        return f"{path} is a symbolic link"
    if not stat.S_ISREG(mode):
        return f"{path} is not a plain file"
    if owner != os.geteuid():
        return f"{path} belongs to another user"
    if links != 1:
        return f"{path} has {links} links"
    if mode != ACTIVE_MODE:
        return f"{path} has mode {mode & 0o7777:04o} instead of 0600: chmod 600 it"
    return ""
