"""A program that is suspended between the check of the log and the write: `sleeper.py DAY`.

It prints `looked` when it is suspended, and continues after a line of input. Then it records once
more.
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


def append(log_writer: LogWriter, number: int, day: str) -> None:
    """Append one event, and retry after False."""
    while not log_writer.append(LINE.format(number, day).encode()):
        pass


def main() -> None:
    """Record three events and print their ids."""
    day = sys.argv[1]
    log_writer = LogWriter(paths_of(), lambda: True, lambda: 0.0)
    append(log_writer, 1, day)

    def write_after_input(fd: int, line: bytes) -> int:
        writer._write = os.write
        print("looked", flush=True)
        sys.stdin.readline()
        return os.write(fd, line)

    writer._write = write_after_input
    append(log_writer, 2, day)
    append(log_writer, 3, day)
    print(json.dumps([f"{number:016x}" for number in (1, 2, 3)]))


main()
sys.exit(7)
