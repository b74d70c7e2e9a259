"""The maintenance that each command runs after its output."""

import os
import time
from pathlib import Path

import pytest

from telemetry_kit.consent import changes
from telemetry_kit.storage import rotation

OLD = (
    b'{"event_type":"role.selected","timestamp":"2023-06-15T10:00:00","role":"dev"}\n'
    b'{"event_type":"role.selected","timestamp":"2024-02-20T10:00:00","role":"dev"}\n'
)


def tree_of(folder: Path) -> dict[str, bytes]:
    """Return the content of each file of a directory."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("command", [["status"], ["stats"], ["view"], ["doctor", "--fix"]])
def test_no_maintenance_without_a_decision(undecided, command: list[str]) -> None:
    """Without a decision, a command neither deletes nor creates a file."""
    undecided.log.parent.mkdir(mode=0o700)
    undecided.log.write_bytes(OLD)
    undecided.log.chmod(0o600)
    undecided.python("-m", "telemetry_kit", *command)

    assert {"telemetry.jsonl": OLD} == tree_of(undecided.log.parent)


@pytest.mark.parametrize("decision", ["yes", "no"])
def test_maintenance_after_a_decision(undecided, decision: str) -> None:
    """After a grant or a denial, a command deletes expired lines."""
    undecided.grant()
    if decision == "no":
        changes.disable_telemetry(undecided.root)
    expired_day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 100 * 86_400)).encode()
    undecided.log.parent.mkdir(mode=0o700, exist_ok=True)
    undecided.log.write_bytes(OLD.splitlines(keepends=True)[0].replace(b"2023-06-15", expired_day))
    undecided.log.chmod(0o600)
    done = undecided.python("-m", "telemetry_kit", "status")

    assert 0 == done.returncode, done.stderr
    assert {".gitignore", ".telemetry.lock"} == set(tree_of(undecided.log.parent))


@pytest.mark.parametrize("command", ["view", "status"])
def test_files_deleted_for_space_are_reported(place, command: str) -> None:
    """Files that are deleted to free space are reported on stderr."""
    for number in range(3):
        place.log.parent.mkdir(mode=0o700, exist_ok=True)
        place.log.write_bytes(os.urandom(500).hex().encode() + b"\n")
        place.log.chmod(0o600)
        rotation.seal(place.home, f"2099-01-0{number + 1}")
    code = (
        f"import sys\nsys.argv[1:] = [{command!r}]\n"
        "from telemetry_kit.storage import limits as keeping\nkeeping.MAX_BYTES = 600\n"
        "from telemetry_kit.cli import main\nsys.exit(main())"
    )
    done = place.run(code)

    assert 0 == done.returncode
    assert "the oldest 2 files were deleted" in done.stderr
    assert "2099-01-03" in "".join(tree_of(place.log.parent))


def test_off_if_the_log_cannot_be_rotated(place) -> None:
    """The denial is saved and printed first, followed by the failure of the maintenance."""
    assert (
        0 == place.run("from telemetry_kit import *; track_role_event('role.selected')").returncode
    )
    Path(place.home.lock).mkdir()
    done = place.python("-m", "telemetry_kit", "off")
    status = place.python("-m", "telemetry_kit", "status", "--check")

    assert (1, 10) == (done.returncode, status.returncode)
    assert done.stderr.startswith("telemetry-kit: Recording is off for ")
    assert ".telemetry.lock cannot be opened" in done.stderr
