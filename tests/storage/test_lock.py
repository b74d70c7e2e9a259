"""On a file system without locks everything works, and the commands report it."""

import os
from errno import errorcode
from pathlib import Path

import pytest

from telemetry_kit.files import private

# Replace `flock` with one that fails as on such file systems, before telemetry_kit is imported.
WITHOUT_LOCKS = """
import errno, fcntl, sys
def flock(fd, how): raise OSError(getattr(errno, {name!r}), "")
fcntl.flock = flock
import telemetry_kit
from telemetry_kit import *
configure(app="flowspec")
from telemetry_kit.cli import main
"""
NAMES = sorted(errorcode[number] for number in private.NO_LOCKS)


def without_locks(place, code: str, name: str) -> str:
    """Run code on a file system without locks and return its output."""
    done = place.run(WITHOUT_LOCKS.format(name=name) + code)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_errors_of_a_file_system_without_locks() -> None:
    """`NO_LOCKS` has the documented errors of `flock` on a file system without locks."""
    assert {"EBADF", "EINVAL", "ENOLCK", "ENOSYS"} < {*NAMES, "ENOTSUP", "EOPNOTSUPP"}


@pytest.mark.parametrize("name", NAMES)
def test_a_day_of_use(undecided, name: str) -> None:
    """A grant, recording, sealing and a denial work. No event is lost and none is compressed."""
    code = (
        "assert enable_telemetry()\n"
        "assert track_role_event('role.selected', role='dev')\n"
        "from telemetry_kit.consent import changes as control\n"
        "from telemetry_kit.storage import rotation as upkeep\n"
        "assert upkeep.seal(control.paths_of(), '2024-02-28')\n"
        "assert track_role_event('role.changed', role='qa')\n"
        "sys.stdout.flush()\n"
        "assert main(['view', '--json']) == 0\n"
        "disable_telemetry()\n"
        "assert track_role_event('role.changed', role='pm') is None\n"
    )
    output = without_locks(undecided, code, name)

    assert ("role.selected" in output, "role.changed" in output) == (True, True)
    assert [] == list(Path(undecided.home.folder).glob("*.gz"))
    assert 2 == len(list(Path(undecided.home.folder).glob("*.jsonl")))


@pytest.mark.parametrize("command", ["status", "doctor"])
@pytest.mark.parametrize("name", NAMES)
def test_status_and_doctor_report_it(place, command: str, name: str) -> None:
    """`status` and `doctor` exit with 0 and report that files here cannot be locked."""
    code = f"assert track_role_event('role.selected')\nassert main([{command!r}]) == 0"
    output = without_locks(place, code, name)

    assert f"files in {place.home.folder} cannot be locked ({name})" in " ".join(output.split())


def test_commands_do_not_report_a_usual_file_system(place) -> None:
    """On a usual file system the commands print no such note."""
    done = place.run(
        "from telemetry_kit import *\nfrom telemetry_kit.cli import main\nimport sys\n"
        "configure(app='flowspec')\n"
        "assert track_role_event('role.selected')\nmain(['status'])\nmain(['doctor'])"
    )

    assert "cannot be locked" not in done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_an_expired_key_is_replaced(place, name: str) -> None:
    """A key that has been in use for 28 days is replaced without a lock."""
    epoch, secret = place.key.epoch, os.urandom(32).hex()
    place.key_file.write_text(f"v1 {epoch} 2023-01-01 {secret}\n")
    without_locks(place, "assert track_role_event('role.selected')", name)

    assert epoch + 1 == place.key.epoch


@pytest.mark.parametrize("name", NAMES)
def test_an_export_is_logged(place, name: str) -> None:
    """The export log is written without a lock."""
    code = (
        "assert track_role_event('role.selected')\n"
        "assert main(['export', '--format', 'jsonl', '-o', 'out.jsonl']) == 0"
    )
    without_locks(place, code, name)

    assert 1 == len((place.root / "out.jsonl").read_bytes().splitlines())
