"""`install()`, cold: whole programs with Typer, Click and argparse against the same without us."""

import functools
from pathlib import Path

from benchmarks.cold_on import BARE, expect
from benchmarks.pairs import WARM_UP, added, ratios, rounds
from benchmarks.place import Place, program, source, without

LIBRARIES = ("typer", "click", "argparse")
EVENTS = 2


def measure(folder: Path, pairs: int) -> dict[str, list[float]]:
    """Return ratios for a user without a decision, and the time added by a recorded command."""
    figures: dict[str, list[float]] = {}
    for library in LIBRARIES:
        host = f"{library}_program"
        off, on = Place(folder / f"{library}-off"), Place(folder / f"{library}-on", "yes")
        ours = program(folder / "bin", host, host)
        plain = program(folder / "bin", host, f"{host}_plain", without(source(host)))
        processes = {
            "bare": functools.partial(off.seconds, BARE),
            "plain": functools.partial(off.seconds, plain),
            "off": functools.partial(off.seconds, ours),
            "on": functools.partial(on.seconds, ours),
        }
        found = rounds(processes, pairs)
        if (off.project / ".flowspec").exists():
            raise RuntimeError(f"install ({library}), off, and yet something was made")
        expect(on, EVENTS * (WARM_UP + pairs))
        figures[f"install.{library}_off"] = ratios(found, "off", "plain")
        figures[f"install.{library}_on"] = added(found, "on", "plain", "bare")
    return figures
