"""The retention on one day: which lines are expired, and whether the clock is plausible."""

from __future__ import annotations

from datetime import date, timedelta

from telemetry_kit.storage.limits import MAX_CLOCK_DAYS


class Retention:
    """The retention on one day.

    A wrong clock must not delete everything. So nothing expires on a day that is more than 400
    days after the newest archive. After such a break, lines are kept until a new archive exists
    or the user runs `clear --before`.

    Args:
        retention_days: how many days lines are kept.
        today: the day in UTC, as `YYYY-MM-DD`.
        newest: the day of the newest archive, in the same form.

    Attributes:
        oldest: the first day whose lines are kept.
        is_skipped: whether nothing expires, because the clock may be wrong.
    """

    def __init__(self, retention_days: int, today: str, newest: str) -> None:
        self.oldest = day_before(today, retention_days)
        self.is_skipped = newest < day_before(today, MAX_CLOCK_DAYS)
        self.today = today

    def is_expired(self, day: str) -> bool:
        """Whether the lines of a day, given as `YYYY-MM-DD`, are expired."""
        return day < self.oldest and not self.is_skipped


def day_before(today: str, days: int) -> str:
    """Return the day so many days before; an empty string if there is no such day."""
    try:
        return (date.fromisoformat(today) - timedelta(days)).isoformat()
    except (ValueError, OverflowError):
        return ""
