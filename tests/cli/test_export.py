"""`telemetry-kit export` exports every event in each format and logs each export."""

import csv
import hashlib
import io
import json
import os
import re
import sqlite3
import stat
import sys
import unicodedata

import pexpect
import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit.export import log as export_log
from telemetry_kit.export.formats import FORMATS, guarded, guarded_json
from telemetry_kit.privacy.projects import ProjectDirs
from telemetry_kit.storage import rotation
from tests.cli.export_helpers import (
    ENDED_BY_SIGNAL,
    MANY,
    export,
    files,
    fill,
    ids,
    other_files,
    stored,
)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
def test_an_export_is_complete(undecided, many_lines, form):
    """Each of 120,000 events is exported once and in order.

    The events are in a rotated file and in the active log.
    """
    if form == "parquet":
        pytest.importorskip("duckdb")
    fill(undecided)
    undecided.log.write_bytes(many_lines[: len(many_lines) // 2])
    rest = many_lines[len(many_lines) // 2 :]
    with undecided.log.open("ab") as log:
        log.write(rest[: rest.index(b"\n") + 1])
    rotation.seal(undecided.home, "2026-11-22")
    undecided.log.write_bytes(rest[rest.index(b"\n") + 1 :])
    path = undecided.root / "out"
    done = export(undecided, "--format", form, "-o", str(path), "--precise")

    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(f"Exported {MANY:,} events to ")
    assert ids(form, path) == [f"{n:016x}" for n in range(MANY)]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(os.listdir(undecided.root)) == [".flowspec", "out"]


@pytest.mark.parametrize("form", FORMATS)
def test_times_are_cut_to_the_day(undecided, form):
    """Without `--precise`, each time is reduced to its day, also in an old line."""
    if form == "parquet":
        pytest.importorskip("duckdb")
    fill(undecided, stored(1), stored(2, role="über"))
    with undecided.log.open("ab") as log:
        log.write(b'{"event_type":"role.selected","timestamp":"2025-12-01T10:20:31"}\n')
    whole, precise = undecided.root / "whole", undecided.root / "precise"
    export(undecided, "--format", form, "-o", str(whole))
    export(undecided, "--format", form, "-o", str(precise), "--precise")
    if form in ("json", "jsonl", "csv"):
        assert whole.read_bytes().count(b"T00:00:00Z") == 3
        assert b"10:20:3" not in whole.read_bytes()
        assert precise.read_bytes().count(b"T10:20:3") == 3
    elif form == "otlp-json":
        times = [
            [int(r["timeUnixNano"]) // 10**9 % 86_400 for r in _records(path)]
            for path in (whole, precise)
        ]

        assert times == [[0, 0, 0], [37_230, 37_230, 37_231]]
    else:
        assert whole.read_bytes() != precise.read_bytes()


def _records(path):
    return json.loads(path.read_text())["resourceLogs"][0]["scopeLogs"][0]["logRecords"]


def test_the_otlp_definitions_parse_the_export(undecided):
    """The OTLP JSON export is a valid OpenTelemetry `LogsData` with the same values."""
    json_format = pytest.importorskip("google.protobuf.json_format")
    logs = pytest.importorskip("opentelemetry.proto.logs.v1.logs_pb2")
    fill(
        undecided,
        stored(1, exit_code=-3, context={"n": 1.5, "on": True, "who": "h:0123456789ab"}),
        stored(2, event_type="command.failed"),
    )
    parsed = json_format.Parse(export(undecided, "--format", "otlp-json").stdout, logs.LogsData())
    records = parsed.resource_logs[0].scope_logs[0].log_records
    values = {a.key: a.value for a in records[0].attributes}

    assert [r.severity_number for r in records] == [9, 17]
    assert records[0].event_name == records[0].body.string_value == "command.completed"
    assert values["telemetry.exit_code"].int_value == -3
    assert values["telemetry.context.n"].double_value == 1.5
    assert values["telemetry.context.on"].bool_value is True
    assert values["telemetry.seq"].int_value == 1


def test_the_conventions_for_generative_ai(undecided):
    """Agents and workflows have the attributes of the conventions. Roles are no users."""
    without_role = stored(3, event_type="agent.invoked", agent="h:0123456789ab")
    del without_role["role"]
    fill(
        undecided,
        stored(1, event_type="agent.completed", role="dev", agent="planner", workflow="delivery"),
        stored(2, event_type="workflow.failed", workflow="delivery"),
        without_role,
        stored(4, event_type="handoff.clicked", role="dev", agent="planner"),
        stored(5, event_type="command.failed", role="h:0123456789ab"),
    )
    export(undecided, "--format", "otlp-json", "-o", "out")
    found = []
    for record in _records(undecided.root / "out"):
        values = {a["key"]: a["value"].get("stringValue") for a in record["attributes"]}
        keys = ("gen_ai.operation.name", "gen_ai.agent.name", "telemetry_kit.role")
        found.append(tuple(values.get(key) for key in keys))

        assert not any(key.startswith(("enduser", "user.")) for key in values)

    assert found == [
        ("invoke_agent", "planner", "dev"),
        ("invoke_workflow", "delivery", "dev"),
        ("invoke_agent", "h:0123456789ab", None),
        (None, None, "dev"),
        (None, None, "h:0123456789ab"),
    ]


def test_old_times_in_open_telemetry(undecided):
    """The app name is exported, an old time has its fraction, and no time is negative."""
    json_format = pytest.importorskip("google.protobuf.json_format")
    logs = pytest.importorskip("opentelemetry.proto.logs.v1.logs_pb2")
    fill(undecided)
    times = ("2025-12-01T10:20:30.123456", "1969-12-31T23:59:59", "9999-12-31T00:00:00")
    old = [{"event_type": "role.selected", "timestamp": when} for when in times]
    undecided.log.write_text("".join(json.dumps(event) + "\n" for event in old))
    done = export(undecided, "--format", "otlp-json", "--precise")
    whole = json_format.Parse(done.stdout, logs.LogsData()).resource_logs[0]
    records = whole.scope_logs[0].log_records

    assert whole.resource.attributes[0].value.string_value == "flowspec"
    assert [r.time_unix_nano for r in records] == [1_764_584_430_123_456_000, 0, 0]
    assert [
        a.value.string_value for r in records for a in r.attributes if a.key.endswith("timestamp")
    ] == ["1969-12-31T23:59:59Z", "9999-12-31T00:00:00Z"]


@pytest.mark.parametrize("form", ["parquet", "sqlite", "otlp-json"])
def test_a_lone_surrogate(undecided, form):
    """A lone surrogate in an old line is exported as a question mark."""
    if form == "parquet":
        pytest.importorskip("duckdb")
    fill(undecided)
    old = {
        "event_type": "role.selected",
        "timestamp": "2025-12-01T10:20:30",
        "role": "a\ud800b",
        "metadata": {"\udfff": ["\ud83d\ude00", "\ud83d"]},
    }
    undecided.log.write_text(json.dumps(old) + "\n")
    fill(undecided, stored(1))
    path = undecided.root / "out"
    done = export(undecided, "--format", form, "-o", "out")
    if form == "parquet":
        import duckdb

        found = duckdb.sql(f"select role, metadata from read_parquet('{path}')").fetchall()[0]

        assert found[0] == "a?b"
        assert json.loads(found[1]) == {"?": ["\U0001f600", "?"]}
    elif form == "sqlite":
        with sqlite3.connect(path) as connection:
            assert connection.execute("select role from events").fetchone() == ("a?b",)
        connection.close()
    else:
        assert '"a?b"' in path.read_text()
    assert (done.returncode, done.stderr.count("\n")) == (0, 1)


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@x", "'@x"),
        ("\t=1", "\t'=1"),
        (" =1", " '=1"),
        ("a;=1", "a;'=1"),
        ("a,=1", "a,'=1"),
        ("a\t@x", "a\t'@x"),
        ("a|+1", "a|'+1"),
        ("a\n-1", "a\n'-1"),
        ('a";"=1', 'a";"\'=1'),
        ("\uff1d1", "'\uff1d1"),
        ("\r=1", "\r'=1"),
        ("\x00=1", "\x00'=1"),
        ("\x1f@x", "\x1f'@x"),
        ("\ufeff=1", "\ufeff'=1"),
        ("\u200b+1", "\u200b'+1"),
        ("\xad-1", "\xad'-1"),
        (" \ufeff\t\u202e\uff1d1", " \ufeff\t\u202e'\uff1d1"),
        ("a;\u200b=1", "a;\u200b'=1"),
        ("a-b", "a-b"),
        ("/dev:build", "/dev:build"),
    ],
)
def test_no_cell_is_a_formula(text, cell):
    """A cell that a spreadsheet may run as a formula gets an apostrophe."""
    assert cell == guarded(text)


def test_every_invisible_character_is_guarded():
    """Each character of the categories Cc and Cf before a formula is recognised."""
    invisible = [
        c for c in map(chr, range(sys.maxunicode + 1)) if unicodedata.category(c) in ("Cc", "Cf")
    ]

    assert len(invisible) > 200
    assert not [c for c in invisible if guarded(f"{c}=1") != f"{c}'=1"]


@given(
    st.dictionaries(
        st.text(max_size=9) | st.sampled_from(["=a", "a;=1", '"=']),
        st.text(max_size=9) | st.integers() | st.lists(st.integers() | st.text(max_size=5)),
        max_size=5,
    )
)
def test_json_in_a_cell_keeps_its_value(value):
    """Guarded JSON is valid, has the same value, and contains no formula."""
    text = guarded_json(json.dumps(value))

    assert json.loads(text) == value
    assert not re.search(r"""[;|,]\s*["']*[=+@]""", text)


def test_csv(undecided):
    """CSV has one row for each event, all columns, and numbers as numbers."""
    fill(undecided)
    old = {"event_type": "role.selected", "timestamp": "2025-12-01T10:20:30", "role": "=cmd|'/c x'"}
    undecided.log.write_text(json.dumps(old) + "\n")
    fill(undecided, stored(1, exit_code=-1, context={"a": 1}))
    rows = list(csv.DictReader(io.StringIO(export(undecided, "--format", "csv").stdout)))

    assert tuple(rows[0]) == export_log.FIELDS
    assert rows[0]["role"] == "'=cmd|'/c x'"
    assert (rows[1]["exit_code"], rows[1]["context"]) == ("-1", '{"a": 1}')


def test_period_and_default(undecided):
    """The default is JSON Lines on stdout, and a period selects its events."""
    fill(undecided, stored(1), stored(2, timestamp="2026-11-23T00:00:00Z"))
    whole = export(undecided)
    part = export(undecided, "--since", "2026-11-23", "-o", "-")

    assert (whole.returncode, whole.stderr) == (0, "")
    assert [json.loads(line)["seq"] for line in whole.stdout.splitlines()] == [1, 2]
    assert [json.loads(line)["seq"] for line in part.stdout.splitlines()] == [2]


def test_role_and_event(place):
    """`--role` and `--event` select events.

    The export log stores an undeclared role as a pseudonym.
    """
    done = place.run(
        "from telemetry_kit import role_session, track_role_event as t\n"
        "for role in ('dev', 'my chief'):\n"
        "    with role_session(role): t('agent.invoked', agent='a')"
    )
    assert done.returncode == 0, done.stderr
    dev = export(place, "--role", "dev", "--event", "agent.invoked")
    chief = export(place, "--role", "my chief")
    wrong = export(place, "--role", "dve")
    commands = [entry["command"] for entry in list(export_log.ExportLog(place.home))]

    assert [json.loads(line)["role"] for line in dev.stdout.splitlines()] == ["dev"]
    assert len(chief.stdout.splitlines()) == 2
    assert (wrong.returncode, "did you mean 'dev'?" in wrong.stderr) == (2, True)
    assert commands[0] == "export --format jsonl --role dev --event agent.invoked"
    assert re.fullmatch("export --format jsonl --role h:[0-9a-f]{12}", commands[1])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--format", "cvs"), "did you mean 'csv'?"),
        (("--format", "sqlite"), "name a file with -o"),
        (("--dictionary",), "need a file"),
        (("-o", "there"), "--force replaces it"),
        (("-o", "."), "it is a folder"),
        (("-o", ""), "write a file name"),
        (("-o", "no/such"), "no such folder"),
        (("-o", ".flowspec/telemetry.jsonl", "--force"), "the log is in that folder"),
        (("--since", "2026-11-02", "--until", "2026-11-01"), "swap them"),
        (("--since", "x"), "write the day as"),
    ],
)
def test_invalid_arguments(undecided, args, message):
    """Invalid arguments are reported in one sentence with exit code 2, and no file is written."""
    fill(undecided, stored(1))
    (undecided.root / "there").write_text("mine")
    before = files(undecided)
    done = export(undecided, *args)

    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert (undecided.root / "there").read_text() == "mine"
    assert before == files(undecided)


