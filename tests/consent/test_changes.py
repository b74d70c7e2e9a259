"""Decisions of the user: what `enable` and `disable` write, and when a process notices."""

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
from telemetry_kit.errors import ConsentError
from tests.conftest import believed
from tests.consent.policy_helpers import line

pytestmark = pytest.mark.usefixtures("fixed_day")


# -- deciding ------------------------------------------------------------------------------------


def test_recording_is_off_before_a_grant(undecided) -> None:
    """Before a decision, recording is off, and a check creates no file."""
    assert not is_telemetry_enabled()
    assert None is track_role_event("role.selected", role="dev")
    assert undecided.tree() == []


def test_enable_returns_whether_recording_is_on(undecided) -> None:
    """`enable_telemetry()` returns False if another rule denies."""
    assert True is enable_telemetry()
    undecided.environ["DO_NOT_TRACK"] = "1"

    assert False is enable_telemetry()


def test_enable_writes_nothing_into_the_project(place) -> None:
    """A decision is stored in the user's directories. The project has no file before an event."""
    assert list(place.root.iterdir()) == []


def test_files_of_the_user_are_private(place) -> None:
    """The package creates directories with mode 0700 and files with mode 0600."""
    for path in (place.user / ".config").rglob("*"):
        assert (0o700 if path.is_dir() else 0o600) == stat.S_IMODE(path.stat().st_mode), path


def test_a_grant_covers_one_project(place) -> None:
    """A grant for this project does not cover another project."""
    other = place.root.parent / "other"
    other.mkdir()

    assert is_telemetry_enabled()
    assert not is_telemetry_enabled(other)
    assert None is track_role_event("role.selected", role="dev", project_root=other)


def test_a_grant_for_all_projects(undecided) -> None:
    """A grant for all projects covers each project, unless the project has a denial."""
    other = undecided.root.parent / "other"
    other.mkdir()
    enable_telemetry(all_projects=True)

    assert (is_telemetry_enabled(), is_telemetry_enabled(other)) == (True, True)
    disable_telemetry(other)
    assert (is_telemetry_enabled(), is_telemetry_enabled(other)) == (True, False)


def test_a_denial_for_all_projects(place) -> None:
    """A denial for all projects overrides the grant for a project."""
    disable_telemetry(all_projects=True)

    assert not is_telemetry_enabled()


def test_a_grant_covers_one_app(place) -> None:
    """A grant for flowspec does not cover acme."""
    with configure(app="acme"):
        assert not is_telemetry_enabled()

    assert is_telemetry_enabled()


def test_disable_is_saved_and_enable_reverts_it(place) -> None:
    """A denial after a grant turns recording off, and a grant after a denial turns it on."""
    disable_telemetry()
    assert not is_telemetry_enabled()
    assert place.record.read_bytes()[:6] == b"v1 no "

    assert enable_telemetry()


def test_disable_before_any_decision(undecided) -> None:
    """The first decision can be a denial, and it records no event."""
    disable_telemetry()

    assert not is_telemetry_enabled()
    assert undecided.record.read_bytes()[:6] == b"v1 no "
    assert list(undecided.root.iterdir()) == []


def test_disable_is_saved_if_another_rule_denies(place) -> None:
    """If another rule denies already, `disable_telemetry()` still saves the denial."""
    place.environ["DO_NOT_TRACK"] = "1"
    disable_telemetry()

    assert place.record.read_bytes()[:6] == b"v1 no "


def test_disable_records_no_event(place) -> None:
    """After `disable_telemetry()`, the log keeps its events and becomes read-only."""
    track_role_event("role.selected", role="dev")
    disable_telemetry()
    stored = [p for p in (place.root / ".flowspec").iterdir() if p.suffix == ".jsonl"]

    assert [len(p.read_bytes().splitlines()) for p in stored] == [1]
    assert [stat.S_IMODE(p.stat().st_mode) for p in stored] == [0o400]


