"""Helpers for the tests of `telemetry-kit export`."""

import csv
import io
import json
import os
import sqlite3

import pytest

from telemetry_kit.schema.encoding import encode

MANY = 120_000


def stored(number, **fields):
    """Return a stored event with this number and these fields."""
    return {
        "schema_version": "1.0",
        "event_id": f"{number:016x}",
        "event_type": "command.completed",
        "timestamp": "2026-11-22T10:20:30Z",
        "seq": number,
        "role": "dev",
        "command": "/dev:build",
        "outcome": "ok",
        "duration_ms": 64,
        **fields,
    }


def fill(place, *events):
    """Append events to the active log of the project."""
    place.log.parent.mkdir(mode=0o700, exist_ok=True)
    with place.log.open("ab") as log:
        log.writelines(encode(event) for event in events)
    place.log.chmod(0o600)


def files(place):
    """List all paths except the maintenance lock, which any command may create."""
    return [path for path in place.tree() if not path.endswith(".telemetry.lock")]


def export(place, *args, **options):
    """Run `telemetry-kit export` in the project."""
    return place.python("-m", "telemetry_kit", "export", *args, **options)


def ids(form, path):
    """Return the ids of the events in an export, in order."""
    data = path.read_bytes()
    if form == "jsonl":
        return [json.loads(line)["event_id"] for line in data.splitlines()]
    if form == "json":
        return [event["event_id"] for event in json.loads(data)]
    if form == "csv":
        rows = csv.DictReader(io.StringIO(data.decode(), newline=""))
        return [row["event_id"].removeprefix("id:") for row in rows]
    if form == "sqlite":
        with sqlite3.connect(path) as connection:
            found = [row[0] for row in connection.execute("select event_id from events")]
        connection.close()
        return found
    if form == "parquet":
        duckdb = pytest.importorskip("duckdb")
        sql = f"select event_id from read_parquet('{path}')"
        return [row[0] for row in duckdb.sql(sql).fetchall()]
    records = json.loads(data)["resourceLogs"][0]["scopeLogs"][0]["logRecords"]
    return [
        next(a["value"]["stringValue"] for a in r["attributes"] if a["key"] == "telemetry.event_id")
        for r in records
    ]


def other_files(place):
    """List the files of the project outside its log directory."""
    return sorted(name for name in os.listdir(place.root) if name != ".flowspec")


ENDED_BY_SIGNAL = """
import os, signal, sys, time
from telemetry_kit.cli import main
from telemetry_kit.cli.commands import export
real = export.Watched.__iter__

def ended(self):
    for portion in real(self):
        yield portion
        os.kill(os.getpid(), signal.{name})

export.Watched.__iter__ = ended
# A process inherits the signal setting. Under nohup, the signal is ignored.
signal.signal(signal.{name}, signal.{before})
sys.exit(main(["export", *sys.argv[1:]]))
"""
