"""The effect of `--telemetry` and `--no-telemetry` in every host.

The parser of the host supplies the values.
"""

from __future__ import annotations

import sys

from telemetry_kit import settings
from telemetry_kit._runtime import SUPPORTED
from telemetry_kit.consent import cache, changes, policy
from telemetry_kit.errors import ConsentError, TelemetryError, swallow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from telemetry_kit.paths import ProjectPaths

# A program that starts does not wait longer for another process that is deciding.
PATIENCE_SECONDS = 1.0


def decide(value: bool | None, *, typed: bool = True) -> bool | None:
    """Write down the answer that a flag gave; the host goes on whatever comes of it.

    A yes that is in force already stays as it is, also where the program would record more by
    now: that is for the question. What cannot be kept is said on stderr, and after a no that
    cannot be kept nothing is recorded in this process.

    Args:
        value: True for `--telemetry`, False for `--no-telemetry`, None when neither was given.
        typed: whether it stood on the command line; a yes from anywhere else is none.

    Returns:
        The same value.
    """
    try:
        if value is True and typed:
            _accept(changes.paths_of())
        elif value is False and SUPPORTED:
            _refuse()
    except ConsentError as error:
        _say(f"{'--telemetry' if value else '--no-telemetry'} could not be kept: {error}.")
    except TelemetryError:
        return value  # it is kept; only what was recorded before could not be closed
    except Exception as error:
        swallow(error)
    return value


def _accept(home: ProjectPaths) -> None:
    rules = list(policy.records(home))
    stands = any(rule.verdict == policy.GRANT for rule in rules)
    if stands and not any(rule.verdict == policy.DENY for rule in rules):
        return
    # What the tool declares is known here, so the yes covers just that.
    changes.grant(home, method="flag", patience=PATIENCE_SECONDS)


def _refuse() -> None:
    try:
        home = changes.paths_of()
    except ConsentError:
        cache.deny_in_process()
        raise
    changes.deny(home, method="flag", patience=PATIENCE_SECONDS)


def _say(sentence: str) -> None:
    app = settings.current().app
    plain = f"{app}: {sentence} Nothing is recorded in this run.\n"
    if sys.stderr is not None:
        sys.stderr.write(plain.encode("ascii", "backslashreplace").decode("ascii"))