@pytest.mark.parametrize(
    "damage", [b"nonsense", b"v9 yes 2024-02-28\n", b"", line("yes") * 2], ids=ascii
)
def test_enable_sets_a_damaged_record_aside(place, damage: bytes) -> None:
    """If the consent record is damaged, `enable` renames it and writes a new one."""
    place.record.write_bytes(damage)
    assert not is_telemetry_enabled()

    assert enable_telemetry()
    backups = [p for p in place.record.parent.iterdir() if "damaged" in p.name]
    assert [damage] == [p.read_bytes() for p in backups]


@pytest.mark.parametrize("kind", ["directory", "fifo", "link", "0666"])
def test_enable_sets_an_untrusted_record_aside(place, kind: str) -> None:
    """`enable` renames a record of another file type or mode. A link's target does not change."""
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


def test_a_second_enable_keeps_the_key(place) -> None:
    """A second grant keeps the key, so later events have the same pseudonyms."""
    before = place.key_file.read_bytes()
    enable_telemetry()

    assert before == place.key_file.read_bytes()


def test_a_decision_without_a_home_directory(undecided) -> None:
    """Without a home directory, a decision raises an error that names the cause."""
    undecided.environ["HOME"] = ""

    with pytest.raises(ConsentError, match="home directory"):
        enable_telemetry()
    with pytest.raises(ConsentError, match="home directory"):
        disable_telemetry()
    assert not is_telemetry_enabled()


def test_a_decision_that_cannot_be_saved(undecided) -> None:
    """If a file blocks the package's directory, the error has the system's error name."""
    (undecided.user / ".config").write_text("")

    with pytest.raises(ConsentError, match=r"ENOTDIR|EEXIST|FileExists"):
        enable_telemetry()
    assert not is_telemetry_enabled()


def test_the_umask_does_not_change_the_mode(undecided) -> None:
    """With any umask, only the user can read and write the record."""
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


def record_in(child) -> bool:
    """Make a child process record an event, and return whether it did."""
    child.stdin.write("go\n")
    child.stdin.flush()
    return child.stdout.readline() == "True\n"


# -- decisions of another process ----------------------------------------------------------------


def test_revocation_is_noticed_at_the_next_event(place) -> None:
    """After `disable`, a running process stops at its next event. After `enable`, it continues."""
    child = place.start(LOOP)
    try:
        assert record_in(child)
        for _ in range(20):
            changes.disable_telemetry()
            assert not record_in(child)
            changes.enable_telemetry()
            assert any(record_in(child) for _ in range(10_000))
    finally:
        _, err = child.communicate(timeout=30)

    assert err == ""


def test_nothing_is_written_after_a_revocation(place) -> None:
    """After `disable` has returned, a running process writes no event into any file."""
    child = place.start(LOOP)
    try:
        assert record_in(child)
        changes.disable_telemetry()
        before = {p: p.read_bytes() for p in place.root.rglob("*") if p.is_file()}
        assert [record_in(child) for _ in range(50)] == [False] * 50
    finally:
        child.communicate(timeout=30)

    assert before == {p: p.read_bytes() for p in place.root.rglob("*") if p.is_file()}


def test_clear_is_noticed_at_the_next_event(place) -> None:
    """After `clear`, a running process writes its next event into a new log, with a new key."""
    child = place.start(LOOP)
    try:
        assert record_in(child)
        old = place.key
        assert changes.clear(place.home) == []
        assert not place.log.exists()
        assert record_in(child)
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
    """If the user deletes the record, recording is off 20 ms later at the latest."""
    assert track_role_event("role.selected", role="dev")
    place.record.unlink()
    place.clock.advance(0.0201)

    assert None is track_role_event("role.selected", role="dev")


def test_a_decision_of_this_process_applies_at_once(place) -> None:
    """A decision that this process makes applies to its next event."""
    assert track_role_event("role.selected", role="dev")
    disable_telemetry()
    assert None is track_role_event("role.selected", role="dev")
    enable_telemetry()

    assert track_role_event("role.selected", role="dev")


def test_a_running_process_notices_the_first_grant(undecided) -> None:
    """A process that started before any decision notices the grant within 20 ms."""
    assert None is track_role_event("role.selected", role="dev")
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry()
    undecided.clock.advance(0.0201)

    assert track_role_event("role.selected", role="dev")
