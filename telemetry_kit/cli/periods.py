"""Parse days as people write them: a date, a word, or an age.

Days are UTC, as events are stored. This module reads no events.
"""

from __future__ import annotations

import re

from telemetry_kit.cli.output import USAGE, CommandError, safe
from telemetry_kit.consent import decision
from telemetry_kit.schema.validation import is_day

_AGO = re.compile(r"([0-9]{1,5})([dwm])")
_WAYS = "write the day as 2026-11-23, today, yesterday, or 7d, 2w or 3m ago, or a time of that day"


def period(since: str | None, until: str | None) -> tuple[str, str]:
    """First and last day, checked; empty where not given.

    Raises:
        CommandError: a day cannot be understood, or the last is before the first.
    """
    first = "" if since is None else day_of("--since", since)
    last = "" if until is None else day_of("--until", until)
    if first and last and last < first:
        raise CommandError(f"--until {last} is before --since {first}: swap them", USAGE)
    return first, last


def day_of(option: str, text: str) -> str:
    """A day as `YYYY-MM-DD`.

    Args:
        option: with which it was given.
        text: as it was typed: such a day, `today`, `yesterday`, days, weeks or months ago as
            `7d`, `2w` or `3m`, or a time in ISO 8601, cut to its day.

    Raises:
        CommandError: it is none of these.
    """
    found = text if is_day(text) else _worked_out(text)
    if not found:
        raise CommandError(f"{option} {safe(text[:30])!r}: {_WAYS}", USAGE)
    return found


def _worked_out(text: str) -> str:
    from datetime import (
        UTC,
        date,
        datetime,
        timedelta,
    )  # deferred: most give no day, or a plain one

    today = date.fromisoformat(decision.today())
    ago = _AGO.fullmatch({"today": "0d", "yesterday": "1d"}.get(text, text))
    try:
        if ago is not None and ago[2] == "m":
            return _months_before(today.year, today.month, today.day, int(ago[1]))
        if ago is not None:
            return str(today - timedelta(int(ago[1]) * (7 if ago[2] == "w" else 1)))
        # Shorter ones are days in another form, in which a slip would not show.
        if len(text) < len("2026-11-23T10:20") or not is_day(text[:10]):
            return ""
        when = datetime.fromisoformat(text)
        return str((when if when.tzinfo is None else when.astimezone(UTC)).date())
    except (ValueError, OverflowError):
        return ""


def _months_before(year: int, month: int, day: int, months: int) -> str:
    """The same day of an earlier month, or its last one where it is shorter."""
    year, month = divmod(year * 12 + month - 1 - months, 12)
    for last in range(day, day - 4, -1):
        found = f"{year:04}-{month + 1:02}-{last:02}"
        if is_day(found):
            return found
    return ""
