"""Every error that the library raises, as one tree.

At run time none of them is raised into a host program. Only mistakes in the host's own code
(at decoration, in `configure()`) and in a command line raise.

    TelemetryError
    |-- Refused                    an event is not recorded: control flow inside the pipeline
    |   `-- Off                    because consent is not given, or is denied
    |-- UnknownEventError          ValueError: no such event type
    |-- ConfigurationError         ValueError: `configure()` was given an unusable value
    |-- DecorationError            TypeError: this object cannot be decorated like that
    |-- KeyUnavailableError        no usable key, so no pseudonym and no event
    |-- ConsentError               the consent record cannot be read or written
    `-- JournalError               the log cannot be read, sealed or deleted
"""

from __future__ import annotations

import os


class TelemetryError(Exception):
    """The root of the tree: catch it to catch every error of this library."""


class Refused(TelemetryError):  # noqa: N818 - it is an answer, not a failure
    """This event is not recorded, and that is how it should be.

    Args:
        reason: one short sentence for `status` and `doctor`; never host data.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Stale(Refused):
    """The log was sealed, cleared or replaced: consent and key are to be asked again."""


class Off(Refused):
    """Recording is off here; nothing is wrong."""


class UnknownEventError(TelemetryError, ValueError):
    """An event type that the catalog does not hold.

    Args:
        name: what was given.
        nearest: the valid names closest to it, best first.
    """

    def __init__(self, name: str, nearest: tuple[str, ...]) -> None:
        hint = " or ".join(repr(n) for n in nearest)
        super().__init__(f"unknown event {name!r}: use {hint}")
        self.name = name
        self.nearest = nearest


class ConfigurationError(TelemetryError, ValueError):
    """A declaration of the host that cannot be kept; the message says which and what to write."""


class DecorationError(TelemetryError, TypeError):
    """An object that cannot be decorated this way; the message says what to do instead."""


class KeyUnavailableError(TelemetryError):
    """There is no usable key: nothing is hashed, so nothing is written.

    Args:
        reason: what is wrong with the key file.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ConsentError(TelemetryError):
    """The consent record could not be read or written; nothing was decided."""


class JournalError(TelemetryError):
    """Stored events could not be read, sealed or deleted; the message says what survived."""


def under_pytest() -> bool:
    """Whether this process runs tests, where internal errors are raised instead of swallowed."""
    return "PYTEST_CURRENT_TEST" in os.environ


def swallow(error: Exception) -> None:
    """Take an internal error so that the host never sees it.

    Args:
        error: the exception caught at the border to the host.

    Raises:
        Exception: the same error, when a test is running, so that bugs surface in CI.
    """
    if under_pytest():
        raise error
