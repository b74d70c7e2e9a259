"""The days that `--since` and `--until` name."""

from __future__ import annotations

from telemetry_kit.cli.output import USAGE, CommandError
from telemetry_kit.consent import decision
from telemetry_kit.insights import periods


def period(since: str | None, until: str | None) -> tuple[str, str]:
    """Parse the first and the last day; a day that is not given is empty.

    Raises:
        CommandError: a day is invalid, or the last is before the first.
    """
    try:
        return periods.period(since, until, decision.today(), ("--since ", "--until "))
    except ValueError as error:
        raise CommandError(str(error), USAGE) from None
