"""What every command does for the journal once it has spoken, and where it does nothing."""

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
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("command", [["status"], ["stats"], ["view"], ["doctor", "--fix"]])
def test_who_was_never_asked_keeps_everything(undecided, command: list[str]) -> None:
    """A look at what another program left there deletes nothing and makes nothing."""
    undecided.log.parent.mkdir(mode=0o700)
    undecided.log.write_bytes(OLD)
    undecided.log.chmod(0o600)
    undecided.python("-m", "telemetry_kit", *command)

    assert {"telemetry.jsonl": OLD} == tree_of(undecided.log.parent)


@pytest.mark.parametrize("decision", ["yes", "no"])
def test_who_has_decided_is_looked_after(undecided, decision: str) -> None:
    """Old lines go, whatever the decision is by now."""
    undecided.grant()
    if decision == "no":
        changes.disable_telemetry(undecided.root)
    over = time.strftime("%Y-%m-%d", time.gmtime(time.time() - 100 * 86_400)).encode()
    undecided.log.parent.mkdir(mode=0o700, exist_ok=True)
    undecided.log.write_bytes(OLD.splitlines(keepends=True)[0].replace(b"2023-06-15", over))
    undecided.log.chmod(0o600)
    done = undecided.python("-m", "telemetry_kit", "status")

    assert 0 == done.returncode, done.stderr
    assert {".gitignore", ".telemetry.lock"} == set(tree_of(undecided.log.parent))


@pytest.mark.parametrize("command", ["view", "status"])
def test_what_goes_for_the_space_is_told(place, command: str) -> None:
    """On stderr, and never silently."""
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


def test_off_where_the_log_cannot_be_sealed(place) -> None:
    """The decision stands, and is told first; then what could not be done."""
    assert (
        0 == place.run("from telemetry_kit import *; track_role_event('role.selected')").returncode
    )
    Path(place.home.lock).mkdir()
    done = place.python("-m", "telemetry_kit", "off")
    status = place.python("-m", "telemetry_kit", "status", "--check")

    assert (1, 10) == (done.returncode, status.returncode)
    assert done.stderr.startswith("telemetry-kit: Recording is off for ")
    assert ".telemetry.lock cannot be opened" in done.stderr
