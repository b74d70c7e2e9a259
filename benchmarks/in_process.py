"""Ratios inside one process: calls while recording is off, and events and spans while it is on."""

from importlib.util import find_spec
from pathlib import Path

from benchmarks import hot
from benchmarks.pairs import Added, Ratios
from benchmarks.place import Place


def calls(folder: Path, pairs: int) -> dict[str, list[float]]:
    """Compare a decorated call with a closure that passes through, while recording is off."""
    count = hot.CALLS if pairs >= 15 else 20
    off = hot.run(Place(folder / "undecided"), "calls", pairs, count)
    veto = Place(folder / "vetoed", "yes", {"DO_NOT_TRACK": "1"})
    vetoed = hot.run(veto, "calls", pairs, count)
    denied = hot.run(Place(folder / "denied", "no"), "calls", pairs, count)
    return {
        "calls.function": over(off, "ours", "closure"),
        "calls.method": over(off, "ours_method", "closure_method"),
        "calls.veto": over(vetoed, "ours", "closure"),
        "calls.denied": over(denied, "ours", "closure"),
        "calls.wrapt_function": over(off, "wrapt", "closure"),
        "calls.wrapt_method": over(off, "wrapt_method", "closure_method"),
    }


def events(folder: Path, pairs: int) -> dict[str, list[float]]:
    """Compare an event with a bare write of the same line, and with a line of logging."""
    full = pairs >= 15
    place = Place(folder / "on", "yes")
    # Many short rounds: some of them run without other load on the machine.
    found = hot.run(place, "events", 10 * pairs, hot.WRITES if full else 20)
    slow = hot.run(Place(folder / "p99", "yes"), "p99", 1, hot.EVENTS if full else 200)
    alone = hot.run(Place(folder / "pause", "yes"), "pause", 1, hot.PAUSES if full else 10)
    return {
        "events.api": over(found, "api", "bare"),
        "events.decorated": over(found, "decorated", "bare"),
        "events.standard": over(found, "api", "standard"),
        "events.logging": over(found, "api", "logging"),
        "events.warm_door": over(found, "warm_door", "bare"),
        "events.p99_ms": [slow["p99"][0] * 1e3],
        "events.pause_ms": [seconds * 1e3 for seconds in alone["pause"]],
    }


def spans(folder: Path, pairs: int) -> dict[str, list[float]]:
    """Compare our span processor with one that does nothing, if OpenTelemetry is installed."""
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        return {}
    count = hot.SPANS if pairs >= 15 else 20
    # Many short rounds: some of them run without other load on the machine.
    found = hot.run(Place(folder / "on", "yes"), "spans", 10 * pairs, count)
    return {
        "spans.other": over(found, "ours", "nothing"),
        "spans.added_us": Added(found["ours_alone"], found["nothing_alone"], 1e-6),
    }


def over(found: dict[str, list[float]], one: str, other: str) -> Ratios:
    """Return the ratios of the times of `one` to those of `other`."""
    return Ratios(found[one], found[other])
