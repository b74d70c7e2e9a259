"""`telemetry-kit doctor` finds problems, repairs some of them, and leaves other files unchanged."""

import gzip
import json
import os
import subprocess
from pathlib import Path

import pytest

from telemetry_kit import track_role_event
from telemetry_kit.storage import rotation

DAY = "2024-02-28"


def doctor(place, *args: str, **env: str):
    """Run `telemetry-kit doctor` in the project."""
    return place.python("-m", "telemetry_kit", "doctor", *args, env=env)


def findings(done) -> dict[str, dict]:
    """Return the findings by name. Of several with one name, return the worst."""
    rank = {"ok": 0, "note": 1, "bad": 2}
    return {f["name"]: f for f in sorted(json.loads(done.stdout), key=lambda f: rank[f["state"]])}


@pytest.fixture
def recorded(place):
    """Make a project with a rotated file and an active log that no process has open."""
    for _ in range(2):
        done = place.run("from telemetry_kit import *; track_role_event('role.selected')")
        assert done.returncode == 0, done.stderr
        if place.log.exists() and not list(place.log.parent.glob("telemetry-*")):
            rotation.seal(place.home, DAY)
    return place


def test_no_problem(recorded) -> None:
    """Without a problem, the exit code is 0, and each check has a finding."""
    done = doctor(recorded, "--json")

    assert 0 == done.returncode, done.stdout + done.stderr
    assert {"ok", "note"} >= {f["state"] for f in json.loads(done.stdout)}
    assert {"consent", "key", "folder", "git", "lease", "sealed", "archive"} <= set(findings(done))
    assert {"leftovers", "breaker", "retention"} <= set(findings(done))


def test_without_a_decision(undecided) -> None:
    """Without a decision, the check passes and creates no file."""
    before = undecided.tree()
    done = doctor(undecided, "--json")

    assert (0, "note") == (done.returncode, findings(done)["consent"]["state"])
    assert before == undecided.tree()


@pytest.mark.parametrize(("name", "expected_mode"), [("telemetry.jsonl", 0o600), ("sealed", 0o400)])
def test_modes_are_repaired(recorded, name: str, expected_mode: int) -> None:
    """A file that other users can read fails the check, and `--fix` repairs its mode."""
    path = recorded.log
    if name == "sealed":
        (path,) = recorded.log.parent.glob("telemetry-*.jsonl")
    path.chmod(0o644)
    # The lock of a reader stops the command from compressing the file.
    with open(path, "rb") as locked:
        import fcntl

        fcntl.flock(locked, fcntl.LOCK_SH)
        first = doctor(recorded)
        second = doctor(recorded, "--fix")

    assert (1, 0) == (first.returncode, second.returncode), second.stdout + second.stderr
    assert "fixed" in second.stdout
    assert expected_mode == path.stat().st_mode & 0o777


def test_the_ignore_file_is_repaired(recorded) -> None:
    """Events that git would track fail the check.

    `--fix` adds the missing lines of the ignore file.
    """
    subprocess.run(["git", "init", "-q", str(recorded.root)], check=True)
    ignore = Path(recorded.home.ignore)
    ignore.write_text("theirs\n")
    first, second, third = (doctor(recorded, *a) for a in ((), ("--fix",), ()))

    assert [1, 0, 0] == [first.returncode, second.returncode, third.returncode]
    assert ignore.read_text().startswith("theirs\n")


def test_an_ignore_file_that_is_a_link(recorded, tmp_path) -> None:
    """The target of the link is unchanged, and `--fix` adds the lines to the git exclude file."""
    subprocess.run(["git", "init", "-q", str(recorded.root)], check=True)
    outside = tmp_path / "outside"
    outside.write_text("theirs\n")
    ignore = Path(recorded.home.ignore)
    ignore.unlink()
    ignore.symlink_to(outside)
    done = doctor(recorded, "--fix")

    assert 0 == done.returncode
    assert "theirs\n" == outside.read_text()
    assert "/.flowspec/telemetry*" in (recorded.root / ".git/info/exclude").read_text()


