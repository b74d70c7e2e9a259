"""`telemetry-kit clear`: what goes, what stays, and what is said when not all could go."""

import os
from pathlib import Path

import pytest

from telemetry_kit.storage import maintenance, reader, rotation
from telemetry_kit.storage.writer import LogWriter

DAY = "2024-02-28"


def clear(place, *args: str):
    return place.python("-m", "telemetry_kit", "clear", *args)


def line(number: int, day: str) -> bytes:
    return (
        f'{{"schema_version":"1.0","event_id":"{number:016x}","event_type":"role.selected",'
        f'"timestamp":"{day}T00:00:00Z"}}\n'
    ).encode()


def days(home) -> list[str]:
    return [event["timestamp"][:10] for event in reader.read(home)]


@pytest.fixture
def stored(place):
    """An archive, a sealed and an active log, of three days each."""
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


def test_everything_goes(stored) -> None:
    """Events and key go; consent, the lock and the ignore file stay."""
    key = stored.key_file.read_bytes()
    done = clear(stored, "--yes")

    assert 0 == done.returncode, done.stderr
    assert [] == days(stored.home)
    assert {".gitignore", ".telemetry.lock"} == set(os.listdir(stored.home.folder))
    assert key != stored.key_file.read_bytes()
    assert stored.record.exists()


def test_only_earlier_days(stored) -> None:
    """`--before` removes the lines of earlier days, wherever they are."""
    done = clear(stored, "--before", "2099-01-03", "--yes")

    assert 0 == done.returncode, done.stderr
    assert "Deleted 6 events" in done.stderr
    assert ["2099-01-03"] * 3 == days(stored.home)


@pytest.mark.parametrize("day", ["", "yesterday", "2024-13-01", "2024-02-30", "20240228"])
def test_a_day_that_is_none(stored, day: str) -> None:
    """Exit 2, nothing changed."""
    done = clear(stored, "--before", day, "--yes")

    assert 2 == done.returncode
    assert 9 == len(days(stored.home))


@pytest.mark.parametrize("args", [(), ("--before", "2099-01-03")])
def test_nobody_to_ask(stored, args: tuple[str, ...]) -> None:
    """Without a terminal and without --yes: exit 2, nothing changed."""
    done = clear(stored, *args)

    assert 2 == done.returncode
    assert 9 == len(days(stored.home))


@pytest.mark.parametrize("args", [("--yes",), ("--before", "2099-01-04", "--yes")])
def test_what_could_not_go_is_said(stored, args: tuple[str, ...]) -> None:
    """Exit 1 with the name of what survived; the rest is gone."""
    kept = Path(stored.home.folder, "telemetry-2024-01-01.jsonl")
    if len(args) == 1:
        kept.mkdir()
    else:
        kept.symlink_to("nothing")
    done = clear(stored, *args)

    assert 1 == done.returncode
    assert kept.name in done.stderr
    assert [] == days(stored.home)


def test_twice(stored) -> None:
    """Clearing what is clear is done at once."""
    assert [0, 0] == [clear(stored, "--yes").returncode for _ in range(2)]


@pytest.mark.parametrize("args", [("--yes",), ("--yes", "--before", "2026-01-01")])
def test_a_folder_in_the_place_of_a_file(undecided, args):
    """It is not ours to delete: said, with what to do."""
    (undecided.root / ".flowspec" / "telemetry-rollup.json").mkdir(parents=True)
    done = undecided.python("-m", "telemetry_kit", "clear", *args)

    if done.returncode:
        assert "telemetry-rollup.json (a folder has its name: look into it" in done.stderr
    assert "EISDIR" not in done.stderr
    assert (undecided.root / ".flowspec" / "telemetry-rollup.json").is_dir()
