"""Which events to read: those of a period, with given values in given fields."""

from __future__ import annotations

from collections.abc import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Query:
    """Which events to read.

    Args:
        since: the first day, as `YYYY-MM-DD`; empty for all.
        until: the last day; empty for all.
        fields: the value, or the values, that each field may have.
    """

    __slots__ = ("fields", "since", "until")

    def __init__(
        self,
        since: str = "",
        until: str = "",
        fields: Mapping[str, str | frozenset[str]] | None = None,
    ) -> None:
        self.since = since
        self.until = until
        self.fields = {
            name: frozenset((given,)) if isinstance(given, str) else given
            for name, given in (fields or {}).items()
        }

    @property
    def everything(self) -> bool:
        """Whether it accepts all events."""
        return not (self.since or self.until or self.fields)

    def has_day(self, day: str) -> bool:
        """Whether a day is in the period."""
        return self.since <= day and (not self.until or day <= self.until)

    def has_fields(self, event: Mapping[str, Any]) -> bool:
        """Whether each field of an event has one of the given values."""
        return all(event.get(name) in values for name, values in self.fields.items())

    def accepts(self, event: Mapping[str, Any]) -> bool:
        """Whether an event is in the period and has the values."""
        return self.has_day(event["timestamp"][:10]) and self.has_fields(event)
