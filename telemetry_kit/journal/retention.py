"""Which days are over, and whether the clock that says so can be believed.

Nothing is read or deleted here.
"""

from __future__ import annotations

from datetime import date, timedelta

from telemetry_kit.journal.keeping import MAX_CLOCK_DAYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PROOF_DAYS = 7


class Term:
    """The retention on one day.

    One wrong clock must not delete everything, and a wrong clock leaves traces of its own: events
    of 2099, and segments named after it. Maintenance that goes on from week to week meets lines
    that are just over; one that is over 400 days old means that nobody was here for long, or that
    the clock is wrong. Then nothing goes until the present is proved: by events of 7 different
    days among the last 400. A clock that jumped has one such day, or two, however often it is
    recorded, sealed and maintained on them. Who comes back after two years has them soon, and may
    say `clear --before` at any time.

    Args:
        retention_days: how many days lines are kept.
        today: the day in UTC, as `YYYY-MM-DD`.
        days: asked once, and only when it matters: the days from the first given one to the
            second that have events, no more than so many.
    """

    def __init__(
        self, retention_days: int, today: str, days: Callable[[str, str, int], set[str]]
    ) -> None:
        self.today = today
        self.oldest = _back(today, retention_days)
        self.doubtful = _back(today, MAX_CLOCK_DAYS)
        self._days = days
        self._proved: bool | None = None

    def over(self, day: str) -> bool:
        """Whether lines of this day go.

        Args:
            day: as `YYYY-MM-DD`.
        """
        return day < self.oldest and not self.in_doubt(day)

    def in_doubt(self, day: str) -> bool:
        """Whether a line of this day means that nothing may go yet.

        Args:
            day: as `YYYY-MM-DD`.
        """
        return day < self.doubtful and not self.is_proved()

    def is_proved(self) -> bool:
        """Whether events of enough different days say that the clock is right."""
        if self._proved is None:
            seen = self._days(self.doubtful, self.today, PROOF_DAYS)
            self._proved = len(seen) >= PROOF_DAYS
        return self._proved


def _back(today: str, days: int) -> str:
    """So many days before; before everything where there is no such day."""
    try:
        return (date.fromisoformat(today) - timedelta(days)).isoformat()
    except (ValueError, OverflowError):
        return ""
