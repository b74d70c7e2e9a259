"""On, cold: a command that records three events against the same command without us."""

import functools
import sys
from pathlib import Path

from benchmarks.pairs import WARM_UP, added, added_ms, rounds
from benchmarks.place import Place, program, source, without

BARE = [sys.executable, "-c", "pass"]
EVENTS = 3


def measure(folder: Path, pairs: int) -> dict[str, list[float]]:
    """Return the added time, in bare interpreters and in milliseconds."""
    text = source("session")
    place = Place(folder / "on", "yes")
    commands = {
        "bare": BARE,
        "plain": program(folder / "bin", "session", "session_plain", without(text)),
        "ours": program(folder / "bin", "session", "session"),
    }
    found = rounds({n: functools.partial(place.seconds, c) for n, c in commands.items()}, pairs)
    expect(place, EVENTS * (WARM_UP + pairs))
    return {
        "on.added": added(found, "ours", "plain", "bare"),
        "on.added_ms": added_ms(found, "ours", "plain"),
    }


def expect(place: Place, events: int) -> None:
    """Check that the measured programs recorded their events.

    Raises:
        RuntimeError: the log has more or fewer lines than events.
    """
    found = place.events()
    if found != events:
        raise RuntimeError(f"{events} events were measured, {found} are on disk")
