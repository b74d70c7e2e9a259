"""The log file: its name, its checks, and the number of open ones in one process.

The caller supplies the content.
"""

from __future__ import annotations

import os
import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LOG = "telemetry.jsonl"
ACTIVE_MODE = 0o100600
MAX_OPEN = 16
# A log that nothing was written to for so long is closed.
IDLE_SECONDS = 10.0

# Bound here because nothing can be looked up while the interpreter shuts down.
_fstat, _close = os.fstat, os.close


class Lease:
    """An open log and what `fstat` said of it: (mode, inode, device, links)."""

    __slots__ = ("fd", "seen")

    def __init__(self, fd: int, seen: tuple[int, int, int, int]) -> None:
        self.fd = fd
        self.seen = seen


class OpenLog:
    """A log that may be closed whenever no `append` is running, to be opened again at need.

    Args:
        clock: monotonic seconds.
    """

    __slots__ = ("_clock", "_given_back", "_lease", "_opened", "_used", "_writers")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lease: Lease | None = None
        # One entry for each `append` that is running. Appending and popping are atomic, so that
        # threads need no lock; an interrupt in between leaves an entry, and the log stays open.
        self._writers: list[None] = []
        self._opened = self._used = 0.0
        self._given_back = False

    def close(self) -> None:
        """Give the lease back; the next line takes a new one."""
        lease, self._lease = self._lease, None
        self._close_lease(lease)

    def _close_lease(self, lease: Lease | None) -> None:
        # Also of a log that was sealed since: an open descriptor keeps it from being packed.
        if lease is not None and self._same_file(lease):
            try:
                _close(lease.fd)
            except OSError:
                return  # every line was acknowledged by its own write

    def _note_opened(self) -> None:
        """Count this log among the open ones, and close others that are too many."""
        self._opened, self._used = self._clock(), -1.0
        if self not in _open:
            _open.append(self)
        self._close_unused()

    def _give_back(self) -> bool:
        """Close the log unless an `append` is running; whether it is closed.

        Call it inside the slow path, so that no other thread opens it meanwhile.
        """
        lease, self._lease = self._lease, None
        if self._writers:
            self._lease = lease
            return False
        self._given_back = True
        self._close_lease(lease)
        return True

    def _close_unused(self) -> None:
        """Close other logs that are idle, and the least recently used of more than `MAX_OPEN`.

        One stays to which an `append` is just writing, and so does one that was opened for an
        event that is still to come. Call it inside the slow path.
        """
        journals = [journal for journal in _open if journal._lease is not None]
        journals.sort(key=lambda journal: max(journal._used, journal._opened))
        left = len(journals)
        kept: list[OpenLog] = []
        for journal in journals:
            unused = journal is not self and journal._is_unused(left > MAX_OPEN)
            if unused and journal._give_back():
                left -= 1
            else:
                kept.append(journal)
        _open[:] = kept

    def _is_unused(self, crowded: bool) -> bool:
        """Whether the log may be closed: idle for long, or `crowded` and not opened just now."""
        idle = self._clock() - max(self._used, self._opened) > IDLE_SECONDS
        return idle or (crowded and self._used >= 0.0)

    def _same_file(self, lease: Lease) -> bool:
        try:
            return _fstat(lease.fd)[1:3] == lease.seen[1:3]
        except OSError:
            return False


_open: list[OpenLog] = []


def what_is_wrong(path: str, mode: int, links: int, owner: int) -> str:
    """Why a file cannot be the log, or an empty string when it can.

    Args:
        path: how it is called.
        mode: its mode, kind and permissions.
        links: how many names it has.
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
