"""Retention with a clock that jumps: no mass deletion, and no line that is kept forever."""

import os
from datetime import date, timedelta
from pathlib import Path

import pytest

from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import maintenance, reader, rotation
from telemetry_kit.storage.retention import Retention
from telemetry_kit.storage.writer import LogWriter

DAY = "2026-06-01"
WRONG = "2099-06-01"


def later(day: str, days: int) -> str:
    """Return the day that is this number of days later."""
    return (date.fromisoformat(day) + timedelta(days)).isoformat()


class User:
    """A user who records on the days that a test sets.

    Args:
        home: the paths of the project.
    """

    def __init__(self, home: ProjectPaths) -> None:
        self.home = home
        self.days: list[str] = []

    def record(self, day: str, count: int = 3) -> None:
        """Record events with the date of this day."""
        log_writer = LogWriter(self.home, lambda: True)
        for _ in range(count):
            line = (
                f'{{"schema_version":"1.0","event_id":"{len(self.days):016x}",'
                f'"event_type":"role.selected","timestamp":"{day}T00:00:00Z"}}\n'
            )
            while not log_writer.append(line.encode()):
                pass
            self.days.append(day)
        log_writer.close()

    def seal(self, day: str) -> None:
        """Seal the log on this day."""
        rotation.seal(self.home, day)

    def maintain(self, day: str) -> None:
        """Run the maintenance on this day without failures."""
        assert [] == maintenance.maintain(self.home, 90, day).failures

    def stored(self) -> list[str]:
        """Return the days of the stored events, oldest first."""
        return sorted(event["timestamp"][:10] for event in reader.read(self.home))


@pytest.fixture
def user(home) -> User:
    """Create a user with two weeks of events in archives, a sealed segment and the log."""
    new_user = User(home)
    for number in range(14):
        new_user.record(later(DAY, number))
        if number in (4, 8):
            new_user.seal(later(DAY, number))
        if number == 6:
            new_user.maintain(later(DAY, number))
    return new_user


@pytest.mark.parametrize("sealing", ["never", "first", "between", "always"])
def test_a_clock_that_jumps_ahead(user, sealing: str) -> None:
    """Maintenance in 2099 deletes no current event, and none when the clock is right again."""
    before = user.stored()
    if sealing == "first":
        user.seal(WRONG)
    for number in range(20):
        user.record(WRONG, 1)
        if sealing == "always" or (sealing == "between" and number == 10):
            user.seal(WRONG)
        user.maintain(WRONG)
    ahead = user.stored()
    for day in (14, 20):
        user.record(later(DAY, day), 1)
        user.maintain(later(DAY, day))

    assert before + [WRONG] * 20 == ahead
    assert sorted(user.days) == user.stored()


def test_retention_after_a_clock_jump(user) -> None:
    """When the clock is right again, lines expire by their own day."""
    user.record(WRONG)
    user.seal(WRONG)
    user.maintain(WRONG)
    user.maintain(later(DAY, 95))

    assert {WRONG, *(later(DAY, n) for n in range(5, 14))} == set(user.stored())


def test_a_break_of_two_years(user) -> None:
    """After a long break, no line expires until a segment of an earlier day confirms the clock."""
    days_ago = later(DAY, 730)
    user.maintain(days_ago)
    user.record(days_ago, 1)
    user.seal(days_ago)
    user.maintain(days_ago)
    before = user.stored()
    user.maintain(later(days_ago, 1))

    assert sorted(user.days) == before
    assert [days_ago] == user.stored()


def test_a_clear_after_two_years(user) -> None:
    """An explicit removal by the user works at once."""
    days_ago = later(DAY, 730)
    user.record(days_ago)
    done = maintenance.rewrite(user.home, maintenance.keep_since(days_ago), days_ago)

    assert (42, []) == (done.lines, done.failures)
    assert [days_ago] * 3 == user.stored()


def test_a_break_of_a_year(user) -> None:
    """After a break of less than 400 days, lines expire at once."""
    user.maintain(later(DAY, 380))

    assert [] == user.stored()


def test_a_suspended_retention_rewrites_nothing(user) -> None:
    """While the clock is in doubt, maintenance rewrites no file."""
    user.seal(later(DAY, 14))
    user.maintain(later(DAY, 14))
    folder = Path(user.home.folder)
    before = {p.name: p.stat().st_ino for p in folder.glob("telemetry-*")}
    user.maintain(WRONG)

    assert before == {p.name: p.stat().st_ino for p in folder.glob("telemetry-*")}


@pytest.mark.parametrize(
    ("newest", "days", "is_expired"),
    [(0, 90, False), (0, 91, True), (0, 30_000, True), (400, 500, True), (401, 500, False)],
)
def test_expired_lines(newest: int, days: int, is_expired: bool) -> None:
    """Lines expire after the retention days, unless the newest archive is over 400 days old."""
    term = Retention(90, DAY, later(DAY, -newest))

    assert is_expired == term.is_expired(later(DAY, -days))
    assert term.is_skipped == (newest > 400)


@pytest.mark.parametrize("today", ["0001-02-01", "nonsense", ""])
def test_a_day_without_earlier_days(today: str) -> None:
    """If the calendar has no earlier day, or the day is invalid, no line expires."""
    term = Retention(90, today, "0001-01-01")

    assert not term.is_expired("0001-01-01")
    assert not term.is_expired("2026-01-01")


@pytest.mark.parametrize(
    ("segments", "skipped"),
    [
        (["2025-05-01", "2025-04-27.gz"], False),
        (["2025-04-26.gz", "2025-04-26"], True),
        (["2025-04-26.gz", DAY], True),
        (["2025-04-26.gz", WRONG], False),
    ],
)
def test_the_newest_archive_of_an_earlier_day(home, segments: list[str], skipped: bool) -> None:
    """The newest segment name before today decides, because the clock in doubt named today's."""
    os.mkdir(home.folder, 0o700)
    for name in segments:
        day, packed, _ = name.partition(".gz")
        Path(home.folder, f"telemetry-{day}.jsonl{packed}").touch(0o400)

    assert skipped == maintenance.retention(home, 90, DAY).is_skipped


@pytest.mark.parametrize(("days_ago", "kept"), [(401, 2), (400, 0), (10, 1)])
def test_before_the_first_archive(home, days_ago: int, kept: int) -> None:
    """Without a segment, the newest event decides."""
    user = User(home)
    user.record(later(DAY, -500), 1)
    user.record(later(DAY, -days_ago), 1)
    user.maintain(DAY)

    assert kept == len(user.stored())
