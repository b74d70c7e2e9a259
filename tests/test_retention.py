"""Retention under clocks that jump: no mass deletion, and no line that stays for ever."""

import os
from datetime import date, timedelta
from pathlib import Path

import pytest

from telemetry_kit.home import Home
from telemetry_kit.journal import archive, reader, upkeep
from telemetry_kit.journal.lease import Journal
from telemetry_kit.journal.retention import PROOF_DAYS, Term

DAY = "2026-06-01"
WRONG = "2099-06-01"


def later(day: str, days: int) -> str:
    return (date.fromisoformat(day) + timedelta(days)).isoformat()


class User:
    """Somebody who records, on days that a test says.

    Args:
        home: where.
    """

    def __init__(self, home: Home) -> None:
        self.home = home
        self.days: list[str] = []

    def record(self, day: str, count: int = 3) -> None:
        journal = Journal(self.home, lambda: True)
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
        upkeep.seal(self.home, day)

    def maintain(self, day: str) -> None:
        assert [] == archive.maintain(self.home, 90, day).survivors

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


def test_several_jumps(user) -> None:
    """Each time another year, with events in each: those of today stay."""
    for year in (2031, 2044, 2099, 2033, 2098):
        for month in (1, 3):
            user.record(f"{year}-{month:02}-01")
            user.seal(f"{year}-{month:02}-01")
            user.maintain(f"{year}-{month:02}-02")
    user.maintain(later(DAY, 15))

    assert sorted(user.days) == user.stored()


def test_retention_goes_on_after_a_jump(user) -> None:
    """With the clock right again, lines go when their time is over, by their own day."""
    user.record(WRONG)
    user.seal(WRONG)
    user.maintain(WRONG)
    user.maintain(later(DAY, 95))

    assert {WRONG, *(later(DAY, n) for n in range(5, 14))} == set(user.stored())


@pytest.mark.parametrize("every", [1, 7, 30])
def test_back_after_two_years(user, every: int) -> None:
    """Nothing goes until seven days of new events say that the clock is right; then it does."""
    back = later(DAY, 730)
    kept = []
    for number in range(PROOF_DAYS):
        user.maintain(later(back, every * number))
        kept.append(user.days == user.stored())
        user.record(later(back, every * number), 1)
    user.maintain(later(back, every * PROOF_DAYS))
    today = every * PROOF_DAYS

    assert [True] * PROOF_DAYS == kept
    assert user.stored() == [
        later(back, every * n) for n in range(PROOF_DAYS) if today - every * n <= 90
    ]


def test_back_after_two_years_and_asked(user) -> None:
    """What the user asks for is done at once."""
    back = later(DAY, 730)
    user.record(back)
    done = archive.rewrite(user.home, archive.before(back), back)

    assert (42, []) == (done.lines, done.survivors)
    assert [back] * 3 == user.stored()


def test_back_after_a_year(user) -> None:
    """A break that a wrong clock would not explain needs no proof."""
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
    ("days", "over"), [(90, False), (91, True), (400, True), (401, False), (30_000, False)]
)
def test_what_needs_a_proof(days: int, over: bool) -> None:
    """Up to 400 days none; beyond, events of 7 different days among the last 400."""
    seen = [later(DAY, -number) for number in range(PROOF_DAYS)]
    asked = []

    def with_events(first: str, last: str, enough: int) -> set[str]:
        asked.append((first, last))
        return {day for day in seen[:-1] if first <= day <= last}

    day = later(DAY, -days) if days < 30_000 else "1944-01-01"
    term = Term(90, DAY, with_events)
    proved = Term(90, DAY, lambda *_asked: set(seen))

    assert over == term.over(day)
    assert term.in_doubt(day) == (days > 400)
    assert proved.over(day) == (days > 90)
    assert ([(later(DAY, -400), DAY)] if days > 400 else []) == asked


@pytest.mark.parametrize("today", ["0001-02-01", "nonsense", ""])
def test_a_day_that_has_no_before(today: str) -> None:
    """Nothing is over on a day that the calendar does not reach back from."""
    term = Term(90, today, lambda *_asked: set())

    assert not term.over("0001-01-01")
    assert not term.over("2026-01-01")
    assert not Term(90, today, lambda *_asked: {DAY, *map(str, range(9))}).over("2026-01-01")


@pytest.mark.parametrize(
    ("first", "last", "proved"), [(-400, 0, True), (-401, 0, False), (-400, 1, False)]
)
def test_which_days_prove_the_present(home, first: int, last: int, proved: bool) -> None:
    """Seven different ones among the last 400, today and the first of them included."""
    user = User(home)
    for number in (first, first + 10, -300, -200, -100, -1, last):
        user.record(later(DAY, number))
    user.seal(DAY)
    Path(home.folder, "telemetry-2026-01-01.jsonl.gz").write_bytes(b"noise")
    os.mkfifo(f"{home.folder}/telemetry-2026-01-02.jsonl")

    assert proved == archive.term(home, 90, DAY).is_proved()


def test_a_log_in_doubt_keeps_the_rest(home) -> None:
    """Also a line of the active log means that nothing may go yet."""
    user = User(home)
    user.record(later(DAY, -100))
    user.seal(later(DAY, -100))
    user.record(later(DAY, -500))
    user.maintain(DAY)

    assert sorted(user.days) == user.stored()
