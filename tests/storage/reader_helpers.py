"""Shared by the tests of this module."""

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
    """A record as the chain writes it; its id is its number."""
    number = next(_numbers) if number is None else number
    given = {
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
    return {name: given[name] for name in catalog.ORDER if name in given}


def line(number=None, **fields):
    return encode(event(number, **fields))


def put(home, data, name="telemetry.jsonl"):
    path = f"{home.folder}/{name}"
    with open(path, "wb") as file:
        file.write(data)
    return path


def read(home):
    """Everything, with the problems."""
    problems = ReadReport()
    return list(reader.read(home, problems)), problems


def ids(events):
    return [int(found["event_id"], 16) for found in events]


def report(problems, name="telemetry.jsonl"):
    return problems.files[name]


def zstd_packed(data, level=3):
    named = zstd.CompressionParameter
    return zstd.compress(data, options={named.compression_level: level, named.checksum_flag: 1})


PACKED = {"gz": lambda data: gzip.compress(data, mtime=0), "zst": zstd_packed}
