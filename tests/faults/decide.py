"""Six writers while somebody revokes and grants, or clears: `decide.py HOW COUNT`.

Each writer notes when each of its events began, and whether it was acknowledged.
"""

import json
import os
import random
import sys
import time

from telemetry_kit import control, pipeline, track_role_event
from telemetry_kit.journal import archive, lease, reader, upkeep

now = time.monotonic_ns


def write(slot: int) -> None:
    """Record until the file `over` is there."""
    lease.SLOW_SECONDS = 60.0
    notes = []
    while not os.path.exists("over"):
        began = now()
        found = track_role_event("role.selected", role="dev")
        if found is not None:
            notes.append((began, now(), found["event_id"]))
    with open(f"notes{slot}", "w") as file:
        json.dump(notes, file)


def children(count: int) -> list[int]:
    pids = []
    for slot in range(count):
        pid = os.fork()
        if not pid:
            code = 1
            try:
                write(slot)
                code = 0
            finally:
                os._exit(code)
        pids.append(pid)
    return pids


def revoke(count: int) -> list[list[int]]:
    """When each revocation returned, and when the next grant began."""
    spans = []
    for _ in range(count):
        time.sleep(dice.uniform(0.02, 0.05))
        control.disable_telemetry()
        off = now()
        time.sleep(dice.uniform(0.0, 0.01))
        spans.append([off, now()])
        control.enable_telemetry()
    return spans


def clear(count: int) -> list[list[object]]:
    """When each clear began and returned, and what was seen right after it."""
    home = control.home_of()
    spans: list[list[object]] = []
    for _ in range(count):
        time.sleep(dice.uniform(0.005, 0.03))
        if dice.random() < 0.3:
            upkeep.seal(home, "2024-02-28")
        if dice.random() < 0.3:
            archive.maintain(home, 90, "2024-02-28")
        began = now()
        survivors = control.clear(home)
        ended = now()
        assert survivors == [], survivors
        spans.append([began, ended, [e["event_id"] for e in reader.read(home)]])
    return spans


def main() -> None:
    how, count = sys.argv[1], int(sys.argv[2])
    track_role_event("role.selected", role="dev")
    pids = children(6)
    spans = {"revoke": revoke, "clear": clear}[how](count)
    time.sleep(0.1)
    with open("over", "w"):
        pass
    ends = [os.waitpid(pid, 0)[1] for pid in pids]
    print(json.dumps({"spans": spans, "ends": ends}))


dice = random.Random(1)
pipeline.encode({})
main()
