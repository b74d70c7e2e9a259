"""The gate that every event passes: is recording on, here and now?

It asks consent and remembers the answer for 20 ms, or until the environment changes. Nothing is
loaded, opened or made for a program in which the answer is no.
"""

from __future__ import annotations

import os

from telemetry_kit import settings
from telemetry_kit.consent import DENY, Decision, Rule, decide
from telemetry_kit.errors import Off
from telemetry_kit.home import Home, find
from telemetry_kit.latch import FRESH_SECONDS, SUPPORTED, UNSUPPORTED, World, latch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAX_PLACES = 64
_getcwd = os.getcwd


class Verdict:
    """What the gate found for one place.

    Args:
        home: the place.
        decision: consent's answer.
        environment: the values of the switches that are looked at for every event.
        settings_generation: which settings it was made under.
        fresh_until: when to ask again, in monotonic seconds.
    """

    __slots__ = (
        "allowed",
        "decision",
        "environment",
        "fresh_until",
        "home",
        "settings_generation",
        "standing",
    )

    def __init__(
        self,
        home: Home,
        decision: Decision,
        environment: tuple[object, ...],
        settings_generation: int,
        fresh_until: float,
    ) -> None:
        self.home = home
        self.decision = decision
        self.allowed = decision.allowed
        # What the chain worked out under this verdict; it goes when the verdict goes.
        self.standing: Any = None
        self.environment = environment
        self.settings_generation = settings_generation
        self.fresh_until = fresh_until


_verdicts: dict[tuple[str, str], Verdict] = {}
_names: tuple[str, tuple[str, ...], tuple[bytes, ...]] = ("", (), ())
# A no that could not be written down: it holds for as long as this process lives.
_held = False


class Elsewhere:
    """A context manager that puts another world in the place of this one."""

    __slots__ = ("_former", "_other")

    def __init__(self, other: World) -> None:
        self._other = other
        self._former = latch.world

    def __enter__(self) -> World:
        latch.world = self._other
        forget()
        return self._other

    def __exit__(self, *_: object) -> None:
        latch.world = self._former
        forget()


def forget() -> None:
    """Ask everything anew at the next event: a decision was just made in this process."""
    latch.until = 0.0
    _verdicts.clear()


def hold() -> None:
    """Record nothing more in this process: the user said no, and that could not be kept."""
    global _held
    _held = True
    forget()


def is_held() -> bool:
    """Whether a no is in force that this process alone knows of."""
    return _held


def verdict(start: str | None = None) -> Verdict:
    """The gate's answer for a directory, at most 20 ms old.

    Args:
        start: a directory inside the project; None for the working directory.

    Raises:
        Refused: there is no such place.
    """
    now = settings.current()
    try:
        place = _getcwd() if start is None else start
    except OSError:
        place = ""
    known = _verdicts.get((now.app, place))
    if (
        known is not None
        and latch.world.clock() < known.fresh_until
        and known.environment == _switches(now.prefix)
        and known.settings_generation == settings.generation()
    ):
        return known
    return _ask(now.app, start, place)


def is_open(start: str | None = None) -> bool:
    """Whether an event from here would be recorded; never raises."""
    if latch.captured:
        return True
    try:
        return verdict(start).decision.allowed
    except Exception:
        return False


def _ask(app: str, start: str | None, place: str) -> Verdict:
    if not SUPPORTED:
        raise Off(UNSUPPORTED)
    now = latch.world.clock()
    home = find(app, start, latch.world.environ)
    decision = _held_back() if _held else decide(home, latch.world.environ)
    if not decision.allowed and decision.rule.everywhere:
        latch.until = now + FRESH_SECONDS
    found = Verdict(
        home,
        decision,
        _switches(settings.current().prefix),
        settings.generation(),
        now + FRESH_SECONDS,
    )
    if len(_verdicts) >= _MAX_PLACES:
        _verdicts.clear()
    _verdicts[app, place] = found
    return found


def _held_back() -> Decision:
    says = "you said no in this run, and that could not be written down"
    return Decision(False, Rule("user", "this process", None, DENY, says, everywhere=True))


def _switches(prefix: str) -> tuple[object, ...]:
    """What the switches say, and how many variables there are.

    A variable that comes or goes is noticed at the next event, and so is a switch that is
    flipped; another variable that is there and changes its value, within 20 ms.
    """
    global _names
    if _names[0] != prefix:
        names = ("DO_NOT_TRACK", "TELEMETRY_KIT_DISABLED", f"{prefix}_TELEMETRY_DISABLED", "CI")
        _names = (prefix, names, tuple(os.fsencode(name) for name in names))
    environ = latch.world.environ
    # The table behind os.environ, where there is one: this runs for every event.
    table: Any = getattr(environ, "_data", environ)
    get = table.get
    one, two, three, four = _names[1] if table is environ else _names[2]
    return len(table), get(one), get(two), get(three), get(four)
