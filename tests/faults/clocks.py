"""Record events under other clocks and print what was acknowledged: `clocks.py HOW`.

For each acknowledged event, the output has the id, the second of the call and the timestamp.
"""

import json
import os
import sys
import time

import telemetry_kit
from telemetry_kit import configure, track_role_event
from telemetry_kit.consent import cache
from telemetry_kit.consent import changes as consent_changes
from telemetry_kit.storage import maintenance, reader, rotation, writer

configure(app="flowspec")

HOUR, DAY = 3_600, 86_400


class Recording:
    """Record, seal and maintain one project at given seconds."""

    def __init__(self) -> None:
        writer.SLOW_SECONDS = 60.0
        telemetry_kit.configure(timestamp_resolution="second")
        consent_changes.enable_telemetry()
        self.home = consent_changes.paths_of()
        self.done: list[tuple[str, int, str]] = []
        self.sealings = 0

    def record(self, second: int) -> None:
        """Record one event at this second."""
        with cache.override_runtime(os.environ, now=lambda: float(second)):
            event = track_role_event("role.selected", role="dev")
        assert event is not None
        self.done.append((event["event_id"], second, event["timestamp"]))

    def seal(self, second: int) -> None:
        """Seal the log at this second."""
        self.sealings += rotation.seal(self.home, day_of(second))

    def maintain(self, second: int) -> list[str]:
        """Run the maintenance without failures and return the ids of the stored events."""
        assert [] == maintenance.maintain(self.home, 90, day_of(second)).failures
        return [event["event_id"] for event in reader.read(self.home)]


def day_of(second: int) -> str:
    """Return the UTC day of this second, as the commands do."""
    return time.strftime("%Y-%m-%d", time.gmtime(second))


def changes(year_begins: int) -> list[int]:
    """Return the seconds of a year at which the local clock is set forward or back."""
    quarters = range(year_begins, year_begins + 366 * DAY, HOUR // 4)
    offsets = [time.localtime(second).tm_gmtoff for second in quarters]
    pairs = zip(quarters[1:], offsets, offsets[1:], strict=False)
    return [second for second, before, after in pairs if before != after]


def daylight(year_begins: int) -> None:
    """Record, seal and compress around both clock changes. Then let 90 days pass."""
    recording = Recording()
    events_left: list[list[object]] = []
    clock_changes = changes(year_begins)
    for change in clock_changes:
        seconds = {change + step for step in (-DAY, -HOUR, -1, 0, 1, HOUR, 2 * HOUR, DAY)}
        midnight = change // DAY * DAY
        for second in sorted(seconds | {midnight - 1, midnight, midnight + DAY}):
            recording.record(second)
            recording.seal(second)
            recording.maintain(second)
        for days in (89, 90, 91, 92):
            second = change + days * DAY
            events_left.append([day_of(second), recording.maintain(second)])
    print_result(recording, left=events_left, changes=clock_changes)


def ahead(right_time: int, wrong_time: int, seals: bool) -> None:
    """Record a day by the right clock, then by a wrong one, and once by the right one again."""
    recording = Recording()
    for hour in range(24):
        recording.record(right_time + hour * HOUR)
        if hour == 12:
            recording.seal(right_time)
    recording.maintain(right_time)
    for minute in range(20):
        recording.record(wrong_time + minute * 60)
        if seals:
            recording.seal(wrong_time)
        recording.maintain(wrong_time)
    recording.record(right_time + DAY)
    recording.maintain(right_time + DAY)
    print_result(recording)


def print_result(recording: Recording, **details: object) -> None:
    """Print the acknowledged events and the details as JSON."""
    print(json.dumps({"acknowledged": recording.done, "sealings": recording.sealings, **details}))


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    {"daylight": daylight, "ahead": ahead}[name](*(json.loads(g) for g in arguments))
    sys.exit(7)