def test_leftovers(recorded) -> None:
    """`--fix` deletes the temporary file of a killed command."""
    leftover = Path(recorded.home.folder, ".telemetry-x.tmp")
    leftover.write_bytes(b"")
    done = doctor(recorded, "--fix")

    assert (0, False) == (done.returncode, leftover.exists())


def test_a_lease_is_shown(place) -> None:
    """A program that has the log open is reported, and it continues to record."""
    from telemetry_kit.consent import cache

    with cache.override_runtime(place.environ):
        assert track_role_event("role.selected")
        done = doctor(place, "--json")
        assert track_role_event("role.selected")

    assert "telemetry.jsonl" in findings(done)["lease"]["says"]


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_log_that_is_a_link_or_a_folder(place, tmp_path, kind: str) -> None:
    """A link or a folder with the name of the log fails the check and is left unchanged."""
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
    """An archive in an unsupported compression fails the check.

    The message names the package to install.
    """
    (sealed,) = recorded.log.parent.glob("telemetry-*.jsonl")
    recorded.log.parent.joinpath("telemetry-2024-01-01.jsonl.zst").write_bytes(b"")
    sealed.with_name("telemetry-2024-01-01.jsonl.zst").chmod(0o600)
    code = (
        "import sys\nsys.argv[1:] = ['doctor', '--json']\n"
        "from telemetry_kit.storage import compression as packing\npacking.READING = ()\n"
        "from telemetry_kit.cli import main\nsys.exit(main())"
    )
    done = recorded.run(code)
    found = findings(done)["archive"]

    assert (1, "bad") == (done.returncode, found["state"])
    assert "install backports.zstd" in found["says"]


def test_old_lines_that_do_not_expire(place) -> None:
    """If only the current clock calls old lines expired, they remain.

    The message names a command that deletes them.
    """
    place.log.parent.mkdir(mode=0o700)
    place.log.write_bytes(
        b'{"schema_version":"1.0","event_id":"0123456789abcdef",'
        b'"event_type":"role.selected","timestamp":"2019-05-06T00:00:00Z"}\n'
    )
    place.log.chmod(0o600)
    done = doctor(place, "--json")
    found = findings(done)["retention"]
    day = found["says"].partition("clear --before ")[2].partition(" ")[0]
    cleared = place.python("-m", "telemetry_kit", "clear", "--before", day, "--yes")

    assert (0, "note") == (done.returncode, found["state"])
    assert "lines of 2019-05-06 stay" in found["says"]
    assert (0, "Deleted 1 event ") == (cleared.returncode, (cleared.stdout + cleared.stderr)[:16])
    assert [] == place.lines()


def test_a_clock_that_was_ahead(recorded) -> None:
    """A rotated file with a future date is reported."""
    rotation.seal(recorded.home, "2099-06-01")
    done = doctor(recorded, "--json")

    assert (0, "note") == (done.returncode, findings(done)["clock"]["state"])
    assert "a segment is of 2099-06-01" in findings(done)["clock"]["says"]


# -- lock and folder ---------------------------------------------------------------------------


def test_a_lock_file_that_cannot_be_opened(recorded) -> None:
    """A lock file that cannot be opened fails the check, and `--fix` repairs its mode."""
    lock = Path(recorded.home.lock)
    lock.touch()
    lock.chmod(0o666)
    first, second = doctor(recorded, "--json"), doctor(recorded, "--fix")

    assert (1, "bad") == (first.returncode, findings(first)["lock"]["state"])
    assert (0, 0o600) == (second.returncode, lock.stat().st_mode & 0o777), second.stdout
    lock.unlink()
    lock.mkdir()
    third = doctor(recorded, "--fix", "--json")
    assert (1, False) == (third.returncode, findings(third)["lock"]["fixed"])
    assert "move it away" in findings(third)["lock"]["says"]


def test_a_locked_project(recorded) -> None:
    """If another process has the lock, the finding names its process id."""
    with rotation.maintenance(recorded.home):
        done = doctor(recorded, "--json")

    assert (0, "note") == (done.returncode, findings(done)["lock"]["state"])
    assert f"held by process {os.getpid()}" in findings(done)["lock"]["says"]


