"""Decisions of the user: what enable and disable write, and how soon a process notices."""

import os
import stat

import pytest

from telemetry_kit import (
    configure,
    disable_telemetry,
    enable_telemetry,
    is_telemetry_enabled,
    track_role_event,
)
from telemetry_kit.consent import cache, changes
from telemetry_kit.consent import decision as consent_decision
from telemetry_kit.errors import ConsentError
from tests.conftest import believed
from tests.consent.policy_helpers import DAY, line


@pytest.fixture(autouse=True)
def _day_of_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables below are made once; decisions here are of that day, whenever they are made."""
    monkeypatch.setattr(consent_decision, "today", lambda: DAY)


# -- deciding ------------------------------------------------------------------------------------


def test_off_until_somebody_says_yes(undecided) -> None:
    """Nothing decided means off, and looking leaves nothing behind."""
    assert not is_telemetry_enabled()
    assert None is track_role_event("role.selected", role="dev")
    assert undecided.tree() == []


def test_enable_says_whether_it_is_on(undecided) -> None:
    """`enable_telemetry()` tells whether events are recorded now: a veto may still hold."""
    assert True is enable_telemetry()
    undecided.environ["DO_NOT_TRACK"] = "1"

    assert False is enable_telemetry()


def test_enable_writes_nothing_into_the_project(place) -> None:
    """A decision is in the user's directories; the project has nothing until an event comes."""
    assert list(place.root.iterdir()) == []


def test_everything_of_the_user_is_private(place) -> None:
    """Folders that we make are 0700 and files 0600."""
    for path in (place.user / ".config").rglob("*"):
        assert (0o700 if path.is_dir() else 0o600) == stat.S_IMODE(path.stat().st_mode), path


def test_a_yes_is_for_one_project(place) -> None:
    """A yes for this project says nothing about another one."""
    other = place.root.parent / "other"
    other.mkdir()

    assert is_telemetry_enabled()
    assert not is_telemetry_enabled(other)
    assert None is track_role_event("role.selected", role="dev", project_root=other)


def test_a_yes_for_all_projects(undecided) -> None:
    """A yes for all projects holds in each, a project's no wins over it."""
    other = undecided.root.parent / "other"
    other.mkdir()
    enable_telemetry(all_projects=True)

    assert (is_telemetry_enabled(), is_telemetry_enabled(other)) == (True, True)
    disable_telemetry(other)
    assert (is_telemetry_enabled(), is_telemetry_enabled(other)) == (True, False)


def test_a_no_for_all_projects(place) -> None:
    """A no for all projects wins over a project's yes."""
    disable_telemetry(all_projects=True)

    assert not is_telemetry_enabled()


def test_a_yes_is_for_one_app(place) -> None:
    """A yes to flowspec is no yes to acme."""
    with configure(app="acme"):
        assert not is_telemetry_enabled()

    assert is_telemetry_enabled()


def test_disable_is_remembered_and_undone(place) -> None:
    """No after yes is off, yes after no is on."""
    disable_telemetry()
    assert not is_telemetry_enabled()
    assert place.record.read_bytes()[:6] == b"v1 no "

    assert enable_telemetry()


def test_disable_where_nothing_was_decided(undecided) -> None:
    """A no can be the first thing that is said, and records nothing about itself."""
    disable_telemetry()

    assert not is_telemetry_enabled()
    assert undecided.record.read_bytes()[:6] == b"v1 no "
    assert list(undecided.root.iterdir()) == []


def test_disable_under_a_veto_is_written(place) -> None:
    """Turning off writes the denial even when it is vetoed already."""
    place.environ["DO_NOT_TRACK"] = "1"
    disable_telemetry()

    assert place.record.read_bytes()[:6] == b"v1 no "


def test_turning_off_records_no_event(place) -> None:
    """The log ends with the last event before; what was recorded stays."""
    track_role_event("role.selected", role="dev")
    disable_telemetry()
    stored = [p for p in (place.root / ".flowspec").iterdir() if p.suffix == ".jsonl"]

    assert [len(p.read_bytes().splitlines()) for p in stored] == [1]
    assert [stat.S_IMODE(p.stat().st_mode) for p in stored] == [0o400]


@pytest.mark.parametrize(
    "damage", [b"nonsense", b"v9 yes 2024-02-28\n", b"", line("yes") * 2], ids=ascii
)
def test_a_damaged_record_is_kept_aside(place, damage: bytes) -> None:
    """`enable` over a damaged record works, and keeps what was there under another name."""
    place.record.write_bytes(damage)
    assert not is_telemetry_enabled()

    assert enable_telemetry()
    aside = [p for p in place.record.parent.iterdir() if "damaged" in p.name]
    assert [damage] == [p.read_bytes() for p in aside]


@pytest.mark.parametrize("kind", ["directory", "fifo", "link", "0666"])
def test_a_strange_record_is_kept_aside(place, kind: str) -> None:
    """The same with something that is no record at all; nothing behind a link is changed."""
    outside = place.user / "outside"
    outside.write_bytes(b"theirs")
    if kind == "0666":
        place.record.chmod(0o666)
    else:
        place.record.unlink()
    if kind == "directory":
        place.record.mkdir()
    elif kind == "fifo":
        os.mkfifo(place.record)
    elif kind == "link":
        place.record.symlink_to(outside)

    assert enable_telemetry()
    assert (outside.read_bytes(), place.record.is_symlink()) == (b"theirs", False)
    assert len([p for p in place.record.parent.iterdir() if "damaged" in p.name]) == 1


