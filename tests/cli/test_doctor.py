"""`telemetry-kit doctor`: what it finds, what it mends, and what it leaves alone."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from telemetry_kit import track_role_event
from telemetry_kit.journal import upkeep

DAY = "2024-02-28"


def doctor(place, *args: str, **env: str):
    return place.python("-m", "telemetry_kit", "doctor", *args, env=env)


def findings(done) -> dict[str, dict]:
    """The findings by name; of several with one name, the worst."""
    rank = {"ok": 0, "note": 1, "bad": 2}
    return {f["name"]: f for f in sorted(json.loads(done.stdout), key=lambda f: rank[f["state"]])}


@pytest.fixture
def recorded(place):
    """A project with a sealed and an active log, which nobody holds open."""
    for _ in range(2):
        done = place.run("from telemetry_kit import *; track_role_event('role.selected')")
        assert done.returncode == 0, done.stderr
        if place.log.exists() and not list(place.log.parent.glob("telemetry-*")):
            upkeep.seal(place.home, DAY)
    return place


def test_all_is_well(recorded) -> None:
    """Exit 0, one finding for each thing, none of them bad."""
    done = doctor(recorded, "--json")

    assert 0 == done.returncode, done.stdout + done.stderr
    assert {"ok", "note"} >= {f["state"] for f in json.loads(done.stdout)}
    assert {"consent", "key", "folder", "git", "lease", "sealed", "archive"} <= set(findings(done))
    assert {"leftovers", "breaker", "retention"} <= set(findings(done))


def test_nothing_was_decided(undecided) -> None:
    """Nothing is wrong, and looking makes nothing."""
    before = undecided.tree()
    done = doctor(undecided, "--json")

    assert (0, "note") == (done.returncode, findings(done)["consent"]["state"])
    assert before == undecided.tree()


@pytest.mark.parametrize(("name", "right"), [("telemetry.jsonl", 0o600), ("sealed", 0o400)])
def test_modes_are_mended(recorded, name: str, right: int) -> None:
    """A file that is open to others fails the check; --fix closes it as it must be."""
    path = recorded.log
    if name == "sealed":
        (path,) = recorded.log.parent.glob("telemetry-*.jsonl")
    path.chmod(0o644)
    # A reader that holds the lease: each command packs what nobody holds.
    with open(path, "rb") as held:
        import fcntl

        fcntl.flock(held, fcntl.LOCK_SH)
        first = doctor(recorded)
        second = doctor(recorded, "--fix")

    assert (1, 0) == (first.returncode, second.returncode), second.stdout + second.stderr
    assert "fixed" in second.stdout
    assert right == path.stat().st_mode & 0o777


def test_the_ignore_file_is_mended(recorded) -> None:
    """Events that git would take fail the check; --fix adds our lines and keeps the others."""
    subprocess.run(["git", "init", "-q", str(recorded.root)], check=True)
    ignore = Path(recorded.home.ignore)
    ignore.write_text("theirs\n")
    first, second, third = (doctor(recorded, *a) for a in ((), ("--fix",), ()))

    assert [1, 0, 0] == [first.returncode, second.returncode, third.returncode]
    assert ignore.read_text().startswith("theirs\n")


def test_an_ignore_file_that_is_a_link(recorded, tmp_path) -> None:
    """What it leads to is not written to; the check goes on failing."""
    subprocess.run(["git", "init", "-q", str(recorded.root)], check=True)
    outside = tmp_path / "outside"
    outside.write_text("theirs\n")
    ignore = Path(recorded.home.ignore)
    ignore.unlink()
    ignore.symlink_to(outside)
    done = doctor(recorded, "--fix")

    assert 1 == done.returncode
    assert "theirs\n" == outside.read_text()


def test_leftovers(recorded) -> None:
    """What a killed command left is named, and goes with --fix."""
    left = Path(recorded.home.folder, ".telemetry-x.tmp")
    left.write_bytes(b"")
    done = doctor(recorded, "--fix")

    assert (0, False) == (done.returncode, left.exists())


def test_a_lease_is_shown(place) -> None:
    """A program that has the log open is told of, and goes on afterwards."""
    from telemetry_kit import gate
    from telemetry_kit.latch import World

    with gate.Elsewhere(World(place.environ)):
        assert track_role_event("role.selected")
        done = doctor(place, "--json")
        assert track_role_event("role.selected")

    assert "telemetry.jsonl" in findings(done)["lease"]["says"]


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_something_else_in_the_logs_place(place, tmp_path, kind: str) -> None:
    """It fails the check, is not mended, and is left as it is."""
    os.mkdir(place.home.folder, 0o700)
    outside = tmp_path / "outside"
    outside.write_bytes(b"theirs")
    outside.chmod(0o644)
    if kind == "link":
        place.log.symlink_to(outside)
    else:
        place.log.mkdir()
    done = doctor(place, "--fix")

    assert 1 == done.returncode
    assert (b"theirs", 0o644) == (outside.read_bytes(), outside.stat().st_mode & 0o777)


def test_an_archive_that_cannot_be_read(recorded) -> None:
    """Of the packing that this interpreter lacks: the check fails and says what to do."""
    (sealed,) = recorded.log.parent.glob("telemetry-*.jsonl")
    recorded.log.parent.joinpath("telemetry-2024-01-01.jsonl.zst").write_bytes(b"")
    sealed.with_name("telemetry-2024-01-01.jsonl.zst").chmod(0o600)
    code = (
        "import sys\nsys.argv[1:] = ['doctor', '--json']\n"
        "from telemetry_kit.journal import packing\npacking.READING = ()\n"
        "from telemetry_kit.cli import main\nsys.exit(main())"
    )
    done = recorded.run(code)
    found = findings(done)["archive"]

    assert (1, "bad") == (done.returncode, found["state"])
    assert "install backports.zstd" in found["says"]


def test_lines_that_stay_in_doubt(place) -> None:
    """Old lines that nothing but today's clock calls old: it says what would delete them."""
    place.log.parent.mkdir(mode=0o700)
    place.log.write_bytes(
        b'{"schema_version":"1.0","event_id":"0123456789abcdef",'
        b'"event_type":"role.selected","timestamp":"2019-05-06T00:00:00Z"}\n'
    )
    place.log.chmod(0o600)
    done = doctor(place, "--json")
    found = findings(done)["retention"]
    wanted = found["says"].partition("clear --before ")[2].partition(" ")[0]
    cleared = place.python("-m", "telemetry_kit", "clear", "--before", wanted, "--yes")

    assert (0, "note") == (done.returncode, found["state"])
    assert "lines of 2019-05-06 stay" in found["says"]
    assert (0, "Deleted 1 events") == (cleared.returncode, (cleared.stdout + cleared.stderr)[:16])
    assert [] == place.lines()


def test_a_clock_that_was_ahead(recorded) -> None:
    """A segment of a day to come is named."""
    upkeep.seal(recorded.home, "2099-06-01")
    done = doctor(recorded, "--json")

    assert (0, "note") == (done.returncode, findings(done)["clock"]["state"])
    assert "a segment is of 2099-06-01" in findings(done)["clock"]["says"]
