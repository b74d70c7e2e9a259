"""A record grants only if it is the last decision, not if it was restored, copied or edited."""

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


def record_path(place, everywhere: bool) -> Path:
    """Return the path of the record of the project, or of all projects."""
    return record_of(place.home, everywhere)


def denial_reason(place) -> str:
    """Return the sentence of the rule that denies."""
    cache.invalidate()
    assert not is_telemetry_enabled()
    rule = policy.decide(place.home, place.environ).rule
    assert rule.verdict == policy.DENY
    return rule.says


@pytest.mark.parametrize("everywhere", [False, True])
def test_a_restored_record(place, everywhere: bool) -> None:
    """If a grant is restored after a denial, it is not valid, and the reason names the repair."""
    enable_telemetry(all_projects=everywhere)
    record = record_path(place, everywhere)
    backup = record.read_bytes()
    disable_telemetry(all_projects=everywhere)
    record.write_bytes(backup)
    repair = f"run on or off{' --all-projects' * everywhere} to decide again"

    assert denial_reason(place) == f"{record} is not the last decision of its history: {repair}"
    assert place.python(*STATUS, "--check").returncode == 10
    words = ("--all-projects",) if everywhere else ()
    assert place.python(*ON, *words).returncode == 0
    assert place.python(*STATUS, "--check").returncode == 0
    assert history.trouble(place.home) == []


def test_a_restored_grant_does_not_extend_the_next(place) -> None:
    """The next grant does not include the scope of a record that is not valid."""
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
def test_a_record_of_another_project(place, tmp_path, what: str) -> None:
    """The grant of another project is not valid here, with or without its history."""
    other = tmp_path / "other"
    other.mkdir()
    enable_telemetry(other)
    theirs = record_of(changes.paths_of(other))
    names = (policy.RECORD, policy.HISTORY)[: 1 if what == "record" else 2]
    for name in names:
        shutil.copy2(theirs.with_name(name), place.record.with_name(name))

    assert "is the consent record of another project: run on or off" in denial_reason(place)
    assert history.trouble(place.home) != []


def test_a_project_record_is_not_valid_for_all_projects(place, tmp_path) -> None:
    """A project's record that is copied to the path of the record for all projects denies."""
    for name in (policy.RECORD, policy.HISTORY):
        shutil.copy2(place.record.with_name(name), Path(place.home.config) / name)

    assert "is the consent record of another project" in denial_reason(place)


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
def test_a_record_without_a_valid_history(place, damage) -> None:
    """If the history is missing, damaged or not private, recording is off until a new decision."""
    damage(place.record.with_name(policy.HISTORY))

    assert "run on or off to decide again" in denial_reason(place)
    path = place.record.with_name(policy.HISTORY)
    if path.is_dir():
        path.rmdir()
    enable_telemetry()
    assert is_telemetry_enabled()


def test_an_edited_grant(place) -> None:
    """If a user edits a denial into a grant, it is not valid, since its entry is a denial."""
    grant = place.record.read_text()
    disable_telemetry()
    entry = place.record.read_text().rpartition("entry=")[2]
    place.record.write_text(grant.rpartition("entry=")[0] + f"entry={entry}")

    assert "is not the last decision of its history" in denial_reason(place)


@pytest.mark.parametrize("entry", ["", "0", "0123456789abcdef0", "0123456789abcde"])
def test_an_entry_name_of_another_length(place, entry: str) -> None:
    """If the name of the entry has more or fewer than sixteen digits, the grant is not valid."""
    text = place.record.read_text().rpartition("entry=")
    place.record.write_text(f"{text[0]}entry={entry or text[2][:8]}\n")

    assert "is not the last decision of its history" in denial_reason(place)


def test_the_first_digits_of_an_entry_name(place) -> None:
    """If the record has only the first eight digits of its entry, the grant is not valid."""
    text = place.record.read_text().strip()
    place.record.write_text(text[:-8] + "\n")

    assert "is not the last decision of its history" in denial_reason(place)


def test_a_history_of_many_decisions(place) -> None:
    """Only the end of a long history decides whether a grant is valid."""
    for _ in range(12):
        disable_telemetry()
        enable_telemetry()
    size = place.record.with_name(policy.HISTORY).stat().st_size

    assert size > 4_096
    assert is_telemetry_enabled()


def test_a_denial_needs_no_history(place) -> None:
    """A denial is valid without a history."""
    disable_telemetry()
    os.unlink(place.record.with_name(policy.HISTORY))

    assert denial_reason(place).startswith("you denied consent for this project")


def test_a_crash_between_history_and_record(place) -> None:
    """If a renewal is saved only in the history, the former grant remains valid."""
    record = place.record.read_bytes()
    enable_telemetry()
    place.record.write_bytes(record)
    cache.invalidate()

    assert is_telemetry_enabled()
