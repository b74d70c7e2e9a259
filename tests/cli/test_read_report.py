"""Every command reports what it could not read, in the same words and with the same exit code."""

import gzip
import json

import pytest

from telemetry_kit.schema.encoding import encode


def line(number, version="1.0", kind="agent.invoked", **fields):
    """Return one line of the log."""
    event = {
        "schema_version": version,
        "event_id": f"{number:016x}",
        "event_type": kind,
        "timestamp": "2024-02-28T00:00:00Z",
        "role": "dev",
        **fields,
    }
    return encode(event)


def fill(place, data, name="telemetry.jsonl"):
    """Write a file of the log."""
    place.log.parent.mkdir(mode=0o700, exist_ok=True)
    path = place.log.parent / name
    path.write_bytes(data)
    path.chmod(0o600)
    return path


def run(place, *words):
    """Run a command in the project."""
    return place.python("-m", "telemetry_kit", *words, env={"COLUMNS": "200"})


OTHER = "2 lines of another version"
COMMANDS = [
    ["view"],
    ["view", "--tree"],
    ["stats", "--role", "dev"],
    ["stats", "--json"],
    ["answers", "--json"],
    ["export", "-o", "out.jsonl"],
    ["find", "zebra"],
    ["verify", "--json"],
    ["doctor", "--json"],
]


@pytest.mark.parametrize("known", [0, 3], ids=["alone", "mixed"])
def test_lines_of_another_version(undecided, known):
    """Each command counts the lines, names them, shows the others, and exits with 1."""
    lines = [*map(line, range(known)), line(8, "1.1"), line(9, "1.1")]
    fill(undecided, b"".join(lines))
    printed = {}
    for words in COMMANDS:
        done = run(undecided, *words)
        printed[words[0]] = done.stdout
        assert done.returncode == 1, words
        assert OTHER in (done.stdout if words[0] == "doctor" else done.stderr), words
        assert "no events yet" not in done.stderr
    stats, rows, certificate, checks = (
        json.loads(printed[name]) for name in ("stats", "answers", "verify", "doctor")
    )

    assert (undecided.root / "out.jsonl").read_bytes() == b"".join(lines[:known])
    assert (stats["events"], stats["other_version"]) == (known, 2)
    assert {(row["other_version"], *row["incomplete"]) for row in rows} == {(2, "telemetry.jsonl")}
    assert [2] == [one["other_version"] for one in certificate["files"][:1]]
    assert ["bad"] == [one["state"] for one in checks if one["name"] == "lines"]


def test_a_given_file_of_another_version(undecided):
    """`verify FILE` does not pass a file whose version it does not know."""
    (undecided.root / "old.jsonl").write_bytes(line(1, "0.9"))
    done = run(undecided, "verify", "old.jsonl")

    assert done.returncode == 1
    assert "old.jsonl has 1 line of another version" in done.stderr


def test_an_archive_with_a_wrong_checksum(undecided):
    """The events are counted and shown, the file is named, and the exit code is 1."""
    name = "telemetry-2024-02-28.jsonl.gz"
    compressed = bytearray(gzip.compress(b"".join(map(line, range(300)))))
    compressed[-6] ^= 1
    fill(undecided, bytes(compressed), name)
    stats, view = run(undecided, "stats", "--json"), run(undecided, "view", "-n", "999", "--json")
    found = json.loads(stats.stdout)

    assert (found["events"], found["malformed"], found["incomplete"]) == (300, 0, [name])
    assert len(view.stdout.splitlines()) == 300
    for done in (stats, view):
        assert (done.returncode, f"{name}: the archive is damaged" in done.stderr) == (1, True)


def test_events_that_are_stored_twice(undecided):
    """They count once, and each command that reads all of them reports how many there are."""
    fill(undecided, b"".join(map(line, range(30))) * 2)
    stats, export = run(undecided, "stats", "--json"), run(undecided, "export")
    (check,) = [
        one
        for one in json.loads(run(undecided, "doctor", "--json").stdout)
        if one["name"] == "lines"
    ]
    sentence = "telemetry.jsonl: 30 events that are stored twice"

    assert (stats.returncode, json.loads(stats.stdout)["events"]) == (0, 30)
    assert (export.returncode, len(export.stdout.splitlines())) == (0, 30)
    assert sentence in stats.stderr
    assert ("note", f"30 events; {sentence}") == (check["state"], check["says"])


def test_a_torn_line_is_a_note(undecided):
    """A killed process leaves the beginning of a line, which `doctor` counts without failing."""
    fill(undecided, line(1) + line(2)[:60] + b"\n" + line(3))
    checks = json.loads(run(undecided, "doctor", "--json").stdout)
    (check,) = [one for one in checks if one["name"] == "lines"]

    assert ("note", "2 events; telemetry.jsonl: 1 malformed line") == (
        check["state"],
        check["says"],
    )
