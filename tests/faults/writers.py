"""Writers, archivers and a killer, in processes of their own: `writers.py HOW ...`.

Acknowledgements are kept in shared memory, so that they outlive whoever is killed.
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
# They write more than a journal may take, and nothing is to go for the space.
limits.MAX_BYTES = 1 << 50
DAY = decision.today()
OLD = (date.fromisoformat(DAY) - timedelta(30)).isoformat()


def shared_counts() -> memoryview:
    """A counter for each process that ever was; each store is one copy of eight bytes."""
    return memoryview(mmap.mmap(-1, SLOTS * 8)).cast("Q")


def event(writer: int, number: int, size: int, day: str = DAY) -> bytes:
    """A valid event of about `size` bytes; its id says who wrote it, and as which."""
    head = (
        f'{{"schema_version":"1.0","event_id":"{writer:06x}{number:010x}",'
        f'"event_type":"role.selected","timestamp":"{day}T00:00:00Z"'
    )
    room = size - len(head) - 26
    pad = f',"context":{{"pad":"{"x" * room}"}}' if room > 0 else ""
    return f"{head}{pad}}}\n".encode()


def write(
    shared: memoryview,
    slot: int,
    sizes: tuple[int, int],
    seal_events: int,
    count: int,
    old_every: int = 0,
) -> None:
    """Write events until killed, or until there are so many; acknowledged ones count.

    With `old_every` each so many-th, from the first on, is of a day that is over.
    """
    dice = random.Random(slot)
    # A clock that stands: on a busy machine the breaker of the slow disk is no news.
    journal = LogWriter(paths_of(), lambda: True, lambda: 0.0, seal_events)
    number = 0
    low, high = sizes
    while number < count:
        day = OLD if old_every and number % old_every == 0 else DAY
        line = event(slot, number, int(low * (high / low) ** dice.random()), day)
        try:
            if journal.append(line):
                number += 1
                shared[slot] = number
        except TelemetryError as error:
            raise SystemExit(f"refused: {error}") from error
    journal.close()


def pack(shared: memoryview, slot: int) -> None:
    """Maintain until killed."""
    while True:
        done = maintenance.maintain(paths_of(), 90, DAY)
        shared[slot] += done.archived
        time.sleep(0.002)


def remove(shared: memoryview, slot: int) -> None:
    """Take the old lines out, again and again, until killed."""
    while True:
        try:
            shared[slot] += maintenance.rewrite(paths_of(), maintenance.keep_since(DAY), DAY).lines
        except TelemetryError:
            pass  # another one is at it
        time.sleep(0.002)


def retain(shared: memoryview, slot: int) -> None:
    """The retention, until killed."""
    while True:
        done = maintenance.maintain(paths_of(), 20, DAY)
        shared[slot] += done.lines
        time.sleep(0.002)


def fork(step, *args) -> int:
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
    return [os.waitpid(pid, 0)[1] for pid in pids]


def crowd(writers: int, count: int, seal_events: int, packers: int) -> None:
    """Writers to their end, while archivers are at it; nobody is killed."""
    shared = shared_counts()
    began = time.monotonic()
    running = [fork(write, shared, n, (160, 2_000), seal_events, count) for n in range(writers)]
    packing = [fork(pack, shared, SLOTS - 1 - n) for n in range(packers)]
    ends = wait(running)
    seconds = time.monotonic() - began
    for pid in packing:
        os.kill(pid, signal.SIGKILL)
    wait(packing)
    packed = sum(shared[SLOTS - 1 - n] for n in range(packers))
    acknowledged = {n: shared[n] for n in range(writers)}
    tell(acknowledged, kills=0, packed=packed, ends=ends, seconds=seconds)


def massacre(seconds: float, least: int, seed: int, old_every: int = 0) -> None:
    """Six writers and two archivers; every 4 ms one of them is killed and another one begins.

    With `old_every` those who remove lines are in the place of the archivers.
    """
    dice = random.Random(seed)
    shared = shared_counts()
    slots = iter(range(SLOTS - 2))
    acknowledged: dict[int, int] = {}
    places: list[tuple[int, int, str]] = []

    def begin(kind: str) -> tuple[int, int, str]:
        slot = next(slots)
        if kind == "write":
            # Up to the longest there is: a line that crosses a page can be torn.
            sizes = (200, catalog.MAX_LINE_BYTES)
            return fork(write, shared, slot, sizes, 200, 1 << 40, old_every), slot, kind
        return (
            fork({"pack": pack, "remove": remove, "retain": retain}[kind], shared, slot),
            slot,
            kind,
        )

    others = ["remove", "retain"] if old_every else ["pack", "pack"]
    places = [begin(kind) for kind in ["write"] * 6 + others]
    kills = packed = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until or kills < least:
        time.sleep(dice.uniform(0.002, 0.006))
        at = dice.randrange(len(places))
        pid, slot, kind = places[at]
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        kills += 1
        if kind == "write":
            acknowledged[slot] = shared[slot]
        else:
            packed += shared[slot]
        places[at] = begin(kind)
    for pid, slot, kind in places:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        kills += 1
        if kind == "write":
            acknowledged[slot] = shared[slot]
        else:
            packed += shared[slot]
    tell(acknowledged, kills=kills, packed=packed, ends=[])


def raw(writers: int, count: int) -> None:
    """Lines of 32 B to 64 KiB, without a cap: `writer number pad`."""
    shared = shared_counts()

    def lines(slot: int) -> None:
        dice = random.Random(slot)
        journal = LogWriter(paths_of(), lambda: True, lambda: 0.0, 1 << 60)
        for number in range(count):
            size = int(32 * 2048 ** dice.random())
            head = b"%d %d " % (slot, number)
            assert journal.append(head + b"x" * max(0, size - len(head) - 1) + b"\n")
            shared[slot] = number + 1

    ends = wait([fork(lines, n) for n in range(writers)])
    tell({n: shared[n] for n in range(writers)}, kills=0, packed=0, ends=ends)


def tell(acknowledged: dict[int, int], **more: object) -> None:
    print(json.dumps({"acknowledged": acknowledged, **more}))


if __name__ == "__main__":
    how, *numbers = sys.argv[1:]
    step = {"crowd": crowd, "massacre": massacre, "raw": raw}[how]
    step(*(json.loads(n) for n in numbers))
    sys.exit(7)
