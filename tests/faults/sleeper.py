"""A program that sleeps between its look at the log and its write: `sleeper.py DAY`.

It says `looked` when it sleeps, and goes on when it is told to; then it records once more.
"""

import json
import os
import sys

from telemetry_kit import configure
from telemetry_kit.consent.changes import paths_of
from telemetry_kit.storage import rotation, writer  # noqa: F401
from telemetry_kit.storage.writer import LogWriter

configure(app="flowspec")

LINE = (
    '{{"schema_version":"1.0","event_id":"{:016x}","event_type":"role.selected",'
    '"timestamp":"{}T00:00:00Z"}}\n'
)


def append(journal: LogWriter, number: int, day: str) -> None:
    while not journal.append(LINE.format(number, day).encode()):
        pass


def main() -> None:
    day = sys.argv[1]
    journal = LogWriter(paths_of(), lambda: True, lambda: 0.0)
    append(journal, 1, day)

    def asleep(fd: int, line: bytes) -> int:
        writer._write = os.write
        print("looked", flush=True)
        sys.stdin.readline()
        return os.write(fd, line)

    writer._write = asleep
    append(journal, 2, day)
    append(journal, 3, day)
    print(json.dumps([f"{number:016x}" for number in (1, 2, 3)]))


main()
sys.exit(7)
