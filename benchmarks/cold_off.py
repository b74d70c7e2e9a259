"""Off, cold: a program with twenty decorated functions against the same program without us."""

import functools
from pathlib import Path

from benchmarks.pairs import ratios, rounds
from benchmarks.place import Place, program, source, without

CONFIGURE = """
from telemetry_kit import configure

configure(app="flowspec", commands=["/flow:implement"], agents=["backend-engineer"])
"""


def measure(folder: Path, pairs: int) -> dict[str, list[float]]:
    """Return ratios for a user without a decision, with a denial, and with DO_NOT_TRACK."""
    text = source("tool")
    ours = program(folder / "bin", "tool", "tool")
    plain = program(folder / "bin", "tool", "tool_plain", without(text))
    configured = program(folder / "bin", "tool", "tool_configured", text + CONFIGURE)
    undecided = Place(folder / "undecided")
    places = {
        "undecided": undecided,
        "denied": Place(folder / "denied", "no"),
        # The most expensive veto: there is a grant, so everything is checked.
        "do_not_track": Place(folder / "vetoed", "yes", {"DO_NOT_TRACK": "1"}),
    }
    processes = {"plain": functools.partial(undecided.seconds, plain)}
    processes |= {name: functools.partial(p.seconds, ours) for name, p in places.items()}
    processes["configured"] = functools.partial(undecided.seconds, configured)
    found = rounds(processes, pairs)
    for name, place in places.items():
        if (place.project / ".flowspec").exists():
            raise RuntimeError(f"off ({name}), and yet something was made in the project")
    return {f"off.{name}": ratios(found, name, "plain") for name in [*places, "configured"]}