def test_a_folder_that_is_a_link(recorded, tmp_path) -> None:
    """A log directory that is a link fails the check, and its target is not changed."""
    outside = tmp_path / "secret"
    outside.mkdir(mode=0o700)
    folder = Path(recorded.home.folder)
    folder.rename(tmp_path / "before")
    folder.symlink_to(outside)
    done = doctor(recorded, "--fix", "--json")

    assert (1, "bad") == (done.returncode, findings(done)["folder"]["state"])
    assert "lease" not in findings(done)
    assert (0o700, []) == (outside.stat().st_mode & 0o777, list(outside.iterdir()))


@pytest.mark.parametrize(
    ("mode", "expected_mode"), [(0o777, 0o755), (0o500, 0o700), (0o722, 0o700)]
)
def test_a_folder_is_repaired(recorded, mode: int, expected_mode: int) -> None:
    """`--fix` removes write access of other users and adds that of the owner."""
    folder = Path(recorded.home.folder)
    folder.chmod(mode)
    first, second = doctor(recorded), doctor(recorded, "--fix")

    assert (1, 0) == (first.returncode, second.returncode), second.stdout + second.stderr
    assert expected_mode == folder.stat().st_mode & 0o777


@pytest.mark.parametrize("kind", ["log", "sealed", "lock"])
def test_a_hard_link_is_not_repaired(recorded, tmp_path, kind: str) -> None:
    """A file with a second hard link fails the check and is left unchanged."""
    path = {
        "log": recorded.log,
        "sealed": recorded.log.parent / "telemetry-2024-01-01.jsonl",
        "lock": Path(recorded.home.lock),
    }[kind]
    outside = tmp_path / "precious"
    outside.write_bytes(b"precious\n")
    outside.chmod(0o644)
    path.unlink(missing_ok=True)
    os.link(outside, path)
    done = doctor(recorded, "--fix")

    assert 1 == done.returncode
    assert (b"precious\n", 0o644) == (outside.read_bytes(), outside.stat().st_mode & 0o777)


# -- git ---------------------------------------------------------------------------------------


