"""`telemetry-kit forget`: events that hold a text are gone, from archives too."""

import json

from telemetry_kit import grants
from telemetry_kit.journal import archive, upkeep
from telemetry_kit.journal.reader import read, segments

TEXT = "zora@quill.example"


def record(place, **names: str) -> None:
    """One event, by a process of its own, of today: older ones would go with the next command."""
    code = f"from telemetry_kit import *; assert track_role_event('role.selected', **{names!r})"
    done = place.run(code)
    assert done.returncode == 0, done.stderr


def test_forget_removes_from_log_and_archive(place) -> None:
    """Lines of the log and of an archive go, in clear or coded; all others stay."""
    record(place, role=TEXT)
    record(place, role="dev")
    upkeep.seal(place.home, grants.today())
    archive.maintain(place.home, 90, grants.today())
    record(place, agent=TEXT)
    record(place, agent="other")
    assert ["archive", "active"] == [segment.kind for segment in segments(place.home)]
    done = place.python("-m", "telemetry_kit", "forget", TEXT, "--yes")

    assert (0, True) == (done.returncode, "Removed 2 lines. 0 events" in done.stdout)
    assert ["dev", None] == [event.get("role") for event in read(place.home)]
    assert TEXT not in done.stdout + done.stderr


def test_without_a_terminal_nothing_goes(place) -> None:
    """Nobody can be asked: exit code 2, and everything is as it was."""
    record(place, role=TEXT)
    before = place.log.read_bytes()
    done = place.python("-m", "telemetry_kit", "forget", TEXT)

    assert (2, before) == (done.returncode, place.log.read_bytes())


def test_what_remains_is_said(place) -> None:
    """Events of keys that are gone stay, and it says how many."""
    record(place, role=TEXT)
    place.python("-m", "telemetry_kit", "rotate-key", "--yes")
    done = place.python("-m", "telemetry_kit", "forget", TEXT, "--yes")

    assert 0 == done.returncode
    assert "1 events were made with keys that are gone" in done.stderr
    assert 1 == sum(1 for _ in read(place.home))


def test_damaged_lines_that_hold_it_go(place) -> None:
    """A torn line with the text in clear goes too; one without it stays."""
    record(place, role="dev")
    line = json.dumps({"role": TEXT})[:-2].encode()
    with open(place.log, "ab") as log:
        log.write(line + b"\n" + b'{"schema_version":"1.0","event_id":"01\n')
    done = place.python("-m", "telemetry_kit", "forget", TEXT, "--yes")

    assert 0 == done.returncode
    assert "Removed 1 lines" in done.stdout
