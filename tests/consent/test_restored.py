"""A record that is not the last decision grants nothing: restored, copied, swapped or edited."""

import os
import shutil
from pathlib import Path

import pytest

from telemetry_kit import configure, disable_telemetry, enable_telemetry, is_telemetry_enabled
from telemetry_kit.consent import cache, changes, history, policy
from tests.conftest import record_of

STATUS = ("-m", "telemetry_kit", "--app", "flowspec", "status")
ON = ("-m", "telemetry_kit", "--app", "flowspec", "on", "--yes")


@pytest.fixture(autouse=True)
def _real_clock(place):
    with cache.override_runtime(place.environ):
        yield


def where(place, everywhere: bool) -> Path:
    return record_of(place.home, everywhere)


def denied_because(place) -> str:
    cache.invalidate()
    assert not is_telemetry_enabled()
    rule = policy.decide(place.home, place.environ).rule
    assert rule.verdict == policy.DENY
    return rule.says


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_backup_of_the_record_alone(place, everywhere: bool) -> None:
    """A grant restored after a denial records nothing; the reason names what repairs it."""
    enable_telemetry(all_projects=everywhere)
    record = where(place, everywhere)
    backup = record.read_bytes()
    disable_telemetry(all_projects=everywhere)
    record.write_bytes(backup)
    anew = f"run on or off{' --all-projects' * everywhere} to decide again"

    assert denied_because(place) == f"{record} is not the last decision of its history: {anew}"
    assert place.python(*STATUS, "--check").returncode == 10
    words = ("--all-projects",) if everywhere else ()
    assert place.python(*ON, *words).returncode == 0
    assert place.python(*STATUS, "--check").returncode == 0
    assert history.trouble(place.home) == []


def test_a_restored_grant_widens_nothing(place) -> None:
    """The next grant does not take over what a record that counts for nothing covered."""
    configure(retention_days=120)
    enable_telemetry()
    backup = place.record.read_bytes()
    disable_telemetry()
    place.record.write_bytes(backup)
    configure(retention_days=90)
    enable_telemetry()
    grant = policy.decide(place.home, place.environ).grant

    assert grant is not None
    assert grant.keep_days == 90


@pytest.mark.parametrize("what", ["record", "record and history"])
def test_the_records_of_two_projects_swapped(place, tmp_path, what: str) -> None:
    """A grant of another project grants nothing here, with its history neither."""
    other = tmp_path / "other"
    other.mkdir()
    enable_telemetry(other)
    theirs = record_of(changes.paths_of(other))
    names = (policy.RECORD, policy.HISTORY)[: 1 if what == "record" else 2]
    for name in names:
        shutil.copy2(theirs.with_name(name), place.record.with_name(name))

    assert "is the consent record of another project: run on or off" in denied_because(place)
    assert history.trouble(place.home) != []


def test_a_grant_for_one_project_is_none_for_all(place, tmp_path) -> None:
    """Copied to the place of the record for all projects it denies."""
    for name in (policy.RECORD, policy.HISTORY):
        shutil.copy2(place.record.with_name(name), Path(place.home.config) / name)

    assert "is the consent record of another project" in denied_because(place)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.unlink(),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\n"),
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(path.read_bytes() + b'{"decision": "no"}\n'),
        lambda path: path.write_bytes(path.read_bytes() + b"x" * 5_000 + b"\n"),
        lambda path: path.chmod(0o644),
        lambda path: (path.unlink(), path.mkdir()),
        lambda path: (path.rename(path.with_name("x")), path.symlink_to("x")),
    ],
    ids=["gone", "empty", "blank", "cut", "a denial", "long", "open", "a folder", "a link"],
)
def test_without_its_history(place, damage) -> None:
    """A history that is gone, damaged or not private denies, and a new decision repairs it."""
    damage(place.record.with_name(policy.HISTORY))

    assert "run on or off to decide again" in denied_because(place)
    path = place.record.with_name(policy.HISTORY)
    if path.is_dir():
        path.rmdir()
    enable_telemetry()
    assert is_telemetry_enabled()


def test_an_edited_grant(place) -> None:
    """A denial that was edited to a grant names a denial of the history, and grants nothing."""
    grant = place.record.read_text()
    disable_telemetry()
    entry = place.record.read_text().rpartition("entry=")[2]
    place.record.write_text(grant.rpartition("entry=")[0] + f"entry={entry}")

    assert "is not the last decision of its history" in denied_because(place)


@pytest.mark.parametrize("entry", ["", "0", "0123456789abcdef0", "0123456789abcde"])
def test_an_entry_that_is_none(place, entry: str) -> None:
    """Sixteen digits name an entry; what is shorter, longer or missing names none."""
    text = place.record.read_text().rpartition("entry=")
    place.record.write_text(f"{text[0]}entry={entry or text[2][:8]}\n")

    assert "is not the last decision of its history" in denied_because(place)


def test_the_beginning_of_an_entry_is_no_name(place) -> None:
    """Eight digits are not enough, also where they are the right ones."""
    text = place.record.read_text().strip()
    place.record.write_text(text[:-8] + "\n")

    assert "is not the last decision of its history" in denied_because(place)


def test_a_history_of_many_decisions(place) -> None:
    """Whatever was decided before, the end of the history is what counts."""
    for _ in range(12):
        disable_telemetry()
        enable_telemetry()
    size = place.record.with_name(policy.HISTORY).stat().st_size

    assert size > 4_096
    assert is_telemetry_enabled()


def test_a_denial_needs_no_history(place) -> None:
    """A denial counts whatever stands beside it."""
    disable_telemetry()
    os.unlink(place.record.with_name(policy.HISTORY))

    assert denied_because(place).startswith("you denied consent for this project")


def test_killed_between_history_and_record(place) -> None:
    """A grant whose renewal never came into force goes on; its former record stays the last one."""
    record = place.record.read_bytes()
    enable_telemetry()
    place.record.write_bytes(record)
    cache.invalidate()

    assert is_telemetry_enabled()
