"""One operation in a process of its own, for faults to be injected into: `operate.py NAME`.

Prints what was acknowledged and what was raised; between the two marks lies the operation.
"""

# Everything that the operation may need is loaded before it: only its own calls are counted.
import errno  # noqa: F401
import fcntl  # noqa: F401
import json
import os
import sys
import unicodedata  # noqa: F401
from datetime import date

from telemetry_kit import (
    control,
    decisions,
    grants,
    notice,
    settings,
    track_role_event,
)
from telemetry_kit.errors import TelemetryError
from telemetry_kit.journal import archive, lease, reader, upkeep  # noqa: F401
from telemetry_kit.line import encode

MARK = b"mark\n"
LINE = (
    '{{"schema_version":"1.0","event_id":"{}","event_type":"role.selected",'
    '"timestamp":"{}T00:00:00Z","source":"api"}}\n'
)


def record() -> object:
    """Three events through the front door."""
    found = [track_role_event("role.selected", role="dev") for _ in range(3)]
    return {"acknowledged": [r["event_id"] for r in found if r is not None]}


def seal() -> object:
    """Lines until the log is full, which seals it, and two more."""
    journal = lease.Journal(control.home_of(), lambda: True, seal_events=12)
    day = grants.today()
    done = []
    for number in range(12):
        name = f"5ea1{number:012x}"
        for _ in range(3):
            try:
                if journal.append(LINE.format(name, day).encode()):
                    done.append(name)
                    break
            except TelemetryError:
                break
    journal.close()
    return {"acknowledged": done}


def pack() -> object:
    """Maintenance, as each command does it."""
    done = archive.maintain(control.home_of(), 90, grants.today())
    return {"survivors": done.survivors}


def clear() -> object:
    """Everything goes."""
    return {"survivors": control.clear(control.home_of())}


def thin() -> object:
    """A part goes: what `clear --before` does."""
    limit = date.today().isoformat()
    return {"survivors": archive.rewrite(control.home_of(), archive.before(limit), limit).survivors}


def revoke() -> object:
    """The user says no."""
    control.disable_telemetry()
    return {}


def main() -> None:
    step = {f.__name__: f for f in (record, seal, pack, clear, thin, revoke)}[sys.argv[1]]
    settings.current()
    encode({})
    assert decisions
    assert notice
    tell = os.dup(1)
    os.write(tell, MARK)
    try:
        found = step()
    except TelemetryError as error:
        found = {"raised": type(error).__name__}
    os.write(tell, MARK)
    os.write(tell, json.dumps(found).encode() + b"\n")


main()
