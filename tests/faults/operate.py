"""One operation in a process of its own, for faults to be injected into: `operate.py NAME DAY`.

`thin` keeps all that is of DAY. Prints what was raised or told; between the two marks lies the
operation. What was acknowledged stands in a mapped file, so that it outlives whoever is killed, and
takes no system call.
"""

# Everything that the operation may need is loaded before it: only its own calls are counted.
import errno  # noqa: F401
import fcntl
import json
import mmap
import os
import re
import sys
import unicodedata  # noqa: F401

from telemetry_kit import configure, settings, track_role_event
from telemetry_kit.consent import changes, decision, history, notice, transaction
from telemetry_kit.errors import TelemetryError
from telemetry_kit.schema.encoding import encode
from telemetry_kit.storage import compression, maintenance, reader, rotation, writer  # noqa: F401

configure(app="flowspec")

MARK = b"mark\n"
GOES = re.compile(rb'"event_id":"000100000000000[0-2]"').search
LINE = (
    '{{"schema_version":"1.0","event_id":"{}","event_type":"role.selected",'
    '"timestamp":"{}T00:00:00Z","source":"api"}}\n'
)


class Acknowledged:
    """The ids of acknowledged events, in a file beside the project."""

    def __init__(self) -> None:
        fd = os.open("../acknowledged", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.ftruncate(fd, mmap.PAGESIZE)
        self.map = mmap.mmap(fd, mmap.PAGESIZE)
        self.at = 0

    def add(self, name: str) -> None:
        self.map[self.at : self.at + 16] = name.encode()
        self.at += 16


def record() -> object:
    """Three events through the front door."""
    for _ in range(3):
        found = track_role_event("role.selected", role="dev")
        if found is not None:
            acknowledged.add(found["event_id"])
    return {}


def seal() -> object:
    """Lines until the log is full, which seals it, and two more."""
    journal = writer.LogWriter(changes.paths_of(), lambda: True, seal_events=12)
    day = decision.today()
    for number in range(12):
        name = f"5ea1{number:012x}"
        for _ in range(3):
            try:
                if journal.append(LINE.format(name, day).encode()):
                    acknowledged.add(name)
                    break
            except TelemetryError:
                break
    journal.close()
    return {}


def pack() -> object:
    """Maintenance, as each command does it."""
    done = maintenance.maintain(changes.paths_of(), 90, decision.today())
    return {"failures": done.failures}


def clear() -> object:
    """Everything goes."""
    return {"failures": changes.clear(changes.paths_of())}


def thin() -> object:
    """A part goes: what `clear --before` does."""
    limit = sys.argv[2]
    return {
        "failures": maintenance.rewrite(
            changes.paths_of(), maintenance.keep_since(limit), limit
        ).failures
    }


def blank() -> object:
    """The same for three lines of a sealed segment that a program holds open."""
    done = maintenance.rewrite(changes.paths_of(), lambda line: not GOES(line), decision.today())
    return {"failures": done.failures, "lines": done.lines}


def revoke() -> object:
    """The user says no."""
    changes.disable_telemetry()
    return {}


def hold() -> int:
    """The lease of a program that has not noticed yet that the log was sealed."""
    folder = changes.paths_of().folder
    (name,) = (n for n in os.listdir(folder) if n.startswith("telemetry-") and n.endswith("jsonl"))
    fd = os.open(f"{folder}/{name}", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def main() -> None:
    steps = (record, seal, pack, clear, thin, blank, revoke)
    step = {f.__name__: f for f in steps}[sys.argv[1]]
    if step is blank:
        hold()
    settings.current()
    encode({})
    compression.find(compression.READING)
    assert history
    assert transaction
    assert notice
    tell = os.dup(1)
    os.write(tell, MARK)
    try:
        found = step()
    except TelemetryError as error:
        found = {"raised": type(error).__name__}
    os.write(tell, MARK)
    os.write(tell, json.dumps(found).encode() + b"\n")


acknowledged = Acknowledged()
main()
sys.exit(7)
