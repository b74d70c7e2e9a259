"""Every error that the library raises, as one tree.

At run time the library raises none of them into a host program. It raises them for mistakes in
the host's own code (in a decoration or in `configure()`) and in a command line.

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
import sys


class TelemetryError(Exception):
    """The root of the tree: catch it to catch every error of this library."""


class Refused(TelemetryError):  # noqa: N818 - a result, not an error
    """This event is not recorded, and nothing is wrong.

    Args:
        reason: one short sentence for `status` and `doctor`; never host data.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Stale(Refused):
    """The log was sealed, cleared or replaced, so consent and key must be read again."""


class Off(Refused):
    """Recording is off here."""


class UnknownEventError(TelemetryError, ValueError):
    """An event type that the catalog does not contain.

    Args:
        name: the unknown name.
        nearest: the valid names closest to it, best first.
    """

    def __init__(self, name: str, nearest: tuple[str, ...]) -> None:
        hint = " or ".join(repr(n) for n in nearest)
        super().__init__(f"unknown event {name!r}: use {hint}")
        self.name = name
        self.nearest = nearest


class ConfigurationError(TelemetryError, ValueError):
    """An unusable declaration of the host; the message names it and the remedy."""


class DecorationError(TelemetryError, TypeError):
    """An object that cannot be decorated this way; the message names the remedy."""


class KeyUnavailableError(TelemetryError):
    """There is no usable key, so no name is hashed and no event is written.

    Args:
        reason: what is wrong with the key file.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ConsentError(TelemetryError):
    """The consent record could not be read or written; no decision has changed."""


class JournalError(TelemetryError):
    """Stored events could not be read, sealed or deleted; the message says which remain."""


def under_pytest() -> bool:
    """Whether this process runs tests, in which internal errors are raised."""
    return "PYTEST_CURRENT_TEST" in os.environ


def swallow(error: Exception) -> None:
    """Ignore an internal error in a host program; raise it in a test, so that CI finds bugs.

    What a signal handler of the host raised, a time-out for instance, is no internal error.
    """
    if under_pytest() or is_of_signal_handler(error):
        raise error


def is_of_signal_handler(error: BaseException) -> bool:
    """Whether a signal handler of the host raised an exception while code of ours ran."""
    signals = sys.modules.get("signal")
    if signals is None:
        return False
    handlers = [signals.getsignal(number) for number in signals.valid_signals()]
    functions = [getattr(handler, "__func__", handler) for handler in handlers]
    codes = [getattr(function, "__code__", None) for function in functions]
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False