def test_an_ignore_file_without_a_final_newline(recorded) -> None:
    """The last pattern of the ignore file is unchanged and has its effect."""
    subprocess.run(["git", "init", "-q", str(recorded.root)], check=True)
    Path(recorded.home.ignore).write_text("secret.env")
    Path(recorded.home.folder, "secret.env").touch()
    done = doctor(recorded, "--fix")
    shown = subprocess.run(
        ["git", "-C", str(recorded.root), "status", "--short", "-uall"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert (0, "?? .flowspec/.gitignore\n") == (done.returncode, shown.stdout)
    assert "secret.env" == Path(recorded.home.ignore).read_text()


def test_events_under_version_control(recorded) -> None:
    """If git tracks the log, the message names the command that removes it from the index."""
    git = ["git", "-C", str(recorded.root)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "-f", str(recorded.log)], check=True)
    done = doctor(recorded, "--fix", "--json")

    assert (1, "bad") == (done.returncode, findings(done)["git"]["state"])
    assert "git rm --cached" in findings(done)["git"]["says"]


def test_a_project_inside_a_repository(recorded) -> None:
    """The check finds a repository in a parent directory."""
    subprocess.run(["git", "init", "-q", str(recorded.root.parent)], check=True)
    Path(recorded.home.ignore).write_text("")
    first, second = doctor(recorded, "--json"), doctor(recorded, "--fix")

    assert (1, "bad") == (first.returncode, findings(first)["git"]["state"])
    assert 0 == second.returncode, second.stdout


# -- key and stored files -----------------------------------------------------------------------


@pytest.mark.parametrize("problem", ["gone", "open to others"])
def test_a_key_is_repaired(recorded, problem: str) -> None:
    """`--fix` creates a missing key or repairs its mode, and events are recorded."""
    key = recorded.key_file
    before = key.read_bytes()
    if problem == "gone":
        key.unlink()
    else:
        key.chmod(0o644)
    first, second = doctor(recorded, "--json"), doctor(recorded, "--fix")
    done = recorded.run("from telemetry_kit import *; assert track_role_event('role.selected')")

    assert (1, "bad") == (first.returncode, findings(first)["key"]["state"])
    assert (0, 0o600) == (second.returncode, key.stat().st_mode & 0o777), second.stdout
    assert (problem == "gone") == (before != key.read_bytes())
    assert 0 == done.returncode, done.stderr


def test_clear_creates_a_missing_key(recorded) -> None:
    """`clear` creates a missing key."""
    recorded.key_file.unlink()
    done = recorded.python("-m", "telemetry_kit", "clear", "--yes")

    assert 0 == done.returncode
    assert recorded.key.epoch == 1


@pytest.mark.parametrize("kind", ["link", "folder", "pipe", "cut off"])
def test_unreadable_files_are_named(recorded, kind: str) -> None:
    """Another file type with the name of an archive is reported, and a damaged archive too."""
    path = recorded.log.parent / "telemetry-2024-01-01.jsonl.gz"
    if kind == "link":
        path.symlink_to("/etc/hostname")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    else:
        path.write_bytes(gzip.compress(recorded.log.read_bytes() * 50)[:-20])
        path.chmod(0o600)
    done = doctor(recorded, "--json")
    bad = [f for f in json.loads(done.stdout) if f["state"] == "bad"]

    assert 1 == done.returncode
    assert [True] == [path.name in f["says"] for f in bad]


def test_a_folder_does_not_hide_an_archive(recorded) -> None:
    """A folder with the name of a rotated file does not hide the archive of that day."""
    assert 0 == doctor(recorded).returncode
    (archive,) = recorded.log.parent.glob("telemetry-*.jsonl.gz")
    archive.with_suffix("").mkdir()
    done = recorded.python("-m", "telemetry_kit", "view", "--json")

    assert 2 == done.stdout.count("role.selected")


def test_leftovers_without_a_log(place) -> None:
    """`--fix` deletes leftovers without a log, and reports one that it cannot delete."""
    folder = Path(place.home.folder)
    folder.mkdir(mode=0o700)
    leftover = folder / ".telemetry-x.tmp"
    leftover.touch()
    done = doctor(place, "--fix")

    assert (0, False) == (done.returncode, leftover.exists())
    leftover.mkdir()
    done = doctor(place, "--fix", "--json")
    assert (1, "bad") == (done.returncode, findings(done)["leftovers"]["state"])
    assert "move it away" in findings(done)["leftovers"]["says"]


def test_the_last_error(place) -> None:
    """The last internal error of a program is reported without the names of the event."""
    place.log.parent.mkdir(mode=0o700)
    place.log.mkdir()
    done = place.run(
        "from telemetry_kit import *; assert track_role_event('role.selected', role='x') is None"
    )
    assert (0, "") == (done.returncode, done.stderr)
    place.log.rmdir()
    found = doctor(place, "--json")
    error = Path(place.key_file.parent, "last-error")

    assert (0, "note") == (found.returncode, findings(found)["last error"]["state"])
    assert "EISDIR, on " in findings(found)["last error"]["says"]
    assert 0o600 == error.stat().st_mode & 0o777
    assert len("2026-11-25 EISDIR\n") == len(error.read_bytes())


def test_an_internal_error_is_saved(place, monkeypatch) -> None:
    """An internal error is saved as the name of its builtin exception class."""
    from telemetry_kit.recording import pipeline

    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    monkeypatch.setattr(pipeline, "line_format", lambda _names: 1 / 0)

    assert track_role_event("role.selected") is None
    assert b"ZeroDivisionError" in Path(place.key_file.parent, "last-error").read_bytes()


def test_the_check_locks_no_log(recorded) -> None:
    """The check for open logs takes no exclusive lock on them."""
    done = recorded.run(
        "import fcntl, sys\n"
        "real = fcntl.flock\n"
        "def flock(fd, how):\n"
        "    import os\n"
        "    name = os.readlink(f'/proc/self/fd/{fd}')\n"
        "    assert not (name.endswith('telemetry.jsonl') and how & fcntl.LOCK_EX), name\n"
        "    return real(fd, how)\n"
        "fcntl.flock = flock\n"
        "sys.argv[1:] = ['doctor']\n"
        "from telemetry_kit.cli import main\nsys.exit(main())"
    )

    assert 0 == done.returncode, done.stderr
