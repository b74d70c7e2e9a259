"""`telemetry-kit record`, the whole process, against a bare interpreter."""

import functools
import sys
from pathlib import Path

from benchmarks.cold_on import BARE, expect
from benchmarks.pairs import WARM_UP, ratios, rounds
from benchmarks.place import Place

ARGUMENTS = "record agent.invoked --agent backend-engineer --role dev --command /flow:implement"


def measure(folder: Path, pairs: int) -> dict[str, list[float]]:
    """Return ratios for the installed script, if there is one, and for the module."""
    place = Place(folder / "on", "yes")
    arguments = ARGUMENTS.split()
    commands = {"module": [sys.executable, "-m", "telemetry_kit", *arguments]}
    script = Path(sys.executable).parent / "telemetry-kit"
    if script.exists():
        commands["script"] = [str(script), *arguments]
    processes = {n: functools.partial(place.seconds, c) for n, c in commands.items()}
    found = rounds({"bare": functools.partial(place.seconds, BARE), **processes}, pairs)
    expect(place, len(commands) * (WARM_UP + pairs))
    return {f"record.{name}": ratios(found, name, "bare") for name in commands}