def test_an_unreadable_archive_is_reported(undecided):
    """The other events are exported, and the exit code 1 reports an incomplete export."""
    fill(undecided, stored(1))
    (undecided.log.parent / "telemetry-2026-11-01.jsonl.gz").write_bytes(b"\x1f\x8b\x08broken")
    done = export(undecided, "-o", "out")

    assert done.returncode == 1
    assert "incomplete: telemetry-2026-11-01.jsonl.gz" in done.stderr
    assert len((undecided.root / "out").read_text().splitlines()) == 1


def test_the_export_log(place):
    """An entry has the command, fields, rows, checksum and destination.

    Only the user can read the export log, and `audit` prints it.
    """
    fill(place, stored(1), stored(2))
    outside = place.user / "out.json"
    export(place, "-o", "sub.jsonl")
    export(place, "--format", "json", "-o", str(outside), "--since", "2026-01-01")
    export(place)
    first, second, third = list(export_log.ExportLog(place.home))
    audit = place.python("-m", "telemetry_kit", "audit").stdout
    as_json = json.loads(place.python("-m", "telemetry_kit", "audit", "--json").stdout)
    path = export_log.path_of(place.home)

    assert (first["rows"], first["destination"], third["destination"]) == (2, "sub.jsonl", "-")
    assert first["sha256"] == hashlib.sha256((place.root / "sub.jsonl").read_bytes()).hexdigest()
    assert second["command"] == "export --format json --since 2026-01-01"
    assert (second["destination"], second["fields"]) == ("out.json", list(export_log.FIELDS))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    with open(path) as file:
        assert str(place.user) not in file.read()
    assert (
        f"2 events of {len(export_log.FIELDS)} fields to sub.jsonl, by export --format jsonl"
        in audit
    )
    assert as_json["exports"] == [first, second, third]


