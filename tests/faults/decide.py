"""Six writers while somebody revokes and grants, or clears: `decide.py HOW COUNT`.

Each writer notes when each of its events began and when it was on file, and which it was, if it
was acknowledged. All times are of one monotonic clock.
"""

import json
import os
import random
import sys
import time
from typing import Self

from telemetry_kit import configure, track_role_event
from telemetry_kit.consent import changes, policy
from telemetry_kit.privacy.projects import ProjectDirs
from telemetry_kit.recording import pipeline
from telemetry_kit.storage import maintenance, reader, rotation, writer

configure(app="flowspec")

now = time.monotonic_ns


def write(slot: int) -> None:
    """Record until the file `over` is there."""
    writer.SLOW_SECONDS = 60.0
    notes = []
    on_file = 0

    def timed(fd: int, line: bytes) -> int:
        nonlocal on_file
        count = os.write(fd, line)
        on_file = now()
        return count

    writer._write = timed
    while not os.path.exists("over"):
        began = now()
        found = track_role_event("role.selected", role="dev")
        if found is not None:
            notes.append((began, on_file, found["event_id"]))
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


class Granting:
    """Notes when the consent record is put in its place: before that there is no grant."""

    def __init__(self) -> None:
        dirs = ProjectDirs.of(changes.paths_of())
        self.path = None if dirs is None else f"{dirs.config}/{policy.RECORD}"
        self.begins = 0
        self.rename = os.rename

    def __enter__(self) -> Self:
        os.rename = self._renamed
        return self

    def __exit__(self, *_: object) -> None:
        os.rename = self.rename

    def _renamed(self, source: str, target: str, **more: object) -> None:
        if os.path.basename(target) == os.path.basename(self.path):
            self.begins = now()
        self.rename(source, target, **more)


def revoke(count: int) -> list[list[int]]:
    """When each revocation returned, and when the next grant was given."""
    spans = []
    for _ in range(count):
        time.sleep(dice.uniform(0.02, 0.05))
        changes.disable_telemetry()
        off = now()
        time.sleep(dice.uniform(0.0, 0.01))
        with Granting() as grant:
            changes.enable_telemetry()
        assert grant.begins > off
        spans.append([off, grant.begins])
    return spans


def clear(count: int) -> list[dict[str, object]]:
    """When each clear began and returned, and what was there right before and after it."""
    home = changes.paths_of()
    spans: list[dict[str, object]] = []
    for _ in range(count):
        time.sleep(dice.uniform(0.005, 0.03))
        if dice.random() < 0.3:
            rotation.seal(home, "2024-02-28")
        if dice.random() < 0.3:
            maintenance.maintain(home, 90, "2024-02-28")
        looked = now()
        before = [e["event_id"] for e in reader.read(home)]
        began = now()
        failures = changes.clear(home)
        ended = now()
        assert failures == [], failures
        after = [e["event_id"] for e in reader.read(home)]
        spans.append(
            {"looked": looked, "before": before, "began": began, "ended": ended, "after": after}
        )
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
sys.exit(7)
