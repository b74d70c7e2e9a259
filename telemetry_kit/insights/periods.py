"""Parse days as people write them: a date, a word, or an age. Days are UTC, as in the events."""

from __future__ import annotations

import re

from telemetry_kit.schema.validation import is_day

_AGE = re.compile(r"([0-9]{1,5})([dwm])")
FORMS = "write the day as 2026-11-23, today, yesterday, 7d, 2w or 3m, or as a time of that day"


def period(
    since: object, until: object, today: str, names: tuple[str, str] = ("since=", "until=")
) -> tuple[str, str]:
    """Parse the first and the last day; a day that is not given is empty.

    Args:
        since: the first day, as `day_of` accepts it; None for all.
        until: the last day.
        today: the current day, as `YYYY-MM-DD`.
        names: how both are given, for messages.

    Raises:
        ValueError: a day is invalid, or the last is before the first.
    """
    first = "" if since is None else day_of(names[0], since, today)
    last = "" if until is None else day_of(names[1], until, today)
    if first and last and last < first:
        raise ValueError(f"{names[1]}{last} is before {names[0]}{first}: swap them")
    return first, last


def day_of(name: str, given: object, today: str) -> str:
    """Parse a day and return it as `YYYY-MM-DD`.

    Args:
        name: how it is given, for the message.
        given: `YYYY-MM-DD`, `today`, `yesterday`, an age in days, weeks or months such as `7d`,
            `2w` or `3m`, or a time in ISO 8601, which is cut to its day in UTC. Also a `date` or
            a `datetime`.
        today: the current day, as `YYYY-MM-DD`.

    Raises:
        ValueError: it is none of these.
    """
    found = given if isinstance(given, str) and is_day(given) else parse_day(given, today)
    if not found:
        shown = given[:30] if isinstance(given, str) else given
        raise ValueError(f"{name}{shown!r}: {FORMS}")
    return found


def parse_day(given: object, today: str) -> str:
    """Parse a word, an age, a time or an object; an invalid one gives an empty text."""
    # deferred: most commands have no day, or a plain one
    from datetime import UTC, date, datetime, timedelta

    try:
        if isinstance(given, datetime):
            return str((given if given.tzinfo is None else given.astimezone(UTC)).date())
        if isinstance(given, date):
            return given.isoformat()
        if not isinstance(given, str):
            return ""
        now = date.fromisoformat(today)
        age = _AGE.fullmatch({"today": "0d", "yesterday": "1d"}.get(given, given))
        if age is not None and age[2] == "m":
            return months_before(now.year, now.month, now.day, int(age[1]))
        if age is not None:
            return str(now - timedelta(int(age[1]) * (7 if age[2] == "w" else 1)))
        # A shorter text is a day in another notation, where a typing error gives another day.
        if len(given) < len("2026-11-23T10:20") or not is_day(given[:10]):
            return ""
        return parse_day(datetime.fromisoformat(given), today)
    except (ValueError, OverflowError):
        return ""


def months_before(year: int, month: int, day: int, months: int) -> str:
    """Return the same day of an earlier month, or the last day of a shorter month."""
    year, month = divmod(year * 12 + month - 1 - months, 12)
    days = (f"{year:04}-{month + 1:02}-{last:02}" for last in range(day, day - 4, -1))
    return next(filter(is_day, days), "")
