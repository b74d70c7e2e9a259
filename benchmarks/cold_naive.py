"""The naive program, cold: the same three events with wrapt and structlog, and their imports."""

import functools
import shutil
import sys
from pathlib import Path

from benchmarks.cold_on import BARE, EVENTS, expect
from benchmarks.pairs import WARM_UP, added, added_ms, ratios, rounds
from benchmarks.place import HERE, Place, program, source, without


def measure(folder: Path, pairs: int) -> dict[str, list[float]]:
    """Measure the added time of the naive program, and its ratio to ours."""
    text = source("session")
    binaries = folder / "bin"
    place = Place(folder / "on", "yes")
    apart = Place(folder / "naive")
    naive = program(
        binaries, "session", "session_naive", text.replace("telemetry_kit import", "naive import")
    )
    shutil.copy(HERE / "naive.py", binaries)
    commands = {
        "bare": (place, BARE),
        "plain": (place, program(binaries, "session", "session_plain", without(text))),
        "ours": (place, program(binaries, "session", "session")),
        "naive": (apart, naive),
        "wrapt": (place, [sys.executable, "-c", "import wrapt"]),
        "structlog": (place, [sys.executable, "-c", "import structlog"]),
    }
    processes = {n: functools.partial(p.seconds, c) for n, (p, c) in commands.items()}
    found = rounds(processes, pairs)
    for one in (place, apart):
        expect(one, EVENTS * (WARM_UP + pairs))
    return {
        "naive.added": added(found, "naive", "plain", "bare"),
        "naive.added_ms": added_ms(found, "naive", "plain"),
        "naive.times_ours": [
            (r["naive"] - r["plain"]) / max(r["ours"] - r["plain"], 1e-4) for r in found
        ],
        "naive.wrapt": ratios(found, "wrapt", "bare"),
        "naive.structlog": ratios(found, "structlog", "bare"),
    }
