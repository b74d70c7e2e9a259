"""The write path: one open log, one `fstat` and one `write` for each event.

No buffer, thread or lock lies between an event and the disk. The writer holds the log open under
a shared lock. The mode and link count of the open file show whether it is still the current log:
sealing removes the write bits, and clearing removes the link. If the program closed our
descriptor and reused its number, the inode differs.
"""

from __future__ import annotations

import os
from _thread import allocate_lock
from errno import EBADF, ENOSPC
from time import monotonic, time

from telemetry_kit._runtime import load
from telemetry_kit.errors import Off, Refused
from telemetry_kit.files.private import explain, name_of
from telemetry_kit.storage.log_file import Lease, LogOpener

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from telemetry_kit.paths import ProjectPaths

SLOW_SECONDS = 0.05
SLOW_WRITES = 3
SEAL_EVENTS = 10_000
RETENTION_DAYS = 90
# Each line of this package is at least so long, so a smaller file has fewer lines.
MIN_LINE_BYTES = 160
MAX_OPEN = 16
IDLE_SECONDS = 10.0

# Bound here, because nothing can be looked up while the interpreter shuts down.
_fstat, _write, _close = os.fstat, os.write, os.close


class CircuitBreaker:
    """Stops writing after an error or three slow writes: for 1 s, then 2 s, up to 60 s.

    Attributes:
        pause: how many seconds the last pause was; 0 while writing works.
        resume: when the pause ends, in monotonic seconds.
        slow_writes: how many writes in a row were slow.
        reason: why it stopped; empty while writing works.
    """

    def __init__(self) -> None:
        self.pause = 0.0
        self.resume = 0.0
        self.slow_writes = 0
        self.reason = ""

    def trip(self, now: float, reason: str) -> None:
        """Start a pause, twice as long as the last one."""
        self.pause = min(self.pause * 2, 60.0) if self.pause else 1.0
        self.resume = now + self.pause
        self.reason = reason

    def note_latency(self, seconds: float) -> bool:
        """Count slow writes in a row, and return whether they are too many."""
        self.slow_writes = self.slow_writes + 1 if seconds > SLOW_SECONDS else 0
        if self.slow_writes < SLOW_WRITES:
            return False
        self.slow_writes = 0
        return True


class OpenLogs:
    """The open logs of a process, at most `MAX_OPEN`, and the lock for opening and closing them.

    No thread waits for the lock. A fork may copy it while it is held, so the child gets a new one.
    """

    def __init__(self) -> None:
        self.writers: list[LogWriter] = []
        self.renew_lock()
        os.register_at_fork(after_in_child=self.renew_lock)

    def renew_lock(self) -> None:
        """Replace the lock by a free one."""
        self.lock = allocate_lock()

    def close_unused(self, current: LogWriter, now: float) -> None:
        """Close idle logs, and the least recently used ones of more than `MAX_OPEN`.

        A log stays open while `append` writes to it, and if it was opened for the next event.
        The caller holds the lock.
        """
        writers = [writer for writer in self.writers if writer.lease is not None]
        writers.sort(key=lambda writer: max(writer.used, writer.opened))
        left = len(writers)
        kept: list[LogWriter] = []
        for writer in writers:
            is_idle = now - max(writer.used, writer.opened) > IDLE_SECONDS
            # A log that was opened for the next event has `used` -1.
            is_unused = is_idle or (left > MAX_OPEN and writer.used >= 0.0)
            if writer is not current and is_unused and writer.give_back():
                left -= 1
            else:
                kept.append(writer)
        self.writers[:] = kept


_process_logs = OpenLogs()


