"""Retention under clocks that jump: no mass deletion, and no line that stays for ever."""

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
    return (date.fromisoformat(day) + timedelta(days)).isoformat()


class User:
    """Somebody who records, on days that a test says.

    Args:
        home: where.
    """

    def __init__(self, home: ProjectPaths) -> None:
        self.home = home
        self.days: list[str] = []

    def record(self, day: str, count: int = 3) -> None:
        journal = LogWriter(self.home, lambda: True)
        for _ in range(count):
            line = (
                f'{{"schema_version":"1.0","event_id":"{len(self.days):016x}",'
                f'"event_type":"role.selected","timestamp":"{day}T00:00:00Z"}}\n'
            )
            while not journal.append(line.encode()):
                pass
            self.days.append(day)
        journal.close()

    def seal(self, day: str) -> None:
        rotation.seal(self.home, day)

    def maintain(self, day: str) -> None:
        assert [] == maintenance.maintain(self.home, 90, day).failures

    def stored(self) -> list[str]:
        """The days of what is stored, oldest first."""
        return sorted(event["timestamp"][:10] for event in reader.read(self.home))


@pytest.fixture
def user(home) -> User:
    """Somebody who has recorded for two weeks, some of it sealed, some packed."""
    made = User(home)
    for number in range(14):
        made.record(later(DAY, number))
        if number in (4, 8):
            made.seal(later(DAY, number))
        if number == 6:
            made.maintain(later(DAY, number))
    return made


@pytest.mark.parametrize("sealing", ["never", "first", "between", "always"])
def test_a_clock_that_jumps_ahead(user, sealing: str) -> None:
    """Events, sealings and maintenance of 2099 delete nothing of today, nor does the way back."""
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


def test_retention_goes_on_after_a_jump(user) -> None:
    """With the clock right again, lines go when their time is over, by their own day."""
    user.record(WRONG)
    user.seal(WRONG)
    user.maintain(WRONG)
    user.maintain(later(DAY, 95))

    assert {WRONG, *(later(DAY, n) for n in range(5, 14))} == set(user.stored())


def test_back_after_two_years(user) -> None:
    """Nothing goes until an archive of an earlier day says that the clock is right."""
    back = later(DAY, 730)
    user.maintain(back)
    user.record(back, 1)
    user.seal(back)
    user.maintain(back)
    before = user.stored()
    user.maintain(later(back, 1))

    assert sorted(user.days) == before
    assert [back] == user.stored()


def test_back_after_two_years_and_asked(user) -> None:
    """What the user asks for is done at once."""
    back = later(DAY, 730)
    user.record(back)
    done = maintenance.rewrite(user.home, maintenance.keep_since(back), back)

    assert (42, []) == (done.lines, done.failures)
    assert [back] * 3 == user.stored()


def test_back_after_a_year(user) -> None:
    """A break of less than 400 days is believed."""
    user.maintain(later(DAY, 380))

    assert [] == user.stored()


def test_a_journal_in_doubt_is_not_rewritten(user) -> None:
    """What stays is not touched at each command."""
    user.seal(later(DAY, 14))
    user.maintain(later(DAY, 14))
    folder = Path(user.home.folder)
    before = {p.name: p.stat().st_ino for p in folder.glob("telemetry-*")}
    user.maintain(WRONG)

    assert before == {p.name: p.stat().st_ino for p in folder.glob("telemetry-*")}


@pytest.mark.parametrize(
    ("newest", "days", "over"),
    [(0, 90, False), (0, 91, True), (0, 30_000, True), (400, 500, True), (401, 500, False)],
)
def test_what_is_over(newest: int, days: int, over: bool) -> None:
    """Lines of more than 90 days, unless the newest archive is more than 400 days old."""
    term = Retention(90, DAY, later(DAY, -newest))

    assert over == term.is_expired(later(DAY, -days))
    assert term.is_skipped == (newest > 400)


@pytest.mark.parametrize("today", ["0001-02-01", "nonsense", ""])
def test_a_day_that_has_no_before(today: str) -> None:
    """Nothing is over on a day that the calendar does not reach back from."""
    term = Retention(90, today, "0001-01-01")

    assert not term.is_expired("0001-01-01")
    assert not term.is_expired("2026-01-01")


@pytest.mark.parametrize(
    ("names", "skipped"),
    [
        (["2025-05-01", "2025-04-27.gz"], False),
        (["2025-04-26.gz", "2025-04-26"], True),
        (["2025-04-26.gz", DAY], True),
        (["2025-04-26.gz", WRONG], False),
    ],
)
def test_the_newest_archive_of_an_earlier_day(home, names: list[str], skipped: bool) -> None:
    """Its name decides, sealed or packed; the clock in question has named that of today."""
    os.mkdir(home.folder, 0o700)
    for name in names:
        day, packed, _ = name.partition(".gz")
        Path(home.folder, f"telemetry-{day}.jsonl{packed}").touch(0o400)

    assert skipped == maintenance.retention(home, 90, DAY).is_skipped


@pytest.mark.parametrize(("back", "kept"), [(401, 2), (400, 0), (10, 1)])
def test_before_the_first_archive(home, back: int, kept: int) -> None:
    """The newest event stands in its place."""
    user = User(home)
    user.record(later(DAY, -500), 1)
    user.record(later(DAY, -back), 1)
    user.maintain(DAY)

    assert kept == len(user.stored())
