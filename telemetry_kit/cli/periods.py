"""Parse days as people write them: a date, a word, or an age. Days are UTC, as in the events."""

from __future__ import annotations

import re

from telemetry_kit.cli.output import USAGE, CommandError, safe
from telemetry_kit.consent import decision
from telemetry_kit.schema.validation import is_day

_AGE = re.compile(r"([0-9]{1,5})([dwm])")
_FORMS = "write the day as 2026-11-23, today, yesterday, 7d, 2w or 3m, or as a time of that day"


def period(since: str | None, until: str | None) -> tuple[str, str]:
    """Parse the first and the last day; a day that is not given is empty.

    Raises:
        CommandError: a day is invalid, or the last is before the first.
    """
    first = "" if since is None else day_of("--since", since)
    last = "" if until is None else day_of("--until", until)
    if first and last and last < first:
        raise CommandError(f"--until {last} is before --since {first}: swap them", USAGE)
    return first, last


def day_of(option: str, text: str) -> str:
    """Parse a day and return it as `YYYY-MM-DD`.

    Args:
        option: the option that has this value.
        text: `YYYY-MM-DD`, `today`, `yesterday`, an age in days, weeks or months such as `7d`,
            `2w` or `3m`, or a time in ISO 8601, which is cut to its day.

    Raises:
        CommandError: it is none of these.
    """
    found = text if is_day(text) else parse_day(text)
    if not found:
        raise CommandError(f"{option} {safe(text[:30])!r}: {_FORMS}", USAGE)
    return found


def parse_day(text: str) -> str:
    """Parse a word, an age or a time; an invalid one gives an empty text."""
    # deferred: most commands have no day, or a plain one
    from datetime import UTC, date, datetime, timedelta

    today = date.fromisoformat(decision.today())
    age = _AGE.fullmatch({"today": "0d", "yesterday": "1d"}.get(text, text))
    try:
        if age is not None and age[2] == "m":
            return months_before(today.year, today.month, today.day, int(age[1]))
        if age is not None:
            return str(today - timedelta(int(age[1]) * (7 if age[2] == "w" else 1)))
        # A shorter text is a day in another notation, where a typing error gives another day.
        if len(text) < len("2026-11-23T10:20") or not is_day(text[:10]):
            return ""
        time = datetime.fromisoformat(text)
        return str((time if time.tzinfo is None else time.astimezone(UTC)).date())
    except (ValueError, OverflowError):
        return ""


def months_before(year: int, month: int, day: int, months: int) -> str:
    """Return the same day of an earlier month, or the last day of a shorter month."""
    year, month = divmod(year * 12 + month - 1 - months, 12)
    days = (f"{year:04}-{month + 1:02}-{last:02}" for last in range(day, day - 4, -1))
    return next(filter(is_day, days), "")
