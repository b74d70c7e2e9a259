"""Work spread over processes: each does its share, hands back what it found, and ends.

What the work is, is not known here. What a process did not do, and all of it where no process can
be started, is left to the caller.
"""

from __future__ import annotations

import marshal
import os
import signal
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any, NoReturn

# More of them would wait for the same disk, and each holds an interpreter's memory.
MAX_PROCESSES = 4
_CHUNK_BYTES = 1 << 16
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Stands behind what was handed back as a whole.
_WHOLE = b"whole"


def most() -> int:
    """How many processes may work at once; 1 where none should be started beside this one.

    Only where this process is known to have a single thread: a lock that another one holds would
    stay locked in the copy for ever.
    """
    try:
        if len(os.listdir("/proc/self/task")) > 1:
            return 1
        return min(len(os.sched_getaffinity(0)), MAX_PROCESSES)
    except (AttributeError, OSError):
        return 1  # not Linux


class Results:
    """What came of the pieces of work, packed until it is asked for: there may be many."""

    __slots__ = ("_packed",)

    def __init__(self) -> None:
        self._packed: dict[int, bytes] = {}

    def add(self, packed: bytes) -> None:
        """Take what a process handed back."""
        self._packed.update(marshal.loads(packed))

    def take(self, number: int) -> Any:
        """The result of a piece, once; None where its process failed or was killed."""
        packed = self._packed.pop(number, None)
        if packed is None:
            return None
        import pickle  # deferred: only where there was much to do

        return pickle.loads(zlib.decompress(packed))


def spread(weights: Sequence[int], work: Callable[[int], Any], processes: int) -> Results:
    """Do pieces of work in processes of their own, and wait for all of them.

    Args:
        weights: how much each piece is, in any unit.
        work: does the piece of a number; what it returns can be pickled, and is not None.
        processes: how many to start; each is a copy of this one.
    """
    shares: list[list[int]] = [[] for _ in range(processes)]
    loads = [0] * processes
    for number in sorted(range(len(weights)), key=weights.__getitem__, reverse=True):
        least = loads.index(min(loads))
        shares[least].append(number)
        loads[least] += weights[number]
    running: dict[int, int] = {}
    try:
        for share in filter(None, shares):
            try:
                _start(share, work, running)
            except OSError:
                break  # there may be no more of them
        return _results(running)
    finally:
        for fd, pid in running.items():
            os.close(fd)
            os.kill(pid, signal.SIGKILL)
            _wait_for(pid)


def _start(share: list[int], work: Callable[[int], Any], running: dict[int, int]) -> None:
    """Start a process; `running` gets the end of its pipe, and its number."""
    mine, its = os.pipe()
    parent = os.getpid()
    # Told to end in between, the copy would go on as if it were this one, or be forgotten here.
    former = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    try:
        pid = os.fork()
        if not pid:
            _be_a_copy(mine, its, running, former, parent, share, work)
        running[mine] = pid
    except OSError:
        os.close(mine)
        raise
    finally:
        os.close(its)
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _be_a_copy(
    mine: int,
    its: int,
    others: Iterable[int],
    mask: Iterable[int],
    parent: int,
    share: list[int],
    work: Callable[[int], Any],
) -> NoReturn:
    """What a new process does; nothing of what it is a copy of is flushed or told twice."""
    try:
        # Its ways to end are not for this one, which is ended with it.
        for name in _ENDING:
            if callable(signal.getsignal(name)):
                signal.signal(name, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for fd in (mine, *others):
            os.close(fd)
        packed = {}
        for number in share:
            packed[number] = _packed(work(number))
            if os.getppid() != parent:
                os._exit(0)  # nobody waits for it any more
        _hand_back(packed, its)
    finally:
        os._exit(0)


def _packed(result: Any) -> bytes:
    import pickle  # deferred: only where there is much to do

    return zlib.compress(pickle.dumps(result, pickle.HIGHEST_PROTOCOL), 1)


def _hand_back(packed: dict[int, bytes], fd: int) -> None:
    left = memoryview(marshal.dumps(packed) + _WHOLE)
    while left:
        left = left[os.write(fd, left) :]


def _results(running: dict[int, int]) -> Results:
    """Read what they hand back, one after the other: each writes when all its work is done."""
    found = Results()
    for fd, pid in list(running.items()):
        told = []
        while data := os.read(fd, _CHUNK_BYTES):
            told.append(data)
        # From here on there is nothing to be ended.
        del running[fd]
        os.close(fd)
        _wait_for(pid)
        packed = b"".join(told)
        if packed.endswith(_WHOLE):
            found.add(packed)
    return found


def _wait_for(pid: int) -> None:
    try:
        os.waitpid(pid, 0)
    except ChildProcessError:
        return  # a program that does not wait for its children
