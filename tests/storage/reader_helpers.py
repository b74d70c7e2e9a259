"""Events, log lines and segment files for the tests of the reader."""

import gzip
import itertools
import sys

from telemetry_kit.schema import catalog
from telemetry_kit.schema.encoding import encode
from telemetry_kit.storage import reader
from telemetry_kit.storage.segments import ReadReport

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


DAY = "2026-11-22"


_numbers = itertools.count(1)


def event(number=None, **fields):
    """Return an event in the field order of the pipeline, with its number as its id."""
    number = next(_numbers) if number is None else number
    fields_of_event = {
        "schema_version": "1.0",
        "event_id": f"{number:016x}",
        "event_type": "agent.completed",
        "timestamp": f"{DAY}T00:00:00Z",
        "seq": number,
        "role": "dev",
        "command": "/dev:build",
        "agent": "backend-engineer",
        "project_id": "h:0123456789ab",
        "session_id": "0123456789ab",
        "outcome": "ok",
        "duration_ms": 16,
        "source": "decorator",
        "key_epoch": 1,
        "context": {"requirements": 3, "share": 0.5, "first": True, "task": "h:0123456789ab"},
        **fields,
    }
    return {name: fields_of_event[name] for name in catalog.ORDER if name in fields_of_event}


def line(number=None, **fields):
    """Return an event as one line of the log."""
    return encode(event(number, **fields))


def write_file(home, data, name="telemetry.jsonl"):
    """Write these bytes to a file in the project directory and return its path."""
    path = f"{home.folder}/{name}"
    with open(path, "wb") as file:
        file.write(data)
    return path


def read(home):
    """Return all events, and the report of the problems."""
    problems = ReadReport()
    return list(reader.read(home, problems)), problems


def ids(events):
    """Return the numbers of these events."""
    return [int(found["event_id"], 16) for found in events]


def file_report(problems, name="telemetry.jsonl"):
    """Return the report of one file."""
    return problems.files[name]


def compress_zstd(data, level=3):
    """Return the data as one zstd frame with a checksum."""
    parameter = zstd.CompressionParameter
    return zstd.compress(
        data, options={parameter.compression_level: level, parameter.checksum_flag: 1}
    )


COMPRESS = {"gz": lambda data: gzip.compress(data, mtime=0), "zst": compress_zstd}
