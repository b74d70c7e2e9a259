"""The consent decision for a directory, cached for 20 ms.

It is decided anew after 20 ms, or when the environment or the settings change. If recording is
off, nothing is loaded, opened or created.
"""

from __future__ import annotations

import os
from time import monotonic, time

from telemetry_kit import settings
from telemetry_kit._runtime import FRESH_SECONDS, SUPPORTED, UNSUPPORTED, runtime
from telemetry_kit.consent.policy import DENY, Decision, Rule, decide
from telemetry_kit.errors import Off

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from telemetry_kit.paths import ProjectPaths

_MAX_DECISIONS = 64
_getcwd = os.getcwd


class Switches:
    """The variables that deny, compared at every event.

    A variable that is added or removed is noticed at the next event, and so is a change of one of
    these. A change of another variable is noticed within 20 ms.

    Args:
        environ: the environment variables.
        prefix: of the app's own variables.
    """

    __slots__ = ("_count", "_names", "_table", "_values")

    def __init__(self, environ: Mapping[str, str], prefix: str) -> None:
        names = ("DO_NOT_TRACK", "TELEMETRY_KIT_DISABLED", f"{prefix}_TELEMETRY_DISABLED", "CI")
        # `os.environ` encodes names at each look-up. Its table has them encoded.
        self._table: Mapping[Any, object] = getattr(environ, "_data", environ)
        self._names: tuple[Any, ...] = names
        if self._table is not environ:
            self._names = tuple(os.fsencode(name) for name in names)
        self._count = len(self._table)
        self._values = self.values()

    def values(self) -> list[object]:
        """The values now; empty if no variable is set."""
        table = self._table
        if table.keys().isdisjoint(self._names):
            return []
        return [table.get(name) for name in self._names]

    def are_unchanged(self) -> bool:
        """Whether no value has changed, and no variable was added or removed."""
        return len(self._table) == self._count and self.values() == self._values


class CachedDecision:
    """The decision for one directory, and what it depends on.

    Args:
        paths: the project's paths.
        decision: whether recording is on.
        switches: the variables that deny.
        settings_generation: the settings in use.
        fresh_until: when to decide again, in monotonic seconds.
    """

    __slots__ = (
        *("allowed", "decision", "fresh_until", "paths", "recorder", "settings_generation"),
        "switches",
    )

    def __init__(
        self,
        paths: ProjectPaths,
        decision: Decision,
        switches: Switches,
        settings_generation: int,
        fresh_until: float,
    ) -> None:
        self.paths = paths
        self.decision = decision
        self.allowed = decision.allowed
        # The recorder that the pipeline made for this decision.
        self.recorder: Any = None
        self.switches = switches
        self.settings_generation = settings_generation
        self.fresh_until = fresh_until


# By directory. A change of the app changes the generation of the settings.
_decisions: dict[str, CachedDecision] = {}


class override_runtime:  # noqa: N801 - called as a function, like `contextlib.suppress`
    """Replace environment, clocks and randomness inside a `with` block, for tests.

    Args:
        environ: the environment variables.
        clock: returns monotonic seconds.
        now: returns seconds since the epoch.
        random: returns a number of random bytes.
    """

    __slots__ = ("_former", "_given")

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = monotonic,
        now: Callable[[], float] = time,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._given = (environ, clock, now, random)

    def __enter__(self) -> None:
        self._former = (runtime.environ, runtime.clock, runtime.now, runtime.random)
        runtime.environ, runtime.clock, runtime.now, runtime.random = self._given
        invalidate()

    def __exit__(self, *_: object) -> None:
        runtime.environ, runtime.clock, runtime.now, runtime.random = self._former
        invalidate()


def invalidate() -> None:
    """Decide again at the next event."""
    runtime.off_until = 0.0
    _decisions.clear()


def deny_in_process() -> None:
    """Stop recording in this process: the user denied consent, and that could not be saved."""
    runtime.is_denied = True
    invalidate()


def lookup(start: str | None = None) -> CachedDecision:
    """The decision for a directory (by default the working one), at most 20 ms old.

    Raises:
        Refused: there is no such directory.
    """
    try:
        directory = _getcwd() if start is None else start
    except OSError:
        directory = ""
    known = _decisions.get(directory)
    if (
        known is not None
        and known.settings_generation == settings.generation()
        and runtime.clock() < known.fresh_until
        and known.switches.are_unchanged()
    ):
        return known
    return _decide_anew(start, directory)


def _decide_anew(start: str | None, directory: str) -> CachedDecision:
    if not SUPPORTED:
        raise Off(UNSUPPORTED)
    fresh_until = runtime.clock() + FRESH_SECONDS
    generation = settings.generation()
    now = settings.current()
    switches = Switches(runtime.environ, now.prefix)
    paths = now.paths(start)
    if runtime.is_denied:
        says = "you denied consent in this run, and the denial could not be saved"
        rule = Rule("user", "this process", None, DENY, says, everywhere=True)
        decision = Decision(False, rule)
    else:
        decision = decide(paths, runtime.environ)
    if not decision.allowed and decision.rule.everywhere:
        runtime.off_until = fresh_until
    if len(_decisions) >= _MAX_DECISIONS:
        _decisions.clear()
    _decisions[directory] = CachedDecision(paths, decision, switches, generation, fresh_until)
    return _decisions[directory]


def is_allowed(start: str | None = None) -> bool:
    """Whether consent allows an event from a directory to be recorded; never raises."""
    if runtime.captured:
        return True
    try:
        return lookup(start).decision.allowed
    except Exception:
        return False
