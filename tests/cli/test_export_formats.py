"""The ending of a file selects the format, and other programs read the values of an export."""

import gzip
import json
import os

import pytest

from telemetry_kit.export.formats import FORMATS, format_of
from tests.cli.export_helpers import export, fill, ids, stored

SIGNATURES = {"parquet": b"PAR1", "sqlite": b"SQLite format 3", "csv": b"schema_version,"}


@pytest.mark.parametrize(
    ("name", "form"),
    [
        *(("out.csv", "csv"), ("OUT.CSV", "csv"), ("out.json", "json"), ("out.ndjson", "jsonl")),
        *(("out.db", "sqlite"), ("out", "jsonl"), (".out", "jsonl"), ("a.b/out", "jsonl")),
        *(("out.parquet", "parquet"), ("out.tar.csv", "csv")),
    ],
)
def test_the_ending_selects_the_format(undecided, name: str, form: str) -> None:
    """Without `--format`, the file has the format of its ending, and JSON Lines without one."""
    if form == "parquet":
        pytest.importorskip("duckdb")
    fill(undecided, stored(1), stored(2))
    (undecided.root / "a.b").mkdir()
    done = export(undecided, "-o", name)
    path = undecided.root / name

    assert (done.returncode, form) == (0, format_of(name).name), done.stderr
    assert path.read_bytes().startswith(SIGNATURES.get(form, b""))
    assert ids(form, path) == [f"{n:016x}" for n in (1, 2)]


def test_every_format_has_its_endings() -> None:
    """Each ending selects one format, and each format but that of OpenTelemetry has one."""
    endings = [ending for row in FORMATS.values() for ending in row.endings]

    assert len(endings) == len(set(endings))
    assert {form for form, row in FORMATS.items() if not row.endings} == {"otlp-json"}
    assert all(format_of(f"x{e}") is row for row in FORMATS.values() for e in row.endings)


@pytest.mark.parametrize("name", ["out.xlsx", "out.txt", "out.gz", "out.csv.zip", "out.v2"])
def test_an_unknown_ending(undecided, name: str) -> None:
    """An ending that names no format asks for `--format`, which is then right."""
    fill(undecided, stored(1))
    done = export(undecided, "-o", name)

    assert (done.returncode, done.stdout, os.path.exists(name)) == (2, "", False)
    assert done.stderr == (
        f"telemetry-kit: -o {name}: the ending of the file names no format: "
        "add --format with one of json, jsonl, csv, parquet, sqlite, otlp-json\n"
    )
    assert export(undecided, "-o", name, "--format", "json").returncode == 0


def test_the_option_decides_against_the_ending(undecided) -> None:
    """With `--format`, the ending is free."""
    fill(undecided, stored(1))
    done = export(undecided, "-o", "out.csv", "--format", "json")

    assert done.returncode == 0
    assert ids("json", undecided.root / "out.csv") == ["0000000000000001"]


def test_a_compressed_export(undecided) -> None:
    """The ending `.gz` compresses a text format, always to the same bytes, and no other one."""
    fill(undecided, stored(1), stored(2))
    first = export(undecided, "-o", "out.jsonl.gz")
    export(undecided, "-o", "again.GZ", "--format", "jsonl")
    packed = (undecided.root / "out.jsonl.gz").read_bytes()

    assert first.returncode == 0, first.stderr
    assert gzip.decompress(packed) == export(undecided).stdout.encode()
    assert packed == (undecided.root / "again.GZ").read_bytes()
    refused = export(undecided, "-o", "out.db.gz")
    assert (refused.returncode, "leave out .gz" in refused.stderr) == (2, True)


NUMBER_LIKE = ("5e8446348487", "004611686018", "123456789012", "1e9999999999")


def test_ids_in_csv_are_text(undecided) -> None:
    """An id that looks like a number is text for a reader of CSV, and its value is complete."""
    duckdb = pytest.importorskip("duckdb")
    for number, text in enumerate(NUMBER_LIKE):
        fill(undecided, stored(number, session_id=text, span_id=text, parent_id=text))
    export(undecided, "-o", "out.csv", check=True)
    read = duckdb.sql(f"select * from read_csv('{undecided.root}/out.csv')")
    kinds = dict(zip(read.columns, map(str, read.types), strict=True))

    named = ("event_id", "session_id", "span_id", "parent_id")
    assert {kinds[name] for name in named} == {"VARCHAR"}
    assert (kinds["seq"], kinds["timestamp"]) == ("BIGINT", "TIMESTAMP WITH TIME ZONE")
    rows = read.project(", ".join(named)).fetchall()
    assert rows == [(f"id:{n:016x}", *(f"id:{t}",) * 3) for n, t in enumerate(NUMBER_LIKE)]


def test_times_in_parquet(undecided) -> None:
    """The times of a Parquet file are UTC times, also old ones, and can be compared."""
    duckdb = pytest.importorskip("duckdb")
    fill(undecided)
    times = ("2025-12-01T10:20:30.123456", "1969-12-31T23:59:59+02:00", "9999-12-31T00:00:00")
    old = [{"event_type": "role.selected", "timestamp": when} for when in times]
    undecided.log.write_text("".join(json.dumps(event) + "\n" for event in old))
    fill(undecided, stored(1))
    done = export(undecided, "-o", "out.parquet", "--precise")
    read = duckdb.sql(
        f"select epoch_us(timestamp) as us, typeof(timestamp) from '{undecided.root}/out.parquet'"
    )

    expected = (1_764_584_430_123_456, -7_201_000_000, 253_402_214_400_000_000)
    assert done.returncode == 0, done.stderr
    assert read.fetchall() == [
        (us, "TIMESTAMP WITH TIME ZONE") for us in (*expected, 1_795_342_830_000_000)
    ]
