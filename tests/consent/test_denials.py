"""A denial that cannot be written as usual: it needs no space, and an error says what goes on."""

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
    """Mounts a small disk over the user's folders, with what is in them; skips where it may not."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a file system")
    at = undecided.user

    def mount(options: str) -> Path:
        copy = at.parent / "copy"
        shutil.copytree(at, copy)
        command = ["mount", "-t", "tmpfs", "-o", options, "none", str(at)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"no file system can be mounted: {done.stderr.strip()[:60]}")
        shutil.copytree(copy, at, dirs_exist_ok=True)
        return at

    yield mount
    subprocess.run(["umount", "-l", str(at)], capture_output=True, check=False)


def fill(folder: Path) -> None:
    """Use up every block of a small disk."""
    with open(folder / "full", "wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4_096):
                pass
        except OSError:
            return


def records_events(place) -> bool:
    """Whether another program records an event."""
    code = (
        "from telemetry_kit import configure, track_role_event as t; configure(app='flowspec'); "
        "print(t('role.selected', role='dev') is not None)"
    )
    return place.run(code).stdout == "True\n"


def off(place, *args: str, **options):
    return place.python(*OFF, *args, **options)


def test_a_full_disk(place, mounted) -> None:
    """`off` needs no space: the record of the grant is overwritten in place."""
    fill(mounted("size=128k"))
    assert records_events(place)
    done = off(place)

    assert (done.returncode, "Recording is off" in done.stderr) == (0, True)
    assert place.record.read_text().startswith("v1 no ")
    assert not records_events(place)


def test_a_full_disk_and_a_grant_for_all_projects(undecided, mounted) -> None:
    """Where there is no record to overwrite, an empty one is made, and it denies."""
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


def test_no_byte_can_be_written(place) -> None:
    """A limit of 0 bytes for every file: the record is emptied, and an empty one denies."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
    code = "from telemetry_kit import *; configure(app='flowspec'); disable_telemetry()"
    done = place.run(limit + code)

    assert (done.returncode, done.stderr) == (0, "")
    assert place.record.read_bytes() == b""
    assert not records_events(place)


@pytest.mark.parametrize("args", [(), ("--all-projects",)], ids=["here", "everywhere"])
def test_a_read_only_home(place, mounted, args) -> None:
    """Where nothing can be written, the error says that recording goes on, and what stops it."""
    at = mounted("size=1m")
    subprocess.run(["mount", "-o", "remount,ro", str(at)], check=True)
    done = off(place, *args)

    assert done.returncode == 1
    assert "Other programs continue to record" in done.stderr
    assert "set FLOWSPEC_TELEMETRY_DISABLED=1 to stop them" in done.stderr
    assert records_events(place)
    stopped = {"FLOWSPEC_TELEMETRY_DISABLED": "1"}
    assert place.python("-m", "telemetry_kit", "status", "--check", env=stopped).returncode == 11


def test_a_read_only_home_that_granted_nothing(undecided, mounted) -> None:
    """Where nothing records, the error does not say that something goes on."""
    at = mounted("size=1m")
    subprocess.run(["mount", "-o", "remount,ro", str(at)], check=True)
    done = off(undecided)

    assert (done.returncode, "continue to record" in done.stderr) == (1, False)


def test_a_record_that_can_only_be_deleted(place) -> None:
    """Where the record cannot be overwritten, the grant is deleted, and recording is off."""
    os.link(place.record, place.record.with_name("twin"))
    code = (
        "import resource, os\nfrom telemetry_kit import *\nconfigure(app='flowspec')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\ndisable_telemetry()\n"
    )
    done = place.run(code)

    assert (done.returncode, done.stderr, place.record.exists()) == (0, "", False)
    assert not records_events(place)


def test_a_grant_of_the_other_kind_is_not_overlooked(place) -> None:
    """Deleting one grant is no denial while another one allows recording."""
    with cache.override_runtime(place.environ):
        changes.enable_telemetry(all_projects=True)
    os.link(place.record, place.record.with_name("twin"))
    code = (
        "import resource\nfrom telemetry_kit import *\nconfigure(app='flowspec')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\ndisable_telemetry()\n"
    )
    done = place.run(code)

    assert "Other programs continue to record" in done.stderr
    assert records_events(place)


def test_a_grant_needs_space(place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A grant that cannot be written is not written in another way."""
    before = place.record.read_bytes()
    monkeypatch.setattr(os, "rename", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(ConsentError, match="cannot be written"):
        changes.enable_telemetry()

    assert place.record.read_bytes() == before
    assert is_telemetry_enabled()


# -- programs that run -------------------------------------------------------------------------

RUNS = """
import sys
from telemetry_kit import configure, track_role_event
configure(app="flowspec")
for _ in sys.stdin:
    print(track_role_event("role.selected", role="dev") is not None, flush=True)
"""
