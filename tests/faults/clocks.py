"""Events through the front door under other clocks, and what becomes of them: `clocks.py HOW`.

Prints what was acknowledged, with the second in which it happened and the time it bears.
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


class Life:
    """Somebody who records at given seconds, and whose commands bring the journal in order."""

    def __init__(self) -> None:
        writer.SLOW_SECONDS = 60.0
        telemetry_kit.configure(timestamp_resolution="second")
        consent_changes.enable_telemetry()
        self.home = consent_changes.paths_of()
        self.done: list[tuple[str, int, str]] = []
        self.sealings = 0

    def record(self, second: int) -> None:
        with cache.override_runtime(os.environ, now=lambda: float(second)):
            found = track_role_event("role.selected", role="dev")
        assert found is not None
        self.done.append((found["event_id"], second, found["timestamp"]))

    def seal(self, second: int) -> None:
        self.sealings += rotation.seal(self.home, day_of(second))

    def maintain(self, second: int) -> list[str]:
        assert [] == maintenance.maintain(self.home, 90, day_of(second)).failures
        return [event["event_id"] for event in reader.read(self.home)]


def day_of(second: int) -> str:
    """As the commands find it."""
    return time.strftime("%Y-%m-%d", time.gmtime(second))


def changes(year_begins: int) -> list[int]:
    """The seconds of a year in which the local clock is put forward or back."""
    quarters = range(year_begins, year_begins + 366 * DAY, HOUR // 4)
    offsets = [time.localtime(second).tm_gmtoff for second in quarters]
    pairs = zip(quarters[1:], offsets, offsets[1:], strict=False)
    return [second for second, before, after in pairs if before != after]


def daylight(year_begins: int) -> None:
    """Record, seal and pack around both changes; then let 90 days pass."""
    life = Life()
    left: list[list[object]] = []
    found = changes(year_begins)
    for change in found:
        near = {change + step for step in (-DAY, -HOUR, -1, 0, 1, HOUR, 2 * HOUR, DAY)}
        midnight = change // DAY * DAY
        for second in sorted(near | {midnight - 1, midnight, midnight + DAY}):
            life.record(second)
            life.seal(second)
            life.maintain(second)
        for days in (89, 90, 91, 92):
            second = change + days * DAY
            left.append([day_of(second), life.maintain(second)])
    tell(life, left=left, changes=found)


def ahead(right: int, wrong: int, seals: bool) -> None:
    """A day in which all is right, a wrong clock for twenty rounds, and the right one again."""
    life = Life()
    for hour in range(24):
        life.record(right + hour * HOUR)
        if hour == 12:
            life.seal(right)
    life.maintain(right)
    for minute in range(20):
        life.record(wrong + minute * 60)
        if seals:
            life.seal(wrong)
        life.maintain(wrong)
    life.record(right + DAY)
    life.maintain(right + DAY)
    tell(life)


def tell(life: Life, **more: object) -> None:
    print(json.dumps({"acknowledged": life.done, "sealings": life.sealings, **more}))


if __name__ == "__main__":
    name, *given = sys.argv[1:]
    {"daylight": daylight, "ahead": ahead}[name](*(json.loads(g) for g in given))
    sys.exit(7)
