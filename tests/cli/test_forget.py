"""`telemetry-kit forget` deletes events that contain a text from all files."""

import json
import threading
from pathlib import Path

import pytest

from telemetry_kit.consent import decision
from telemetry_kit.storage import maintenance, rotation
from telemetry_kit.storage.reader import read
from telemetry_kit.storage.segments import ReadReport, snapshot
from telemetry_kit.verification.lookup import SPELLINGS

TEXT = "zora@quill.example"


def record(place, **names: str) -> None:
    """Record one event of today in another process, because older events would expire."""
    code = f"from telemetry_kit import *; assert track_role_event('role.selected', **{names!r})"
    done = place.run(code)
    assert done.returncode == 0, done.stderr


def test_forget_deletes_from_log_and_archive(place) -> None:
    """Lines with the text or its pseudonym are deleted from the log and an archive.

    All other lines remain.
    """
    record(place, role=TEXT)
    record(place, role="dev")
    rotation.seal(place.home, decision.today())
    maintenance.maintain(place.home, 90, decision.today())
    record(place, agent=TEXT)
    record(place, agent="other")
    with snapshot(place.home, ReadReport()) as sources:
        assert ["archive", "active"] == [source.segment.kind for source in sources]
    done = place.python("-m", "telemetry_kit", "forget", TEXT, "--yes")

    assert (0, True) == (done.returncode, "Deleted 2 lines. Remaining: 0 events" in done.stdout)
    assert ["dev", None] == [event.get("role") for event in read(place.home)]
    assert TEXT not in done.stdout + done.stderr


def test_forget_deletes_what_find_counts(place) -> None:
    """Each line of stdin is deleted in the spellings that `find` counts, which are listed."""
    for name in ("alice", "BOB"):
        record(place, agent=name)
    record(place, role="dev")
    options = {"input": "Alice \r\nbob\n"}
    found = json.loads(place.python("-m", "telemetry_kit", "find", "-", "--json", **options).stdout)
    done = place.python("-m", "telemetry_kit", "forget", "-", "--yes", **options)

    assert 2 == found["events"]
    assert "Deleted 2 lines. Remaining: 0 events" in done.stdout
    assert f"Spellings searched for: {', '.join(SPELLINGS)}.\n" in done.stderr
    assert ["dev"] == [event["role"] for event in read(place.home)]


def test_without_a_terminal(place) -> None:
    """Without a terminal and without `--yes`, the exit code is 2 and the log is unchanged."""
    record(place, role=TEXT)
    before = place.log.read_bytes()
    done = place.python("-m", "telemetry_kit", "forget", TEXT)

    assert (2, before) == (done.returncode, place.log.read_bytes())


def test_remaining_events_are_reported(place) -> None:
    """Events of a retired key remain, and the command counts them."""
    record(place, role=TEXT)
    place.python("-m", "telemetry_kit", "rotate-key", "--yes")
    done = place.python("-m", "telemetry_kit", "forget", TEXT, "--yes")

    assert 0 == done.returncode
    assert "1 event was recorded with other keys" in done.stderr
    assert 1 == sum(1 for _ in read(place.home))


def test_damaged_lines_with_the_text_are_deleted(place) -> None:
    """A torn line with the text is deleted, and one without it remains."""
    record(place, role="dev")
    line = json.dumps({"role": TEXT})[:-2].encode()
    with open(place.log, "ab") as log:
        log.write(line + b"\n" + b'{"schema_version":"1.0","event_id":"01\n')
    done = place.python("-m", "telemetry_kit", "forget", TEXT, "--yes")

    assert 0 == done.returncode
    assert "Deleted 1 line." in done.stdout


def moved(place) -> Path:
    """Record three events, rename the project directory, and grant consent again."""
    for _ in range(3):
        done = place.python(
            *("-m", "telemetry_kit", "--app", "flowspec", "record", "agent.invoked"),
            *("--agent", "bob"),
        )
        assert 0 == done.returncode
    other = place.root.with_name("another-name")
    place.root.rename(other)
    options = ("-m", "telemetry_kit", "--app", "flowspec", "enable", "--yes")
    assert 0 == place.python(*options, cwd=other).returncode
    return other


@pytest.mark.parametrize("command", [("forget", "bob", "--yes"), ("find", "bob")])
def test_events_before_a_rename_are_counted(place, command) -> None:
    """Events from before the rename of the directory have another key and are counted."""
    other = moved(place)
    done = place.python("-m", "telemetry_kit", "--app", "flowspec", *command, cwd=other)

    assert 0 == done.returncode
    assert "3 events were recorded with other keys" in done.stderr
    assert "forget" not in command or "; 3 could not be searched" in done.stdout


def test_only_events_of_other_keys_are_counted(place) -> None:
    """Events from after the rename are searched and deleted."""
    other = moved(place)
    options = ("-m", "telemetry_kit", "--app", "flowspec")
    place.python(*options, "record", "agent.invoked", "--agent", "bob", cwd=other)
    place.python(*options, "record", "agent.invoked", "--agent", "eve", cwd=other)
    found = json.loads(place.python(*options, "find", "bob", "--json", cwd=other).stdout)
    done = place.python(*options, "forget", "bob", "--yes", cwd=other)

    assert (1, 3) == (found["events"], found["of_retired_keys"])
    assert "Deleted 1 line. Remaining: 0 events with the text; 3 could not" in done.stdout


RECORDER = """
from telemetry_kit import configure, track_role_event
configure(app="flowspec")
while True:
    track_role_event("agent.invoked", agent="bob")
    track_role_event("agent.invoked", agent="bob")
    print("recorded", flush=True)
"""


def test_events_recorded_meanwhile_are_reported(place) -> None:
    """The command reports that a running program recorded more events with the text."""
    recorder = place.start(RECORDER)
    assert "recorded\n" == recorder.stdout.readline()
    # A full pipe would block the recorder.
    reading = threading.Thread(target=recorder.stdout.read)
    reading.start()
    try:
        done = place.python(
            "-m", "telemetry_kit", "--app", "flowspec", "forget", "bob", "--yes", cwd=place.root
        )
    finally:
        recorder.kill()
        recorder.wait()
        reading.join()
        for pipe in (recorder.stdin, recorder.stdout, recorder.stderr):
            pipe.close()

    assert 1 == done.returncode
    assert int(done.stdout.split("Deleted ")[1].split()[0].replace(",", "")) > 0
    assert "meanwhile" in done.stderr
    assert "could be removed:" not in done.stderr
