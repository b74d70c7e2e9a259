"""`telemetry-kit hook`, the whole process, against `record`, and with a payload of 1 MB."""

import functools
import json
import sys
from pathlib import Path

from benchmarks.cold_on import BARE, expect
from benchmarks.cold_record import ARGUMENTS
from benchmarks.pairs import WARM_UP, ratios, rounds
from benchmarks.place import Place

MODULE = [sys.executable, "-m", "telemetry_kit", "--app", "flowspec"]
# As Cursor sends it: an end without a start, so that all processes do the same.
PAYLOAD = {
    "conversation_id": "5f0c6b57-5f0e-4a53-9a9a-0a7a54a8c8f1",
    "hook_event_name": "subagentStop",
    "cursor_version": "2.4.0",
    "subagent_type": "backend-engineer",
    "status": "completed",
}
# An answer of one text, and one of many parts, as tools return them.
ANSWERS = {
    "text": f"{'All tests of the package pass. ':64}\n" * 16_000,
    "parts": [{"line": n, "text": "passed", "is_new": True} for n in range(20_000)],
}


def measure(folder: Path, pairs: int) -> dict[str, list[float]]:
    """Return ratios for a small payload, and for two of 1 MB."""
    place = Place(folder / "on", "yes")
    hook = [*MODULE, "hook", "cursor", "subagentStop"]
    payloads = {"small": PAYLOAD}
    payloads |= {name: {**PAYLOAD, "summary": answer} for name, answer in ANSWERS.items()}
    processes = {
        "bare": functools.partial(place.seconds, BARE),
        "record": functools.partial(place.seconds, [*MODULE, *ARGUMENTS.split()]),
    }
    for name, payload in payloads.items():
        file = folder / name
        file.write_text(json.dumps(payload))
        processes[name] = functools.partial(place.seconds, hook, str(file))
    found = rounds(processes, pairs)
    expect(place, (1 + len(payloads)) * (WARM_UP + pairs))
    return {
        "hook.bare": ratios(found, "small", "bare"),
        "hook.record": ratios(found, "small", "record"),
        **{f"hook.{name}": ratios(found, name, "small") for name in ANSWERS},
    }
