"""`telemetry-kit reset` restores the state before any decision and deletes no other files."""

from pathlib import Path

import pytest

from telemetry_kit import enable_telemetry, is_telemetry_enabled, track_role_event
from telemetry_kit.consent import cache, policy


def reset(place, *args: str, **options):
    """Run `telemetry-kit reset` in the project."""
    return place.python("-m", "telemetry_kit", "reset", *args, **options)


@pytest.fixture
def used(place):
    """Make a project with a decision, a key, a history and an event."""
    with cache.override_runtime(place.environ):
        assert track_role_event("agent.invoked", agent="somebody")
    return place


def test_everything_is_deleted(used) -> None:
    """The events, the key, the decision and the history are deleted.

    No remaining file names the user.
    """
    folders = [str(used.record.parent), str(used.key_file.parent)]
    done = reset(used, "--yes")

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (f"Deleted: events, keys, decisions and their history of {used.root}.\n")
    assert not any(Path(folder).exists() for folder in folders)
    assert used.lines() == []
    assert not is_telemetry_enabled()
    files = [p for top in (used.root, used.user) for p in top.rglob("*") if p.is_file()]
    assert not any(b"somebody" in p.read_bytes() or b"v1 " in p.read_bytes() for p in files)


def test_undecided_after_a_reset(used) -> None:
    """After a reset, the project is undecided and not vetoed."""
    reset(used, "--yes")
    decision = policy.decide(used.home, used.environ)

    assert (decision.allowed, decision.rule.verdict) == (False, policy.SILENT)


def test_reset_twice(used) -> None:
    """A second reset succeeds."""
    assert [reset(used, "--yes").returncode for _ in range(2)] == [0, 0]


def test_other_projects_remain(used) -> None:
    """The decision of another project remains."""
    other = used.root.parent / "other"
    other.mkdir()
    with cache.override_runtime(used.environ):
        enable_telemetry(other)
    reset(used, "--yes")

    assert (is_telemetry_enabled(), is_telemetry_enabled(other)) == (False, True)


def test_all_projects(used) -> None:
    """With `--all-projects`, every decision and every key is deleted."""
    other = used.root.parent / "other"
    other.mkdir()
    with cache.override_runtime(used.environ):
        enable_telemetry(other)
        enable_telemetry(all_projects=True)
    done = reset(used, "--yes", "--all-projects")

    assert done.returncode == 0
    assert done.stderr.splitlines()[1:] == [f"  {used.root}", f"  {other}"]
    assert (is_telemetry_enabled(), is_telemetry_enabled(other)) == (False, False)
    remaining = [p for p in used.user.rglob("*") if p.is_file()]
    assert remaining == []


def test_consent_for_all_projects_is_named(used) -> None:
    """Consent for all projects remains after the reset of one project, and is reported."""
    with cache.override_runtime(used.environ):
        enable_telemetry(all_projects=True)
    done = reset(used, "--yes")

    assert "This decision remains: you granted consent for all projects on 20" in done.stderr
    assert "reset --all-projects deletes that, too." in done.stderr


def test_other_files_remain(used) -> None:
    """The settings of the user and files outside our folders remain."""
    other_paths = [
        Path(used.home.config, "telemetry.toml"),
        used.user / ".config/flowspec/exports.jsonl",
        used.user / ".config/flowspec/.x.tmp",
        used.user / ".local/state/flowspec/projects/0123456789abcdef/key",
        used.user / ".config/telemetry-kit/other/telemetry.enabled",
    ]
    for path in other_paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("roles = ['mine']\n")
    reset(used, "--yes", "--all-projects")

    assert [path.exists() for path in other_paths] == [True] * len(other_paths)


def test_without_a_terminal(used) -> None:
    """Without a terminal and without `--yes`, the exit code is 2 and no file changes."""
    before = set(used.tree())
    done = reset(used, input="y\n")

    assert (done.returncode, before - set(used.tree()), len(used.lines())) == (2, set(), 1)
    assert "add --yes. Nothing was changed" in done.stderr


def test_a_running_program_stops_recording(used) -> None:
    """After a reset, a running program records no more events."""
    loop = (
        "import sys\nfrom telemetry_kit import track_role_event as t\n"
        "for _ in sys.stdin:\n    print(t('role.selected', role='qa') is not None, flush=True)\n"
    )
    child = used.start(loop)
    child.stdin.write("go\n")
    child.stdin.flush()
    before = child.stdout.readline()
    reset(used, "--yes")
    after, err = child.communicate("go\n" * 20, timeout=30)

    assert (before, after, err) == ("True\n", "False\n" * 20, "")
    assert used.lines() == []


BUSY = """
import time
from telemetry_kit import track_role_event
track_role_event("role.selected", role="qa")
print("on", flush=True)
until = time.monotonic() + 20
while time.monotonic() < until:
    if track_role_event("role.selected", role="qa") is None:
        time.sleep(0.03)
        if track_role_event("role.selected", role="qa") is None:
            break
"""


@pytest.mark.slow
def test_no_event_after_a_reset(used) -> None:
    """Reset deletes the consent first, so that a busy program leaves no event."""
    remaining = []
    for _ in range(3):
        with cache.override_runtime(used.environ):
            enable_telemetry()
        child = used.start(BUSY)
        child.stdout.readline()
        reset(used, "--yes")
        child.communicate(timeout=30)
        remaining.append(len(used.lines()))

    assert remaining == [0] * 3


def test_without_the_directory_key(used) -> None:
    """Without the directory key, files of unknown projects remain.

    The command reports them, and `--all-projects` deletes them.
    """
    Path(used.home.directory_key).unlink()
    done = reset(used, "--yes")

    assert done.returncode == 0
    assert done.stderr.startswith(f"Deleted: events of {used.root}.\nNot deleted: ")
    assert "reset --all-projects deletes them all" in done.stderr
    assert reset(used, "--all-projects", "--yes").returncode == 0
    assert list(used.user.rglob("telemetry.enabled")) == []


@pytest.mark.parametrize("key", [b"", b"x" * 31, b"x" * 33])
def test_an_invalid_directory_key(used, key: bytes) -> None:
    """`--all-projects` works with an invalid directory key."""
    Path(used.home.directory_key).write_bytes(key)
    done = reset(used, "--all-projects", "--yes")

    assert (done.returncode, done.stderr.splitlines()[0]) == (
        0,
        "Deleted: events, keys, decisions and their history of all projects of flowspec:",
    )
    assert not Path(used.home.directory_key).exists()


def test_a_project_that_was_moved(used) -> None:
    """The decision about the former path of a moved project remains, and the command reports it."""
    moved = used.root.parent / "moved"
    used.root.rename(moved)
    used.root.mkdir()
    done = reset(used, "--yes", cwd=moved)

    assert done.returncode == 0
    assert done.stderr.startswith(
        f"Deleted: events of {moved}.\nNot deleted: this folder has no decision"
    )
    assert used.record.exists()


def test_exports_from_before_a_decision(undecided) -> None:
    """The entries of exports before a decision are deleted, and only those of this project."""
    undecided.python("-m", "telemetry_kit", "export", "-o", "out.jsonl", check=True)
    other = undecided.root.parent / "other"
    other.mkdir()
    undecided.python("-m", "telemetry_kit", "export", "-o", "out.jsonl", check=True, cwd=other)
    state = undecided.user / ".local/state/telemetry-kit/flowspec"
    before = {path.name for path in state.iterdir()}
    done = undecided.python("-m", "telemetry_kit", "reset", "--yes")
    after = {path.name for path in state.iterdir()}

    assert (0, 5, 3) == (done.returncode, len(before), len(after)), done.stderr
