"""The effect of `--telemetry` and `--no-telemetry` in every host."""

from __future__ import annotations

import sys

from telemetry_kit import settings
from telemetry_kit._runtime import SUPPORTED
from telemetry_kit.consent import cache, changes, policy
from telemetry_kit.errors import ConsentError, TelemetryError, swallow

# How long a host waits at its start for another process that is deciding.
PATIENCE_SECONDS = 1.0


def decide(value: bool | None, *, typed: bool = True) -> bool | None:
    """Save the decision of a flag; the host continues in every case.

    A current grant stays unchanged, even if the program would record more now: the prompt asks
    about an extended scope. An error is reported on stderr. If a denial cannot be saved, the
    current process still stops recording.

    Args:
        value: True for `--telemetry`, False for `--no-telemetry`, None for neither.
        typed: whether the user typed it; a default or a variable grants nothing.

    Returns:
        The same value.
    """
    try:
        if value is True and typed:
            grant()
        elif value is False and SUPPORTED:
            deny()
    except ConsentError as error:
        option = f"{settings.current().app}: {'--telemetry' if value else '--no-telemetry'}"
        message = f"{option} could not be saved: {error}. Nothing is recorded in this run.\n"
        if sys.stderr is not None:
            sys.stderr.write(message.encode("ascii", "backslashreplace").decode("ascii"))
    except TelemetryError:
        return value  # the decision is saved; only the log could not be sealed
    except Exception as error:
        swallow(error)
    return value


def grant() -> None:
    """Grant consent for all that the tool has declared, unless consent is current."""
    paths = changes.paths_of()
    verdicts = {rule.verdict for rule in policy.records(paths)}
    if policy.GRANT not in verdicts or policy.DENY in verdicts:
        changes.grant(paths, method="flag", patience=PATIENCE_SECONDS)


def deny() -> None:
    """Deny consent; without a home directory, the current process stops recording."""
    try:
        paths = changes.paths_of()
    except ConsentError:
        cache.deny_in_process()
        raise
    changes.deny(paths, method="flag", patience=PATIENCE_SECONDS)
