"""Run one operation in its own process, into which faults are injected: `operate.py NAME DAY`.

It prints the result or the error. The operation runs between the two marks. The acknowledged ids
are in a mapped file, which survives a kill and takes no system call.
"""

# All imports are done before the operation, so that only its own calls are counted.
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
IS_REMOVED = re.compile(rb'"event_id":"000100000000000[0-2]"').search
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
        """Add the id of one event."""
        self.map[self.at : self.at + 16] = name.encode()
        self.at += 16


def record() -> object:
    """Record three events by the public API."""
    for _ in range(3):
        event = track_role_event("role.selected", role="dev")
        if event is not None:
            acknowledged.add(event["event_id"])
    return {}


def seal() -> object:
    """Append lines until the full log is sealed, and two more."""
    log_writer = writer.LogWriter(changes.paths_of(), lambda: True, seal_events=12)
    day = decision.today()
    for number in range(12):
        name = f"5ea1{number:012x}"
        for _ in range(3):
            try:
                if log_writer.append(LINE.format(name, day).encode()):
                    acknowledged.add(name)
                    break
            except TelemetryError:
                break
    log_writer.close()
    return {}


def pack() -> object:
    """Run the maintenance, as each command does."""
    done = maintenance.maintain(changes.paths_of(), 90, decision.today())
    return {"failures": done.failures}


def clear() -> object:
    """Delete all events."""
    return {"failures": changes.clear(changes.paths_of())}


def thin() -> object:
    """Remove the events before a day, as `clear --before` does."""
    limit = sys.argv[2]
    return {
        "failures": maintenance.rewrite(
            changes.paths_of(), maintenance.keep_since(limit), limit
        ).failures
    }


def blank() -> object:
    """Remove three lines of a sealed segment that a program has open."""
    done = maintenance.rewrite(
        changes.paths_of(), lambda line: not IS_REMOVED(line), decision.today()
    )
    return {"failures": done.failures, "lines": done.lines}


def revoke() -> object:
    """Revoke the consent."""
    changes.disable_telemetry()
    return {}


def take_lease() -> int:
    """Take the lease of a program that has not detected the seal."""
    folder = changes.paths_of().folder
    (name,) = (n for n in os.listdir(folder) if n.startswith("telemetry-") and n.endswith("jsonl"))
    fd = os.open(f"{folder}/{name}", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    return fd


def main() -> None:
    """Run the operation between the marks and print its result."""
    operations = (record, seal, pack, clear, thin, blank, revoke)
    operation = {f.__name__: f for f in operations}[sys.argv[1]]
    if operation is blank:
        take_lease()
    settings.current()
    encode({})
    compression.find(compression.READING)
    assert history
    assert transaction
    assert notice
    stdout = os.dup(1)
    os.write(stdout, MARK)
    try:
        result = operation()
    except TelemetryError as error:
        result = {"raised": type(error).__name__}
    os.write(stdout, MARK)
    os.write(stdout, json.dumps(result).encode() + b"\n")


acknowledged = Acknowledged()
main()
sys.exit(7)
