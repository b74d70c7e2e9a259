"""Denials that cannot be saved as usual: on full disks and in read-only directories."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from telemetry_kit import is_telemetry_enabled
from telemetry_kit.consent import cache, changes
from telemetry_kit.errors import ConsentError

OFF = ("-m", "telemetry_kit", "--app", "flowspec", "off")


@pytest.fixture
def mounted(undecided) -> Iterator[Callable[[str], Path]]:
    """A function that mounts a small file system with the user's files over their directory."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system")
    mounted_at = undecided.user

    def mount(options: str) -> Path:
        copy = mounted_at.parent / "copy"
        shutil.copytree(mounted_at, copy)
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(mounted_at)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no file system can be mounted: {done.stderr.strip()[:60]}")
        shutil.copytree(copy, mounted_at, dirs_exist_ok=True)
        return mounted_at

    yield mount
    subprocess.run(["umount", "-l", str(mounted_at)], capture_output=True, check=False)


def fill(folder: Path) -> None:
    """Fill every block of a small file system."""
    with open(folder / "full", "wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4_096):
                pass
        except OSError:
            return


def records_events(place) -> bool:
    """Return whether another program records an event."""
    code = (
        "from telemetry_kit import configure, track_role_event as t; configure(app='flowspec'); "
        "print(t('role.selected', role='dev') is not None)"
    )
    return place.run(code).stdout == "True\n"


def off(place, *args: str, **options):
    """Run the command `off` in the project."""
    return place.python(*OFF, *args, **options)


def test_off_on_a_full_disk(place, mounted) -> None:
    """On a full disk, `off` overwrites the record of the grant in place."""
    fill(mounted("size=128k"))
    assert records_events(place)
    done = off(place)

    assert (done.returncode, "Recording is off" in done.stderr) == (0, True)
    assert place.record.read_text().startswith("v1 no ")
    assert not records_events(place)


def test_off_on_a_full_disk_without_a_record(undecided, mounted) -> None:
    """If there is no record to overwrite, `off` creates an empty one, which denies."""
    with cache.override_runtime(undecided.environ):
        changes.enable_telemetry(all_projects=True)
    fill(mounted("size=128k"))
    assert records_events(undecided)
    done = off(undecided)

    assert (done.returncode, done.stderr.splitlines()[0]) == (
        0,
        f"Recording is off for {undecided.root}. Nothing is recorded any more.",
    )
    assert not records_events(undecided)


def test_off_if_no_byte_can_be_written(place) -> None:
    """If the file size limit is 0 bytes, the record is truncated, and an empty record denies."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    code = "from telemetry_kit import *; configure(app='flowspec'); disable_telemetry()"
    done = place.run(limit + code)

    assert (done.returncode, done.stderr) == (0, "")
    assert place.record.read_bytes() == b""
    assert not records_events(place)


@pytest.mark.parametrize("args", [(), ("--all-projects",)], ids=["here", "everywhere"])
def test_off_in_a_read_only_home(place, mounted, args) -> None:
    """If no file can be written, the error reports that recording continues, and how to stop it."""
    mounted_at = mounted("size=1m")
    subprocess.run(["mount", "-o", "remount,ro", str(mounted_at)], check=True)
    done = off(place, *args)

    assert done.returncode == 1
    assert "Other programs continue to record" in done.stderr
    assert "set FLOWSPEC_TELEMETRY_DISABLED=1 to stop them" in done.stderr
    assert records_events(place)
    stopped = {"FLOWSPEC_TELEMETRY_DISABLED": "1"}
    assert place.python("-m", "telemetry_kit", "status", "--check", env=stopped).returncode == 11


def test_off_in_a_read_only_home_without_a_grant(undecided, mounted) -> None:
    """If there is no grant, the error does not report that recording continues."""
    mounted_at = mounted("size=1m")
    subprocess.run(["mount", "-o", "remount,ro", str(mounted_at)], check=True)
    done = off(undecided)

    assert (done.returncode, "continue to record" in done.stderr) == (1, False)


def test_off_deletes_a_record_that_it_cannot_overwrite(place) -> None:
    """If the record cannot be overwritten, `off` deletes it, and recording is off."""
    os.link(place.record, place.record.with_name("second"))
    code = (
        "import resource, os\nfrom telemetry_kit import *\nconfigure(app='flowspec')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\ndisable_telemetry()\n"
    )
    done = place.run(code)

    assert (done.returncode, done.stderr, place.record.exists()) == (0, "", False)
    assert not records_events(place)


def test_a_grant_for_all_projects_is_reported(place) -> None:
    """If a grant for all projects remains, the error reports that recording continues."""
    with cache.override_runtime(place.environ):
        changes.enable_telemetry(all_projects=True)
    os.link(place.record, place.record.with_name("second"))
    code = (
        "import resource\nfrom telemetry_kit import *\nconfigure(app='flowspec')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\ndisable_telemetry()\n"
    )
    done = place.run(code)

    assert "Other programs continue to record" in done.stderr
    assert records_events(place)


def test_a_grant_that_cannot_be_saved(place, monkeypatch: pytest.MonkeyPatch) -> None:
    """If a grant cannot be written, the record does not change."""
    before = place.record.read_bytes()
    monkeypatch.setattr(os, "rename", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(ConsentError, match="cannot be written"):
        changes.enable_telemetry()

    assert place.record.read_bytes() == before
    assert is_telemetry_enabled()
