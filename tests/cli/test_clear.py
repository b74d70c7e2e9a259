"""`telemetry-kit clear` deletes stored events and reports the files that it cannot delete."""

import os
from pathlib import Path

import pytest

from telemetry_kit.storage import maintenance, reader, rotation
from telemetry_kit.storage.writer import LogWriter

DAY = "2024-02-28"


def clear(place, *args: str):
    """Run `telemetry-kit clear` in the project."""
    return place.python("-m", "telemetry_kit", "clear", *args)


def line(number: int, day: str) -> bytes:
    """Return a line of the log with this number and day."""
    return (
        f'{{"schema_version":"1.0","event_id":"{number:016x}","event_type":"role.selected",'
        f'"timestamp":"{day}T00:00:00Z"}}\n'
    ).encode()


def days(home) -> list[str]:
    """Return the days of all stored events."""
    return [event["timestamp"][:10] for event in reader.read(home)]


@pytest.fixture
def stored(place):
    """Make a project with an archive, a rotated file and an active log of three days each."""
    for step in range(3):
        journal = LogWriter(place.home, lambda: True)
        for number, day in enumerate(("2099-01-01", "2099-01-02", "2099-01-03")):
            while not journal.append(line(step * 10 + number, day)):
                pass
        journal.close()
        if step < 2:
            rotation.seal(place.home, DAY)
        if step < 1:
            maintenance.maintain(place.home, 90, DAY)
    return place


def test_all_events_are_deleted(stored) -> None:
    """The events and the key are deleted. The consent, the lock and the ignore file remain."""
    key = stored.key_file.read_bytes()
    done = clear(stored, "--yes")

    assert 0 == done.returncode, done.stderr
    assert [] == days(stored.home)
    assert {".gitignore", ".telemetry.lock"} == set(os.listdir(stored.home.folder))
    assert key != stored.key_file.read_bytes()
    assert stored.record.exists()


def test_only_earlier_days(stored) -> None:
    """`--before` deletes the events of earlier days from each file."""
    done = clear(stored, "--before", "2099-01-03", "--yes")

    assert 0 == done.returncode, done.stderr
    assert "Deleted 6 events" in done.stderr
    assert ["2099-01-03"] * 3 == days(stored.home)


@pytest.mark.parametrize("day", ["", "yesterday", "2024-13-01", "2024-02-30", "20240228"])
def test_an_invalid_day(stored, day: str) -> None:
    """If the day is invalid, the exit code is 2 and no event is deleted."""
    done = clear(stored, "--before", day, "--yes")

    assert 2 == done.returncode
    assert 9 == len(days(stored.home))


@pytest.mark.parametrize("args", [(), ("--before", "2099-01-03")])
def test_without_a_terminal(stored, args: tuple[str, ...]) -> None:
    """Without a terminal and without `--yes`, the exit code is 2 and no event is deleted."""
    done = clear(stored, *args)

    assert 2 == done.returncode
    assert 9 == len(days(stored.home))


@pytest.mark.parametrize("args", [("--yes",), ("--before", "2099-01-04", "--yes")])
def test_a_file_that_cannot_be_deleted(stored, args: tuple[str, ...]) -> None:
    """A file that cannot be deleted is named with exit code 1, and all events are deleted."""
    remaining = Path(stored.home.folder, "telemetry-2024-01-01.jsonl")
    if len(args) == 1:
        remaining.mkdir()
    else:
        remaining.symlink_to("nothing")
    done = clear(stored, *args)

    assert 1 == done.returncode
    assert remaining.name in done.stderr
    assert [] == days(stored.home)


def test_clear_twice(stored) -> None:
    """Clearing an empty log succeeds."""
    assert [0, 0] == [clear(stored, "--yes").returncode for _ in range(2)]


@pytest.mark.parametrize("args", [("--yes",), ("--yes", "--before", "2026-01-01")])
def test_a_folder_with_the_name_of_a_file(undecided, args):
    """A folder with the name of a data file is not deleted, and the message names the next step."""
    (undecided.root / ".flowspec" / "telemetry-rollup.json").mkdir(parents=True)
    done = undecided.python("-m", "telemetry_kit", "clear", *args)

    if done.returncode:
        assert "telemetry-rollup.json (a folder has its name: look into it" in done.stderr
    assert "EISDIR" not in done.stderr
    assert (undecided.root / ".flowspec" / "telemetry-rollup.json").is_dir()


EVERY_COMMAND = """
from telemetry_kit.cli import main
import os, sys
def run(*args):
    print("$", repr(args), main(["--app", "flowspec", *args]), file=sys.stderr)
for is_broken in (False, True):
    if is_broken:
        import shutil
        run("enable", "--yes")
        shutil.rmtree(".flowspec", ignore_errors=True)
        open(".flowspec", "w").close()
    else:
        run("enable", "--yes")
        run("record", "agent.invoked", "--agent", "bob")
    for words in (
        "status", "status --explain", "view", "stats", "answers", "audit", "doctor", "find bob",
        "export -o out.csv", "export -o missing/out.csv", "forget bob", "forget bob --yes",
        "rotate-key", "rotate-key --yes", "clear", "clear --yes", "clear --before 2026-01-01 --yes",
        "disable", "reset", "reset --yes", "reset --all-projects --yes",
    ):
        run(*words.split())
    for path in (os.getcwd(), os.getcwd() + "/missing", "\\x1b[31m\\nnoted"):
        run("verify", path)
        run("export", "-o", path + "/out.csv")
        run("--project", path, "status")
"""


def test_control_characters_in_a_path(make_place) -> None:
    """No command prints a control character of a path, and a line break in it begins no line."""
    place = make_place("the-work\x1b[31m\nnoted\u202e")
    done = place.run(EVERY_COMMAND, timeout=120)
    printed = done.stdout + done.stderr

    assert 0 == done.returncode, done.stderr
    assert "the-work\\x1b[31m\\nnoted\\u202e" in printed
    assert not {"\x1b", "\u202e"} & set(printed)
    assert not [line for line in printed.splitlines() if line.startswith("noted")]
