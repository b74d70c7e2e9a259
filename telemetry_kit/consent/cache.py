"""Is recording on, here and now? The decision that events share for 20 ms.

It asks consent and keeps the answer for 20 ms, or until the environment changes. If recording
is off, nothing is loaded, opened or made for the program.
"""

from __future__ import annotations

import os
from time import monotonic, time

from telemetry_kit import settings
from telemetry_kit._runtime import FRESH_SECONDS, SUPPORTED, UNSUPPORTED, runtime
from telemetry_kit.consent.policy import DENY, Decision, Rule, decide
from telemetry_kit.errors import Off
from telemetry_kit.paths import ProjectPaths, find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_MAX_PLACES = 64
_getcwd = os.getcwd


class Switches:
    """The variables that are looked at for every event.

    One that comes or goes is noticed at the next event, and so is a switch that is flipped;
    another variable that is there and changes its value, within 20 ms.

    Args:
        environ: the environment.
        prefix: of the app's own variables.
    """

    __slots__ = ("_count", "_names", "_table", "_values")

    def __init__(self, environ: Mapping[str, str], prefix: str) -> None:
        names = ("DO_NOT_TRACK", "TELEMETRY_KIT_DISABLED", f"{prefix}_TELEMETRY_DISABLED", "CI")
        # The table behind os.environ, where there is one: this is asked for every event.
        self._table: Mapping[Any, object] = getattr(environ, "_data", environ)
        self._names: tuple[Any, ...] = names
        if self._table is not environ:
            self._names = tuple(os.fsencode(name) for name in names)
        self._count = len(self._table)
        self._values = self.values()

    def values(self) -> list[object]:
        """What they say now; empty where none is set."""
        table = self._table
        if table.keys().isdisjoint(self._names):
            return []
        return [table.get(name) for name in self._names]

    def are_unchanged(self) -> bool:
        """Whether they say what they said when this was made, and no variable came or went."""
        return len(self._table) == self._count and self.values() == self._values


class CachedDecision:
    """What the gate found for one place.

    Args:
        home: the place.
        decision: consent's answer.
        switches: the variables that are looked at for every event.
        settings_generation: which settings it was made under.
        fresh_until: when to ask again, in monotonic seconds.
    """

    __slots__ = (
        "allowed",
        "decision",
        "fresh_until",
        "home",
        "settings_generation",
        "recorder",
        "switches",
    )

    def __init__(
        self,
        home: ProjectPaths,
        decision: Decision,
        switches: Switches,
        settings_generation: int,
        fresh_until: float,
    ) -> None:
        self.home = home
        self.decision = decision
        self.allowed = decision.allowed
        # What the chain worked out under this verdict; it goes when the verdict goes.
        self.recorder: Any = None
        self.switches = switches
        self.settings_generation = settings_generation
        self.fresh_until = fresh_until


# By directory: a program that names another app is of another generation of the settings.
_decisions: dict[str, CachedDecision] = {}
# A no that could not be written down: it holds for as long as this process lives.
_held = False


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
    """Ask everything anew at the next event: a decision was just made in this process."""
    runtime.off_until = 0.0
    _decisions.clear()


def deny_in_process() -> None:
    """Record nothing more in this process: the user said no, and that could not be kept."""
    global _held
    _held = True
    invalidate()


def is_denied_in_process() -> bool:
    """Whether a no is in force that this process alone knows of."""
    return _held


def lookup(start: str | None = None) -> CachedDecision:
    """The gate's answer for a directory, at most 20 ms old.

    Args:
        start: a directory inside the project; None for the working directory.

    Raises:
        Refused: there is no such place.
    """
    try:
        place = _getcwd() if start is None else start
    except OSError:
        place = ""
    known = _decisions.get(place)
    if (
        known is not None
        and known.settings_generation == settings.generation()
        and runtime.clock() < known.fresh_until
        and known.switches.are_unchanged()
    ):
        return known
    return _ask(start, place)


def is_open(start: str | None = None) -> bool:
    """Whether an event from here would be recorded; never raises."""
    if runtime.captured:
        return True
    try:
        return lookup(start).decision.allowed
    except Exception:
        return False


def _ask(start: str | None, place: str) -> CachedDecision:
    if not SUPPORTED:
        raise Off(UNSUPPORTED)
    now = runtime.clock()
    generation = settings.generation()
    asked = settings.current()
    switches = Switches(runtime.environ, asked.prefix)
    home = find(asked.app, start, runtime.environ)
    decision = _held_back() if _held else decide(home, runtime.environ)
    if not decision.allowed and decision.rule.everywhere:
        runtime.off_until = now + FRESH_SECONDS
    if len(_decisions) >= _MAX_PLACES:
        _decisions.clear()
    found = _decisions[place] = CachedDecision(
        home, decision, switches, generation, now + FRESH_SECONDS
    )
    return found


def _held_back() -> Decision:
    says = "you said no in this run, and that could not be written down"
    return Decision(False, Rule("user", "this process", None, DENY, says, everywhere=True))
