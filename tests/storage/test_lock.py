"""A file system that cannot lock files: everything works, and the user is told."""

import os
from errno import errorcode
from pathlib import Path

import pytest

from telemetry_kit.files import private

# The interpreter's own `flock`, answered as such file systems do, before anything of ours loads.
ANSWER = """
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
    """What code prints where no file can be locked."""
    done = place.run(ANSWER.format(name=name) + code)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_answers_are_in_one_place() -> None:
    """The documented answers of `flock` where there are no locks."""
    assert {"EBADF", "EINVAL", "ENOLCK", "ENOSYS"} < {*NAMES, "ENOTSUP", "EOPNOTSUPP"}


@pytest.mark.parametrize("name", NAMES)
def test_a_day_of_use(undecided, name: str) -> None:
    """Granted, recorded, sealed, recorded again, denied: nothing is lost, nothing is packed."""
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
    shown = without_locks(undecided, code, name)

    assert ("role.selected" in shown, "role.changed" in shown) == (True, True)
    assert [] == list(Path(undecided.home.folder).glob("*.gz"))
    assert 2 == len(list(Path(undecided.home.folder).glob("*.jsonl")))


@pytest.mark.parametrize("command", ["status", "doctor"])
@pytest.mark.parametrize("name", NAMES)
def test_commands_name_it(place, command: str, name: str) -> None:
    """`status` and `doctor` say that files here cannot be locked, and that it is no failure."""
    code = f"assert track_role_event('role.selected')\nassert main([{command!r}]) == 0"
    shown = without_locks(place, code, name)

    assert f"files in {place.home.folder} cannot be locked ({name})" in " ".join(shown.split())


def test_commands_are_silent_where_files_can_be_locked(place) -> None:
    """An ordinary file system gets no such note."""
    done = place.run(
        "from telemetry_kit import *\nfrom telemetry_kit.cli import main\nimport sys\n"
        "configure(app='flowspec')\n"
        "assert track_role_event('role.selected')\nmain(['status'])\nmain(['doctor'])"
    )

    assert "cannot be locked" not in done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_an_old_key_is_replaced(place, name: str) -> None:
    """A key that has served its 28 days is replaced without a lock, too."""
    epoch, secret = place.key.epoch, os.urandom(32).hex()
    place.key_file.write_text(f"v1 {epoch} 2023-01-01 {secret}\n")
    without_locks(place, "assert track_role_event('role.selected')", name)

    assert epoch + 1 == place.key.epoch


@pytest.mark.parametrize("name", NAMES)
def test_an_export_is_noted(place, name: str) -> None:
    """The log of exports is written without a lock, too."""
    code = (
        "assert track_role_event('role.selected')\n"
        "assert main(['export', '--format', 'jsonl', '-o', 'out.jsonl']) == 0"
    )
    without_locks(place, code, name)

    assert 1 == len((place.root / "out.jsonl").read_bytes().splitlines())