def test_enable_twice_changes_no_key(place) -> None:
    """A second yes keeps key and place, so that events go on under the same names."""
    before = place.key_file.read_bytes()
    enable_telemetry()

    assert before == place.key_file.read_bytes()


def test_no_home_cannot_be_decided(undecided) -> None:
    """Without a home directory a decision is an error that says so, not a silent success."""
    undecided.environ["HOME"] = ""

    with pytest.raises(ConsentError, match="home directory"):
        enable_telemetry()
    with pytest.raises(ConsentError, match="home directory"):
        disable_telemetry()
    assert not is_telemetry_enabled()


def test_a_decision_that_cannot_be_written(undecided) -> None:
    """A file where our folder should be is an error with the system's short name."""
    (undecided.user / ".config").write_text("")

    with pytest.raises(ConsentError, match=r"ENOTDIR|EEXIST|FileExists"):
        enable_telemetry()
    assert not is_telemetry_enabled()


def test_umask_takes_nothing(undecided) -> None:
    """Whatever the umask, the record can be read by us and by nobody else."""
    for mask in (0o777, 0o000, 0o077):
        former = os.umask(mask)
        try:
            assert enable_telemetry()
        finally:
            os.umask(former)
        assert stat.S_IMODE(undecided.record.stat().st_mode) == 0o600


LOOP = """
import sys
from telemetry_kit import track_role_event
from telemetry_kit.privacy import keys as privacy
from telemetry_kit.privacy.projects import ProjectDirs
from telemetry_kit.schema.validation import is_day
for word in sys.stdin:
    print(track_role_event("role.selected", role="dev") is not None, flush=True)
"""


def ask(child) -> bool:
    """Have a child record once; whether it did."""
    child.stdin.write("go\n")
    child.stdin.flush()
    return child.stdout.readline() == "True\n"


# -- what was decided elsewhere ------------------------------------------------------------------


def test_revocation_is_noticed_at_the_next_event(place) -> None:
    """A running process stops at its next event after `disable`, and goes on after `enable`."""
    child = place.start(LOOP)
    try:
        assert ask(child)
        for _ in range(20):
            changes.disable_telemetry()
            assert not ask(child)
            changes.enable_telemetry()
            assert any(ask(child) for _ in range(10_000))
    finally:
        _, err = child.communicate(timeout=30)

    assert err == ""


def test_nothing_is_written_after_a_revocation(place) -> None:
    """What a running process is asked after `disable` returned is in no file."""
    child = place.start(LOOP)
    try:
        assert ask(child)
        changes.disable_telemetry()
        before = {p: p.read_bytes() for p in place.root.rglob("*") if p.is_file()}
        assert [ask(child) for _ in range(50)] == [False] * 50
    finally:
        child.communicate(timeout=30)

    assert before == {p: p.read_bytes() for p in place.root.rglob("*") if p.is_file()}


def test_clear_is_noticed_at_the_next_event(place) -> None:
    """A running process writes its next event into a new log, under the new key."""
    child = place.start(LOOP)
    try:
        assert ask(child)
        old = place.key
        assert changes.clear(place.home) == []
        assert not place.log.exists()
        assert ask(child)
    finally:
        child.communicate(timeout=30)

    assert [place.key.epoch] == [event["key_epoch"] for event in place.events()]
    assert not place.key.equals(old)
    assert place.key.pseudonym("project_id", str(place.root)) == place.events()[0]["project_id"]


def test_a_hand_edited_record_is_noticed_within_20_ms(place) -> None:
    """A record that the user edited takes effect 20 ms later at the latest."""
    assert track_role_event("role.selected", role="dev")
    place.record.write_bytes(line("no"))
    place.clock.advance(0.0201)

    assert None is track_role_event("role.selected", role="dev")
    place.record.write_bytes(believed(place.record, line("yes")))
    place.clock.advance(0.0201)
    assert track_role_event("role.selected", role="dev")


def test_a_deleted_record_is_noticed_within_20_ms(place) -> None:
    """Removing the record by hand turns recording off."""
    assert track_role_event("role.selected", role="dev")
    place.record.unlink()
    place.clock.advance(0.0201)

    assert None is track_role_event("role.selected", role="dev")


def test_a_decision_of_this_process_holds_at_once(place) -> None:
    """What this process decided itself holds without any time passing."""
    assert track_role_event("role.selected", role="dev")
    disable_telemetry()
    assert None is track_role_event("role.selected", role="dev")
    enable_telemetry()

    assert track_role_event("role.selected", role="dev")


def test_a_first_yes_reaches_a_running_process(undecided) -> None:
    """A process that began before anything was decided sees the yes within 20 ms."""
    assert None is track_role_event("role.selected", role="dev")
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry()
    undecided.clock.advance(0.0201)

    assert track_role_event("role.selected", role="dev")
