"""Six writers record while the user revokes and grants, or clears: `decide.py HOW COUNT`.

For each acknowledged event, a writer saves its start time, its write time and its id. All times
are of one monotonic clock.
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
    """Record until the file `over` exists."""
    writer.SLOW_SECONDS = 60.0
    notes = []
    on_file = 0

    def timed_write(fd: int, line: bytes) -> int:
        nonlocal on_file
        count = os.write(fd, line)
        on_file = now()
        return count

    writer._write = timed_write
    while not os.path.exists("over"):
        began = now()
        found = track_role_event("role.selected", role="dev")
        if found is not None:
            notes.append((began, on_file, found["event_id"]))
    with open(f"notes{slot}", "w") as file:
        json.dump(notes, file)


def fork_writers(count: int) -> list[int]:
    """Start this number of writers and return their process ids."""
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


class GrantTime:
    """The time at which the consent record is renamed. There is no grant before it."""

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

    def _renamed(self, source: str, target: str, **options: object) -> None:
        """Save the time if the target is the consent record."""
        if os.path.basename(target) == os.path.basename(self.path):
            self.begins = now()
        self.rename(source, target, **options)


def revoke(count: int) -> list[list[int]]:
    """Return when each revocation returned and when the next grant took effect."""
    spans = []
    for _ in range(count):
        time.sleep(dice.uniform(0.02, 0.05))
        changes.disable_telemetry()
        off = now()
        time.sleep(dice.uniform(0.0, 0.01))
        with GrantTime() as grant:
            changes.enable_telemetry()
        assert grant.begins > off
        spans.append([off, grant.begins])
    return spans


def clear(count: int) -> list[dict[str, object]]:
    """Return for each clear its start, its end, and the stored events before and after it."""
    home = changes.paths_of()
    spans: list[dict[str, object]] = []
    for _ in range(count):
        time.sleep(dice.uniform(0.005, 0.03))
        if dice.random() < 0.3:
            rotation.seal(home, "2024-02-28")
        if dice.random() < 0.3:
            maintenance.maintain(home, 90, "2024-02-28")
        listed = now()
        before = [e["event_id"] for e in reader.read(home)]
        began = now()
        failures = changes.clear(home)
        ended = now()
        assert failures == [], failures
        after = [e["event_id"] for e in reader.read(home)]
        spans.append(
            {"looked": listed, "before": before, "began": began, "ended": ended, "after": after}
        )
    return spans


def main() -> None:
    """Run the writers and the decisions, and print the times."""
    how, count = sys.argv[1], int(sys.argv[2])
    track_role_event("role.selected", role="dev")
    pids = fork_writers(6)
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
