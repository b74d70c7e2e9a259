"""Hosts whose first event is forked or interrupted while it loads the chain: `first.py NAME ...`.

Nothing is imported here that the first event would load, and each try is a fresh fork of a
process in which it has not happened yet.
"""

import json
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

from telemetry_kit import configure, role_session, track_role_event, tracks

configure(app="flowspec")

HANG_SECONDS = 30


def record() -> str | None:
    found = track_role_event("role.selected", role="dev")
    return None if found is None else found["event_id"]


@tracks("role.selected", role="dev")
def tracked() -> int:
    return 42


def in_a_fork(work: Callable[[], Any]) -> Callable[[], tuple[Any, int]]:
    """Begin `work` in a child; what is returned waits for its result and its status."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        signal.alarm(HANG_SECONDS)  # ends it, with a status of its own
        os.write(write, json.dumps(work()).encode())
        os._exit(0)
    os.close(write)

    def result() -> tuple[Any, int]:
        with os.fdopen(read) as pipe:
            told = pipe.read()
        return json.loads(told or "null"), os.waitpid(pid, 0)[1]

    return result


def fork_beside(seconds: float) -> dict[str, Any]:
    """One thread records its first event, and so long after its start the main one forks."""
    done: list[str | None] = []
    thread = threading.Thread(target=lambda: done.append(record()))
    thread.start()
    time.sleep(seconds)
    names, status = in_a_fork(lambda: [record() for _ in range(3)])()
    thread.join()
    return {"acknowledged": done + (names or []), "ends": [status]}


def interrupt() -> dict[str, Any]:
    """Handlers that record, at 5 kHz, from before the first event on."""
    late: list[str | None] = []
    strange: list[str] = []
    depth = 0

    def handler(_number: int, _frame: object) -> None:
        nonlocal depth
        if depth < 3:
            depth += 1
            late.append(record())
            if tracked() != 42:
                strange.append("tracked")
            with role_session("dev"):
                depth -= 1

    # From here on the test's own limit is the one that ends a hang.
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    done = [record()]
    loaded = len(late)
    done += [record() for _ in range(100)]
    signal.setitimer(signal.ITIMER_REAL, 0)
    during = [name for name in late[:loaded] if name is not None]
    return {
        "acknowledged": done + during + late[loaded:],
        "during": loaded,
        "strange": strange,
        "ends": [],
    }


def many(what: Callable[..., dict[str, Any]], tries: list[tuple[Any, ...]]) -> None:
    """Each try in a process of its own, one after the other; prints what all did."""
    told: dict[str, list[Any]] = {"acknowledged": [], "ends": [], "strange": [], "during": []}
    for given in tries:
        found, status = in_a_fork(lambda given=given: what(*given))()
        told["ends"].append(status)
        for key, value in (found or {}).items():
            told[key] += value if isinstance(value, list) else [value]
    print(json.dumps(told))


if __name__ == "__main__":
    # Later interpreters warn of forks beside threads: the host's own doing.
    warnings.simplefilter("ignore", DeprecationWarning)
    sys.setswitchinterval(0.0002)
    name, count = sys.argv[1], int(sys.argv[2])
    if "telemetry_kit.recording.pipeline" in sys.modules:
        sys.exit("the chain is loaded before the first event")
    if name == "fork":
        many(fork_beside, [(number * 0.02 / count,) for number in range(count)])
    else:
        many(interrupt, [()] * count)
    sys.exit(7)
