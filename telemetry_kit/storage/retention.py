"""The retention on one day: the expired lines, and whether the clock is plausible.

Nothing is read or deleted here.
"""

from __future__ import annotations

from datetime import date, timedelta

from telemetry_kit.storage.limits import MAX_CLOCK_DAYS


class Retention:
    """The retention on one day.

    One wrong clock must not delete everything. So nothing expires on a day that is more than 400
    days after the newest archive. After such a break the lines stay until a new archive exists
    or the user runs `clear --before`.

    Args:
        retention_days: how many days lines are kept.
        today: the day in UTC, as `YYYY-MM-DD`.
        newest: the day of the newest archive, in the same form.
    """

    def __init__(self, retention_days: int, today: str, newest: str) -> None:
        self.oldest = _back(today, retention_days)
        self.is_skipped = newest < _back(today, MAX_CLOCK_DAYS)
        self.today = today

    def over(self, day: str) -> bool:
        """Whether lines of this day are expired.

        Args:
            day: as `YYYY-MM-DD`.
        """
        return day < self.oldest and not self.is_skipped


def _back(today: str, days: int) -> str:
    """So many days before; before everything where there is no such day."""
    try:
        return (date.fromisoformat(today) - timedelta(days)).isoformat()
    except (ValueError, OverflowError):
        return ""