@pytest.mark.parametrize("harm", ["head -c1 >/dev/null", "KeyboardInterrupt", "SIGTERM"])
def test_an_interrupted_stream_is_logged_as_incomplete(undecided, harm):
    """The entry of a stream that ended early is marked as incomplete."""
    fill(undecided, *(stored(n) for n in range(5_000)))
    if harm.startswith("head"):
        code = (
            "import os, sys; os.system(f'{sys.executable} -m telemetry_kit export | {sys.argv[1]}')"
        )
        undecided.run(code, harm)
    else:
        name, before = {
            "KeyboardInterrupt": ("SIGINT", "default_int_handler"),
            "SIGTERM": ("SIGTERM", "SIG_DFL"),
        }[harm]
        undecided.python("-c", ENDED_BY_SIGNAL.format(name=name, before=before))
    audit = undecided.python("-m", "telemetry_kit", "audit")
    (entry,) = list(export_log.ExportLog(undecided.home))

    assert entry["incomplete"] is True
    assert entry["destination"] == "-"
    assert audit.returncode == 0, audit.stderr
    assert audit.stdout.endswith(", incomplete\n")


@pytest.mark.parametrize("there", [".dictionary.md", ".consent.jsonl"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_existing_files_are_found_before_writing(place, there, kind):
    """If one of the output files exists, no file is written and no export is logged."""
    fill(place, stored(1))
    existing = place.root / f"out{there}"
    existing.write_text("mine") if kind == "file" else existing.mkdir()
    done = export(place, "-o", "out", "--dictionary", "--history")

    assert done.returncode == 2
    reason = "the file exists" if kind == "file" else "it is a folder"
    assert f"out{there}: {reason}" in done.stderr
    assert other_files(place) == [existing.name]
    assert list(export_log.ExportLog(place.home)) == []


@pytest.mark.tty
@pytest.mark.parametrize("form", [name for name, outputs in FORMATS.items() if outputs.stream])
def test_a_terminal_gets_safe_text(undecided, form):
    """In each format, a control character of an old event is printed escaped in a terminal."""
    fill(undecided)
    bad = {"event_type": "role.selected", "timestamp": "2025-12-01T10:20:30", "role": "\x1b[2J\x7f"}
    undecided.log.write_text(json.dumps(bad) + "\n")
    code, text = in_terminal(undecided, 80, 8 << 20, "--format", form)

    assert code == 0
    assert "[2J" in text
    assert "\x1b" not in text
    assert "\x7f" not in text


def test_no_output_file_contains_a_key(place):
    """No part of a key is in the export, the dictionary or the history."""
    place.run("from telemetry_kit import track_role_event as t; t('agent.invoked', agent='me')")
    done = export(place, "-o", "out", "--dictionary", "--history")
    outputs = {p.name: p.read_bytes() for p in place.root.iterdir() if p.is_file()}
    keys = [p.read_bytes() for p in place.user.rglob("*key*") if p.is_file()]

    assert done.returncode == 0, done.stderr
    assert sorted(outputs) == ["out", "out.consent.jsonl", "out.dictionary.md"]
    assert b'"decision": "yes"' in outputs["out.consent.jsonl"]
    assert outputs["out.dictionary.md"].startswith(b"# What telemetry_kit records")
    assert keys
    for data in outputs.values():
        for key in keys:
            assert all(part not in data for part in key.split() if len(part) > 20)
            assert key.strip() not in data
    assert ProjectDirs.of(place.home).name.encode() not in b"".join(outputs.values())


LONG = """
import sys
from telemetry_kit.cli import main
from telemetry_kit.cli.commands import export
export.PROGRESS_BYTES = {least}
export.PROGRESS_SECONDS = 0
sys.exit(main(["export", *sys.argv[1:]]))
"""


def in_terminal(place, columns, least, *args):
    """Run an export in a terminal, and return its exit code and output."""
    child = pexpect.spawn(
        sys.executable,
        ["-c", LONG.format(least=least), *args],
        cwd=str(place.root),
        env={**place.env, "TERM": "xterm", "PYTHONUTF8": "1"},
        dimensions=(24, columns),
        timeout=60,
    )
    text = child.read().decode()
    child.close()
    return child.exitstatus, text


@pytest.mark.tty
@pytest.mark.parametrize("form", FORMATS)
def test_the_progress_bar(undecided, form):
    """In a terminal, a bar shows the share of bytes read up to 100 %, and is then erased."""
    if form == "parquet":
        pytest.importorskip("duckdb")
    fill(undecided, *(stored(n) for n in range(2_000)))
    code, text = in_terminal(undecided, 80, 0, "--format", form, "-o", "out")
    *drawings, last = text.split("\r\x1b[K")
    shares = [int(found) for found in re.findall(r"(\d+)%", drawings[0])]

    assert code == 0, text
    assert shares == sorted(shares)
    assert len(set(shares)) > 3
    assert max(shares) == 100
    assert "▇" * 20 + "  100%  2,000 events" in drawings[0]
    assert last.startswith("Exported 2,000 events to out")


@pytest.mark.tty
@pytest.mark.parametrize("columns", [20, 30, 40])
def test_the_progress_bar_fits_the_terminal(undecided, columns):
    """The bar is one line and shorter than the terminal is wide."""
    fill(undecided, *(stored(n) for n in range(2_000)))
    code, text = in_terminal(undecided, columns, 0, "-o", "out")
    lines = re.findall(r"\r([^\r\x1b]+)\x1b", text)

    assert code == 0
    assert lines
    assert max(map(len, lines)) < columns


def test_without_a_progress_bar(undecided):
    """A pipe or a short export gets no progress bar."""
    fill(undecided, *(stored(n) for n in range(2_000)))
    piped = undecided.python("-c", LONG.format(least=0), "-o", "out")
    _, short = in_terminal(undecided, 80, 8 << 20, "-o", "again")

    assert piped.stderr.startswith("Exported 2,000 events to out")
    assert short.startswith("Exported 2,000 events to again")
