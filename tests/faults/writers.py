"""Writers, archivers and a killer in their own processes: `writers.py HOW ...`.

Acknowledgements are in shared memory, which survives a kill.
"""

import json
import mmap
import os
import random
import signal
import sys
import time
from datetime import date, timedelta

from telemetry_kit import configure
from telemetry_kit.consent import decision
from telemetry_kit.consent.changes import paths_of
from telemetry_kit.errors import TelemetryError
from telemetry_kit.schema import catalog
from telemetry_kit.storage import limits, maintenance, reader  # noqa: F401
from telemetry_kit.storage.writer import LogWriter

configure(app="flowspec")

SLOTS = 1 << 17
# The writers exceed the size limit, and no segment may be deleted for space.
limits.MAX_BYTES = 1 << 50
DAY = decision.today()
OLD = (date.fromisoformat(DAY) - timedelta(30)).isoformat()


def shared_counts() -> memoryview:
    """Return a counter for each process. A store is one copy of eight bytes."""
    return memoryview(mmap.mmap(-1, SLOTS * 8)).cast("Q")


def event(writer: int, number: int, size: int, day: str = DAY) -> bytes:
    """Return a valid event of about `size` bytes. Its id has the writer and the number."""
    start_of_line = (
        f'{{"schema_version":"1.0","event_id":"{writer:06x}{number:010x}",'
        f'"event_type":"role.selected","timestamp":"{day}T00:00:00Z"'
    )
    padding = size - len(start_of_line) - 26
    context = f',"context":{{"pad":"{"x" * padding}"}}' if padding > 0 else ""
    return f"{start_of_line}{context}}}\n".encode()


def write(
    shared: memoryview,
    slot: int,
    sizes: tuple[int, int],
    seal_events: int,
    count: int,
    old_every: int = 0,
) -> None:
    """Write events until killed, or up to the count, and count the acknowledged ones.

    With `old_every`, every event whose number is a multiple of it has an expired day.
    """
    dice = random.Random(slot)
    # The clock is fixed, so that a busy machine does not open the breaker.
    log_writer = LogWriter(paths_of(), lambda: True, lambda: 0.0, seal_events)
    number = 0
    low, high = sizes
    while number < count:
        day = OLD if old_every and number % old_every == 0 else DAY
        line = event(slot, number, int(low * (high / low) ** dice.random()), day)
        try:
            if log_writer.append(line):
                number += 1
                shared[slot] = number
        except TelemetryError as error:
            raise SystemExit(f"refused: {error}") from error
    log_writer.close()


def pack(shared: memoryview, slot: int) -> None:
    """Run the maintenance until killed."""
    while True:
        done = maintenance.maintain(paths_of(), 90, DAY)
        shared[slot] += done.archived
        time.sleep(0.002)


def remove(shared: memoryview, slot: int) -> None:
    """Remove the old lines repeatedly until killed."""
    while True:
        try:
            shared[slot] += maintenance.rewrite(paths_of(), maintenance.keep_since(DAY), DAY).lines
        except TelemetryError:
            pass  # Another process has the lock.
        time.sleep(0.002)


def retain(shared: memoryview, slot: int) -> None:
    """Run the retention until killed."""
    while True:
        done = maintenance.maintain(paths_of(), 20, DAY)
        shared[slot] += done.lines
        time.sleep(0.002)


def fork(step, *args) -> int:
    """Run a function in a child process and return its process id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        step(*args)
        code = 0
    except SystemExit as end:
        os.write(2, f"{end}\n".encode())
    except BaseException:
        import traceback

        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def wait(pids: list[int]) -> list[int]:
    """Wait for these processes and return their statuses."""
    return [os.waitpid(pid, 0)[1] for pid in pids]


def crowd(writers: int, count: int, seal_events: int, archiver_count: int) -> None:
    """Run writers to their end beside archivers, and kill no writer."""
    shared = shared_counts()
    started = time.monotonic()
    running = [fork(write, shared, n, (160, 2_000), seal_events, count) for n in range(writers)]
    archivers = [fork(pack, shared, SLOTS - 1 - n) for n in range(archiver_count)]
    ends = wait(running)
    seconds = time.monotonic() - started
    for pid in archivers:
        os.kill(pid, signal.SIGKILL)
    wait(archivers)
    archived = sum(shared[SLOTS - 1 - n] for n in range(archiver_count))
    acknowledged = {n: shared[n] for n in range(writers)}
    print_result(acknowledged, kills=0, packed=archived, ends=ends, seconds=seconds)


def massacre(seconds: float, least_kills: int, seed: int, old_every: int = 0) -> None:
    """Kill and replace one of six writers and two archivers every 4 ms.

    With `old_every`, processes that remove lines take the place of the archivers.
    """
    dice = random.Random(seed)
    shared = shared_counts()
    slots = iter(range(SLOTS - 2))
    acknowledged: dict[int, int] = {}
    processes: list[tuple[int, int, str]] = []

    def start(kind: str) -> tuple[int, int, str]:
        slot = next(slots)
        if kind == "write":
            # Up to the maximum length, because a line across a page can be written in part.
            sizes = (200, catalog.MAX_LINE_BYTES)
            return fork(write, shared, slot, sizes, 200, 1 << 40, old_every), slot, kind
        return (
            fork({"pack": pack, "remove": remove, "retain": retain}[kind], shared, slot),
            slot,
            kind,
        )

    other_kinds = ["remove", "retain"] if old_every else ["pack", "pack"]
    processes = [start(kind) for kind in ["write"] * 6 + other_kinds]
    kills = archived = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until or kills < least_kills:
        time.sleep(dice.uniform(0.002, 0.006))
        at = dice.randrange(len(processes))
        pid, slot, kind = processes[at]
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        kills += 1
        if kind == "write":
            acknowledged[slot] = shared[slot]
        else:
            archived += shared[slot]
        processes[at] = start(kind)
    for pid, slot, kind in processes:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        kills += 1
        if kind == "write":
            acknowledged[slot] = shared[slot]
        else:
            archived += shared[slot]
    print_result(acknowledged, kills=kills, packed=archived, ends=[])


def raw(writers: int, count: int) -> None:
    """Write lines of 32 B to 64 KiB without sealing: `writer number pad`."""
    shared = shared_counts()

    def lines(slot: int) -> None:
        dice = random.Random(slot)
        log_writer = LogWriter(paths_of(), lambda: True, lambda: 0.0, 1 << 60)
        for number in range(count):
            size = int(32 * 2048 ** dice.random())
            start_of_line = b"%d %d " % (slot, number)
            assert log_writer.append(
                start_of_line + b"x" * max(0, size - len(start_of_line) - 1) + b"\n"
            )
            shared[slot] = number + 1

    ends = wait([fork(lines, n) for n in range(writers)])
    print_result({n: shared[n] for n in range(writers)}, kills=0, packed=0, ends=ends)


def print_result(acknowledged: dict[int, int], **more: object) -> None:
    """Print the acknowledged counts and the details as JSON."""
    print(json.dumps({"acknowledged": acknowledged, **more}))


if __name__ == "__main__":
    how, *numbers = sys.argv[1:]
    step = {"crowd": crowd, "massacre": massacre, "raw": raw}[how]
    step(*(json.loads(n) for n in numbers))
    sys.exit(7)
