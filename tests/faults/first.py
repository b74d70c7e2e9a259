"""Hosts that fork or get signals during the import of the pipeline: `first.py NAME ...`.

This module imports nothing that the first event would import. Each try is a new fork of a process
without events.
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
    """Record one event and return its id, or None if it was not recorded."""
    result = track_role_event("role.selected", role="dev")
    return None if result is None else result["event_id"]


@tracks("role.selected", role="dev")
def tracked() -> int:
    """Run as a tracked function."""
    return 42


def in_a_fork(work: Callable[[], Any]) -> Callable[[], tuple[Any, int]]:
    """Start `work` in a child. The returned function waits for its result and its status."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        signal.alarm(HANG_SECONDS)  # A hang ends with the status of this signal.
        os.write(write, json.dumps(work()).encode())
        os._exit(0)
    os.close(write)

    def result() -> tuple[Any, int]:
        with os.fdopen(read) as pipe:
            results = pipe.read()
        return json.loads(results or "null"), os.waitpid(pid, 0)[1]

    return result


def fork_beside(seconds: float) -> dict[str, Any]:
    """Fork in the main thread this long after another thread has started its first event."""
    done: list[str | None] = []
    thread = threading.Thread(target=lambda: done.append(record()))
    thread.start()
    time.sleep(seconds)
    names, status = in_a_fork(lambda: [record() for _ in range(3)])()
    thread.join()
    return {"acknowledged": done + (names or []), "ends": [status]}


def interrupt() -> dict[str, Any]:
    """Record in a signal handler at 5 kHz, starting before the first event."""
    in_handler: list[str | None] = []
    unexpected: list[str] = []
    depth = 0

    def handler(_number: int, _frame: object) -> None:
        nonlocal depth
        if depth < 3:
            depth += 1
            in_handler.append(record())
            if tracked() != 42:
                unexpected.append("tracked")
            with role_session("dev"):
                depth -= 1

    # From here on the timeout of the test ends a hang.
    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    done = [record()]
    loaded = len(in_handler)
    done += [record() for _ in range(100)]
    signal.setitimer(signal.ITIMER_REAL, 0)
    during = [name for name in in_handler[:loaded] if name is not None]
    return {
        "acknowledged": done + during + in_handler[loaded:],
        "during": loaded,
        "strange": unexpected,
        "ends": [],
    }


def run_tries(host: Callable[..., dict[str, Any]], tries: list[tuple[Any, ...]]) -> None:
    """Run each try in its own process, one after the other, and print all results."""
    results: dict[str, list[Any]] = {"acknowledged": [], "ends": [], "strange": [], "during": []}
    for arguments in tries:
        result, status = in_a_fork(lambda arguments=arguments: host(*arguments))()
        results["ends"].append(status)
        for key, value in (result or {}).items():
            results[key] += value if isinstance(value, list) else [value]
    print(json.dumps(results))


if __name__ == "__main__":
    # Newer Python versions warn about forks with threads, which is up to the host.
    warnings.simplefilter("ignore", DeprecationWarning)
    sys.setswitchinterval(0.0002)
    name, count = sys.argv[1], int(sys.argv[2])
    if "telemetry_kit.recording.pipeline" in sys.modules:
        sys.exit("the pipeline is loaded before the first event")
    if name == "fork":
        run_tries(fork_beside, [(number * 0.02 / count,) for number in range(count)])
    else:
        run_tries(interrupt, [()] * count)
    sys.exit(7)
