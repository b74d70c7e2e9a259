"""The write path: one leased descriptor, one `fstat`, one `write` per event.

There is no buffer, no thread and no lock between an event and the disk. It writes lines and does
not parse them.

The writer holds the log open under a shared flock for as long as it is open. Mode and link count
of the open file show whether it is still the current log. Sealing removes the write bits,
clearing removes the link, and a host that closed our descriptor leaves another inode behind
the number. The design notes of the log have the measurements of each step.
"""

from __future__ import annotations

import os
from _thread import allocate_lock
from errno import EAGAIN, EBADF, ENOSPC, EWOULDBLOCK
from fcntl import F_DUPFD_CLOEXEC, LOCK_NB, LOCK_SH, fcntl, flock
from time import monotonic, time

from telemetry_kit._runtime import load
from telemetry_kit.errors import Off, Refused
from telemetry_kit.files.private import NO_LOCKS, explain, make_last_folder, name_of
from telemetry_kit.storage.ignore_file import ignore
from telemetry_kit.storage.log_file import ACTIVE_MODE, LOG, Lease, OpenLog, what_is_wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from telemetry_kit.paths import ProjectPaths

SLOW_SECONDS = 0.05
SEAL_EVENTS = 10_000
RETENTION_DAYS = 90
# No line of ours is shorter, so a smaller file cannot hold that many.
MIN_LINE_BYTES = 160
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_SEALED_MODE = 0o100400
_ROUNDS = 50

# Bound here because nothing can be looked up while the interpreter shuts down.
_fstat, _write, _close = os.fstat, os.write, os.close


# One slow path at a time; nobody ever waits for it. A fork may copy it while it is held.
_slow_path = allocate_lock()


def _renew_after_fork() -> None:
    global _slow_path
    _slow_path = allocate_lock()


os.register_at_fork(after_in_child=_renew_after_fork)