class LogWriter:
    """Writes the events of one project to its log.

    Args:
        allowed: checks consent. It is called before anything is created, and again after the log
            was created. If it returns False, nothing is created.
        clock: returns monotonic seconds.
        seal_events: the number of lines after which a log is sealed.
        keep_days: returns the retention, when a log is sealed. Expired segments are deleted then.
        remember: receives the system's name of an error, for `doctor`.
        open_logs: the open logs that share one limit and one lock.

    Attributes:
        breaker: the pauses after errors.
        lease: the open log, or None.
        lost: how many lines were written in part only.
        opened: when the log was opened, in monotonic seconds.
        used: when it was last written to; -1 if it was opened for the next event.
    """

    def __init__(
        self,
        paths: ProjectPaths,
        allowed: Callable[[], bool],
        clock: Callable[[], float] = monotonic,
        seal_events: int = SEAL_EVENTS,
        keep_days: Callable[[], int] = lambda: RETENTION_DAYS,
        remember: Callable[[str], None] = lambda _name: None,
        open_logs: OpenLogs = _process_logs,
    ) -> None:
        self._paths = paths
        self._opener = LogOpener(paths, allowed)
        self._clock = clock
        self._seal_events = seal_events
        self._keep_days = keep_days
        self._remember = remember
        self._open_logs = open_logs
        # One entry for each `append` that is running. Appending and popping are atomic, so threads
        # need no lock. An interrupt between them leaves an entry, and the log stays open.
        self._writing: list[None] = []
        self._given_back = False
        self._size = 0
        self._counted = (0, 0)
        self._checkpoint = 0
        self._tail_checked = False
        self.lease: Lease | None = None
        self.breaker = CircuitBreaker()
        self.lost = 0
        self.opened = self.used = 0.0

    def open(self) -> None:
        """Open the log now, unless it is open.

        Raises:
            Refused: it cannot be opened; the reason says why.
        """
        self._given_back = False
        if self.lease is None:
            self._attempt(self._exclusively, self._open_first)
        else:
            self._exclusively(self._open_logs.close_unused, self, self._clock())

    def append(self, line: bytes) -> bool:
        """Write one whole line.

        Args:
            line: the bytes, with a newline at the end and nowhere else.

        Returns:
            True if it is in the log. False if nothing was written, because the log was sealed,
            cleared or replaced since the last line, or closed to save descriptors. The log is
            open again then. Check consent and load the key again before the next attempt.

        Raises:
            Refused: it was not written; the reason says why.
        """
        # First the entry, then the look at the lease. `give_back` does it the other way round, so
        # one of the two sees the other, and no number is closed between `fstat` and `write`.
        writing = self._writing
        writing.append(None)
        try:
            lease = self.lease
            breaker = self.breaker
            if lease is None or not self._tail_checked or breaker.pause:
                return self._attempt(self._append, line)
            self.used = started = self._clock()
            try:
                found = _fstat(lease.fd)
                if found[:4] != lease.seen:
                    return self._attempt(self._append, line)
                if _write(lease.fd, line) != len(line):
                    self._end_short_line(lease.fd)
                if found.st_size >= self._checkpoint:
                    self._size = found.st_size
                    self._seal_if_full(lease)
            except (OSError, ValueError) as error:
                if isinstance(error, OSError) and error.errno == EBADF:
                    # The program closed our descriptor; nothing was written.
                    return self._attempt(self._append, line)
                raise self._failed(started, error) from None
            if breaker.slow_writes or self._clock() - started > SLOW_SECONDS:
                self._note_latency(started)
            return True
        finally:
            writing.pop()

    def close(self) -> None:
        """Close the log; the next line opens it again."""
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.close()

    def give_back(self) -> bool:
        """Close the log unless an `append` is running, and return whether it is closed.

        The caller holds the lock, so that no other thread opens it meanwhile.
        """
        lease, self.lease = self.lease, None
        if self._writing:
            self.lease = lease
            return False
        self._given_back = True
        if lease is not None:
            lease.close()
        return True

    # -- the write path --------------------------------------------------------------------

    def _append(self, line: bytes) -> bool:
        lease = self.lease
        if lease is None:
            closed, self._given_back = self._given_back, False
            self._exclusively(self._open_first)
            lease = self.lease
            if lease is None:
                return self._append_separately(line)
            if closed:
                return False
        try:
            found = _fstat(lease.fd)
            is_current = found[:4] == lease.seen
            self._size = found.st_size
        except OSError as error:
            if error.errno != EBADF:
                raise
            is_current = False
        if not is_current:
            reopened = self._exclusively(self._reopen, lease)
            return False if reopened else self._append_separately(line)
        self._put(lease.fd, line)
        self.used = self._clock()
        if self._size >= self._checkpoint:
            self._seal_if_full(lease)
        return True

    def _append_separately(self, line: bytes) -> bool:
        # Another thread, or the code that a signal interrupted, is opening the log.
        lease = self._opener.open()
        try:
            self._tail_checked = False
            self._put(lease.fd, line)
        finally:
            _close(lease.fd)
        return True

    def _put(self, fd: int, line: bytes) -> None:
        if not self._tail_checked:
            # A killed process may have left part of a line. Do not join our line to it.
            self._tail_checked = True
            size = _fstat(fd).st_size
            if size > 0 and os.pread(fd, 1, size - 1) != b"\n":
                line = b"\n" + line
        if _write(fd, line) != len(line):
            self._end_short_line(fd)

    def _end_short_line(self, fd: int) -> None:
        self.lost += 1
        try:
            _write(fd, b"\n")
        except OSError:
            self._tail_checked = False
        raise OSError(ENOSPC, "short write")

    def _seal_if_full(self, lease: Lease) -> None:
        """Count the lines since the last time, and seal the log if it is full."""
        counted, at = self._counted
        try:
            while at < self._size and (chunk := os.pread(lease.fd, 1 << 20, at)):
                counted += chunk.count(b"\n")
                at += len(chunk)
        except OSError:
            # The line is in the log, so `append` must succeed.
            at = self._size
        self._counted = (counted, at)
        missing = self._seal_events - counted
        self._checkpoint = at + max(missing, self._seal_events // 100) * MIN_LINE_BYTES
        if missing > 0:
            return
        try:
            # deferred: once in ten thousand events
            limits = load("telemetry_kit.storage.limits")
            limits.seal_full(self._paths, lease.seen[1:3], self._keep_days(), time())
        except Exception:
            return  # another process holds the lock, or the disk refuses: the log grows a little

    # -- opening ---------------------------------------------------------------------------

    def _exclusively(self, action: Callable[..., None], *args: object) -> bool:
        """Run an action under the lock, and return whether the lock was free."""
        lock = self._open_logs.lock
        if not lock.acquire(False):
            return False
        try:
            action(*args)
        finally:
            lock.release()
        return True

    def _use(self, lease: Lease) -> None:
        self._tail_checked = False
        self.lease = lease
        self._counted = (0, 0)
        self._checkpoint = self._seal_events * MIN_LINE_BYTES

    def _open_first(self) -> None:
        if self.lease is None:
            lease = self._opener.open()
            self._use(lease)
            self.opened, self.used = self._clock(), -1.0
            if self not in self._open_logs.writers:
                self._open_logs.writers.append(self)
            self._open_logs.close_unused(self, self._clock())

    def _reopen(self, old: Lease) -> None:
        if self.lease is not old:
            return
        # If opening fails, the next event starts without a log.
        self.lease = None
        try:
            new = self._opener.open()
        except BaseException:
            old.close()
            raise
        self._tail_checked = False
        # Another thread may be between its `fstat` and its `write` to the old number. Put the new
        # file behind that number, so that its line is written to one of our files. Do not touch a
        # number that the program uses for another file.
        if new.fd != old.fd and old.is_same_file():
            os.dup2(new.fd, old.fd, inheritable=False)
            _close(new.fd)
            new = Lease(old.fd, new.seen)
        self._use(new)

    # -- errors ----------------------------------------------------------------------------

    def _attempt(self, action: Callable[..., bool], *args: object) -> bool:
        started = self._clock()
        breaker = self.breaker
        if started < breaker.resume:
            raise Refused(breaker.reason)
        try:
            done = action(*args)
        except Off:
            raise
        except Refused as refusal:
            breaker.trip(started, refusal.reason)
            raise
        except (OSError, ValueError) as error:
            raise self._failed(started, error) from None
        if breaker.pause:
            breaker.pause, breaker.reason = 0.0, ""
        self._note_latency(started)
        return done

    def _failed(self, started: float, error: Exception) -> Refused:
        reason = f"{self._paths.log}: {explain(error)}"
        self.breaker.trip(started, reason)
        self._remember(name_of(error))
        return Refused(reason)

    def _note_latency(self, started: float) -> None:
        now = self._clock()
        if self.breaker.note_latency(now - started):
            self.breaker.trip(now, f"{self._paths.log}: the disk is slow")
            self._remember("slow disk")
