"""Days of `--since` and `--until` in each accepted form."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit.cli import periods
from telemetry_kit.cli.output import USAGE, CommandError
from telemetry_kit.consent import decision
from telemetry_kit.insights.periods import months_before

TODAY = "2026-03-31"


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-11-23", "2026-11-23"),
        ("today", TODAY),
        ("0d", TODAY),
        ("yesterday", "2026-03-30"),
        ("7d", "2026-03-24"),
        ("2w", "2026-03-17"),
        ("1m", "2026-02-28"),
        ("3m", "2025-12-31"),
        ("25m", "2024-02-29"),
        ("2026-11-23T10:20", "2026-11-23"),
        ("2026-11-23 10:20:30", "2026-11-23"),
        ("2026-11-23T10:20:30Z", "2026-11-23"),
        ("2026-11-23T00:30:00+02:00", "2026-11-22"),
    ],
)
def test_valid_days(monkeypatch, text, day):
    """A day is a date, a word, a number of units ago, or a time, which is converted to UTC."""
    monkeypatch.setattr(decision, "today", lambda: TODAY)

    assert (day, "") == periods.period(text, None)


@pytest.mark.parametrize(
    "text",
    ["", "x", "7", "d", "-7d", "7y", "99999m", "99999d" * 2, "2026-02-30", "20261123T10:20:30"],
)
def test_invalid_days(text):
    """The error names the option and the accepted forms."""
    with pytest.raises(
        CommandError, match=r"--until .*: write the day as .*, today, yesterday, 7d"
    ) as caught:
        periods.period(None, text)

    assert caught.value.code == USAGE


@given(st.dates(date(1000, 1, 1)), st.integers(0, 300))
def test_months_before_a_day(today, months):
    """The result is in the right month, at most three days earlier in it."""
    found = date.fromisoformat(months_before(today.year, today.month, today.day, months))

    assert today.year * 12 + today.month - found.year * 12 - found.month == months
    assert 0 <= today.day - found.day <= 3


def test_periods_of_a_command(undecided):
    """An event of today is after yesterday and not before two days ago."""
    undecided.grant()
    undecided.run("from telemetry_kit import track_role_event as t\nt('role.selected', role='dev')")
    since = undecided.python("-m", "telemetry_kit", "view", "--since", "yesterday", "--json")
    until = undecided.python("-m", "telemetry_kit", "view", "--until", "2d", "--json")
    day = datetime.now(UTC).date() - timedelta(1)
    swapped = undecided.python(
        "-m", "telemetry_kit", "stats", "--since", "today", "--until", str(day)
    )

    assert (len(since.stdout.splitlines()), until.stdout) == (1, "")
    assert (swapped.returncode, "swap them" in swapped.stderr) == (2, True)