class Journal(OpenLog):
    """The log of one project, as a writer sees it.

    Args:
        home: where it is.
        allowed: asked before anything is made, and again after the log was made; False means
            that nothing may be.
        clock: monotonic seconds.
        seal_events: a log with so many lines is sealed.
        keep_days: asked when it is: segments with nothing later in them go.
        remember: told the system's name of an error, for `doctor`.
    """

    __slots__ = (
        "_allowed",
        "_checkpoint",
        "_counted",
        "_healed",
        "_home",
        "_keep_days",
        "_pause",
        "_remember",
        "_resume",
        "_seal_events",
        "_size",
        "_slow",
        "lost",
        "trouble",
    )

    def __init__(
        self,
        home: ProjectPaths,
        allowed: Callable[[], bool],
        clock: Callable[[], float] = monotonic,
        seal_events: int = SEAL_EVENTS,
        keep_days: Callable[[], int] = lambda: RETENTION_DAYS,
        remember: Callable[[str], None] = lambda _name: None,
    ) -> None:
        super().__init__(clock)
        self._home = home
        self._allowed = allowed
        self._pause = 0.0
        self._resume = 0.0
        self._slow = 0
        self._healed = False
        self._seal_events = seal_events
        self._keep_days = keep_days
        self._remember = remember
        self._size = 0
        self._start_counting()
        self.lost = 0
        self.trouble = ""

    def open(self) -> None:
        """Take the lease now, unless it is held.

        Raises:
            Refused: it cannot be had; the reason says why.
        """
        self._given_back = False
        if self._lease is None:
            self._guard(self._take_turn)
        elif _slow_path.acquire(False):
            try:
                self._close_unused()
            finally:
                _slow_path.release()

    def append(self, line: bytes) -> bool:
        """Write one whole line.

        Args:
            line: the bytes, with a newline last and nowhere else.

        Returns:
            True when it is on file. False when nothing was written because the log was sealed,
            cleared or replaced since the last line, or closed to save descriptors; it is open
            then, and what the line was made from (consent, key) must be asked again before the
            next try.

        Raises:
            Refused: it was not written; the reason says why.
        """
        # First the entry, then the look at the lease; `_give_back` does it the other way round. So
        # one of the two sees the other, and no number is closed between `fstat` and `write`.
        writers = self._writers
        writers.append(None)
        try:
            lease = self._lease
            if lease is None or not self._healed or self._pause:
                return self._guard(self._append, line)
            self._used = started = self._clock()
            try:
                found = _fstat(lease.fd)
                if found[:4] != lease.seen:
                    return self._guard(self._append, line)
                if _write(lease.fd, line) != len(line):
                    self._end_short_line(lease.fd)
                if found.st_size >= self._checkpoint:
                    self._size = found.st_size
                    self._seal_if_full(lease)
            except (OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno == EBADF:
                    # The host closed our descriptor; nothing was written.
                    return self._guard(self._append, line)
                raise self._failed(started, error) from None
            if self._slow or self._clock() - started > SLOW_SECONDS:
                self._judge_speed(started)
            return True
        finally:
            writers.pop()

    # -- the hot path ----------------------------------------------------------------------

    def _append(self, line: bytes) -> bool:
        lease = self._lease
        if lease is None:
            closed, self._given_back = self._given_back, False
            self._take_turn()
            lease = self._lease
            if lease is None:
                return self._append_alone(line)
            if closed:
                return False
        if not self._is_live(lease):
            if not _slow_path.acquire(False):
                return self._append_alone(line)
            try:
                self._switch(lease)
            finally:
                _slow_path.release()
            return False
        self._put(lease.fd, line)
        self._used = self._clock()
        if self._size >= self._checkpoint:
            self._seal_if_full(lease)
        return True

    def _is_live(self, lease: Lease) -> bool:
        try:
            st = _fstat(lease.fd)
            self._size = st.st_size
            return st[:4] == lease.seen
        except OSError as error:
            if error.errno == EBADF:
                return False
            raise

    def _put(self, fd: int, line: bytes) -> None:
        if not self._healed:
            # A writer that was killed inside its line left a fragment: do not glue ours to it.
            self._healed = True
            if _unterminated(fd):
                line = b"\n" + line
        written = _write(fd, line)
        if written != len(line):
            self._end_short_line(fd)

    def _end_short_line(self, fd: int) -> None:
        self.lost += 1
        try:
            _write(fd, b"\n")
        except OSError:
            self._healed = False
        raise OSError(ENOSPC, "short write")

    # -- sealing ---------------------------------------------------------------------------

    def _start_counting(self) -> None:
        self._counted = (0, 0)
        self._checkpoint = self._seal_events * MIN_LINE_BYTES

    def _seal_if_full(self, lease: Lease) -> None:
        """Count the lines that came since the last look; seal the log when it is full."""
        counted, at = self._counted
        try:
            while at < self._size and (chunk := os.pread(lease.fd, 1 << 20, at)):
                counted += chunk.count(b"\n")
                at += len(chunk)
        except OSError:
            # The line is on file, and that is what its caller is told.
            at = self._size
        self._counted = (counted, at)
        missing = self._seal_events - counted
        self._checkpoint = at + max(missing, self._seal_events // 100) * MIN_LINE_BYTES
        if missing > 0:
            return
        try:
            # deferred: once in ten thousand events
            limits = load("telemetry_kit.storage.limits")
            limits.seal_full(self._home, lease.seen[1:3], self._keep_days(), time())
        except Exception:
            # Somebody else is at it, or it cannot be done now: the log just grows a little more.
            return

    # -- the slow path ---------------------------------------------------------------------

    def _take_turn(self) -> None:
        if not _slow_path.acquire(False):
            return
        try:
            if self._lease is None:
                self._lease = self._open()
                self._start_counting()
                self._note_opened()
        finally:
            _slow_path.release()

    def _switch(self, old: Lease) -> None:
        if self._lease is not old:
            return
        # If opening fails, the next event begins from nothing.
        self._lease = None
        try:
            new = self._open()
        except BaseException:
            if self._same_file(old):
                _close(old.fd)
            raise
        # The number may be in use between another thread's fstat and write: swapping the file
        # behind it keeps that write in a file of ours. A number that the host took over is not
        # ours to touch.
        # The host closed it, and the new one got the very number: nothing to swap.
        if new.fd != old.fd and self._same_file(old):
            os.dup2(new.fd, old.fd, inheritable=False)
            _close(new.fd)
            new = Lease(old.fd, new.seen)
        self._lease = new
        self._start_counting()

    def _append_alone(self, line: bytes) -> bool:
        # Another thread, or the frame a signal interrupted, is inside the slow path.
        lease = self._open()
        try:
            healed, self._healed = self._healed, False
            self._put(lease.fd, line)
            self._healed = self._healed or healed
        finally:
            _close(lease.fd)
        return True

    def _open(self) -> Lease:
        made: list[str] = []
        folder = self._open_folder(made)
        try:
            for _ in range(_ROUNDS):
                lease = self._try_open(folder, made)
                if lease is not None:
                    self._healed = False
                    return lease
        finally:
            _close(folder)
        raise Refused(f"{self._home.log} is being replaced all the time")

    def _open_folder(self, made: list[str]) -> int:
        path = self._home.folder
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(path, flags)
        except FileNotFoundError:
            self._ask_again()
            self._make_folder(path)
            made.append(path)
            fd = os.open(path, flags)
        st = _fstat(fd)
        if st.st_uid == os.geteuid() and not st.st_mode & 0o002:
            return fd
        _close(fd)
        raise Refused(f"{path} is not a private folder of yours")

    def _ask_again(self) -> None:
        """Ask before anything is made: a writer that finds nothing may have been told to stop.

        Raises:
            Off: recording was turned off.
        """
        if not self._allowed():
            raise Off("recording was turned off")

    def _make_folder(self, path: str) -> None:
        # Root in somebody else's project would leave a folder that its owner cannot use.
        if os.geteuid() == 0 and os.stat(self._home.root).st_uid != 0:
            raise Refused(f"{self._home.root} belongs to another user")
        make_last_folder(path)

    def _try_open(self, folder: int, made: list[str]) -> Lease | None:
        try:
            fd = os.open(LOG, _FLAGS, dir_fd=folder)
        except FileNotFoundError:
            fd = self._create(folder, made)
            if fd < 0:
                return None
        fd = _above_the_streams(fd)
        try:
            try:
                flock(fd, LOCK_SH | LOCK_NB)
            except OSError as error:
                if error.errno in (EAGAIN, EWOULDBLOCK):
                    _close(fd)
                    return None
                # A file system without flock: write without a lease, never archived by itself.
                if error.errno not in NO_LOCKS:
                    raise
            st = _fstat(fd)
            mode, _, _, links = seen = st[:4]
            if mode == _SEALED_MODE or links == 0:
                _close(fd)
                return None
            wrong = what_is_wrong(self._home.log, mode, links, st.st_uid)
            if wrong:
                raise Refused(wrong)
            if LOG not in made:
                ignore(folder, self._home)
            elif not self._allowed():
                rotation = load("telemetry_kit.storage.rotation")  # deferred: a reset just returned
                if rotation is not None:
                    rotation.take_back(self._home, folder, fd, made)
                raise Off("recording was turned off")
        except BaseException:
            _close(fd)
            raise
        return Lease(fd, seen)

    def _create(self, folder: int, made: list[str]) -> int:
        if not made:
            self._ask_again()
        # First, so that there is never a log that version control would take.
        if ignore(folder, self._home):
            made.append(".gitignore")
        try:
            fd = os.open(LOG, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
        except FileExistsError:
            return -1
        made.append(LOG)
        try:
            # Only where it is wrong: it may be sealed by now, and must stay so.
            if _fstat(fd).st_mode != ACTIVE_MODE and self._is_named(folder, fd):
                os.fchmod(fd, 0o600)
        except BaseException:
            _close(fd)
            raise
        return fd

    def _is_named(self, folder: int, fd: int) -> bool:
        """Whether the log that was just made still has its name; sealing begins with a rename."""
        try:
            return os.stat(LOG, dir_fd=folder, follow_symlinks=False)[1:3] == _fstat(fd)[1:3]
        except FileNotFoundError:
            return False

    # -- trouble ---------------------------------------------------------------------------

    def _guard(self, step: Callable[..., bool | None], *line: bytes) -> bool:
        started = self._clock()
        if started < self._resume:
            raise Refused(self.trouble)
        try:
            done = step(*line)
        except Off:
            raise
        except Refused as refusal:
            self._rest(started, refusal.reason)
            raise
        except (OSError, ValueError) as error:
            raise self._failed(started, error) from None
        if self._pause:
            self._pause, self.trouble = 0.0, ""
        self._judge_speed(started)
        return bool(done)

    def _failed(self, started: float, error: Exception) -> Refused:
        reason = f"{self._home.log}: {explain(error)}"
        self._rest(started, reason)
        self._remember(name_of(error))
        return Refused(reason)

    def _judge_speed(self, started: float) -> None:
        if self._clock() - started > SLOW_SECONDS:
            self._slow += 1
            if self._slow >= 3:
                self._slow = 0
                self._rest(self._clock(), f"{self._home.log}: the disk is slow")
                self._remember("slow disk")
        elif self._slow:
            self._slow = 0

    def _rest(self, now: float, reason: str) -> None:
        self._pause = min(self._pause * 2, 60.0) if self._pause else 1.0
        self._resume = now + self._pause
        self.trouble = reason


def _above_the_streams(fd: int) -> int:
    """A number that no program prints to: a host may have closed its standard streams."""
    if fd > 2:
        return fd
    try:
        return fcntl(fd, F_DUPFD_CLOEXEC, 3)
    finally:
        _close(fd)


def _unterminated(fd: int) -> bool:
    size = _fstat(fd).st_size
    return size > 0 and os.pread(fd, 1, size - 1) != b"\n"
