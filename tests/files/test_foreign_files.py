"""Pipes, devices and hard links in place of the files that commands and the recorder read."""

import json
import os
import resource
import subprocess
from pathlib import Path

import pytest

from telemetry_kit.consent import transaction
from telemetry_kit.export import log
from telemetry_kit.privacy.projects import ProjectDirs

EVENT = "from telemetry_kit import *\nconfigure(app='flowspec')\n"
EVENT += "print(bool(track_role_event('role.selected')), is_telemetry_enabled())"


def limit_memory() -> None:
    """Limit a child process to 1 GiB of memory."""
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))


def command(place, *arguments: str):
    """Run a command with bounded memory and, by the timeout of `python()`, bounded time."""
    return place.python("-m", "telemetry_kit", *arguments, preexec_fn=limit_memory, timeout=30)


def misplace(path: Path, kind: str) -> None:
    """Put a pipe or a link to a device in place of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", ["pyproject.toml", ".flowspec/telemetry.toml"])
def test_a_misplaced_file_of_the_repository(place, name: str, kind: str) -> None:
    """No command hangs or runs out of memory. `status` names the file."""
    misplace(place.root / name, kind)
    for arguments in (("status", "--json"), ("doctor",), ("verify",)):
        done = command(place, *arguments)
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 1), done.stderr
        assert arguments[0] != "status" or f"{name} cannot be read" in done.stdout


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_the_host_does_not_wait(place, kind: str) -> None:
    """In the recording program, such a file counts as a denial."""
    misplace(place.root / "pyproject.toml", kind)
    done = place.run(EVENT, preexec_fn=limit_memory, timeout=30)

    assert (0, "False False\n", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize(
    "name", [".git", ".git/config", ".git/logs/HEAD", ".git/index", "../home/.gitconfig"]
)
def test_a_misplaced_file_of_git(place, name: str, kind: str) -> None:
    """Only regular files of a repository are read, up to a limit."""
    if name != ".git":
        subprocess.run(["git", "init", "-q", str(place.root)], check=True)
    misplace(place.root / name, kind)
    for arguments in (("doctor",), ("verify",)):
        done = command(place, *arguments)
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 1), done.stderr


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_verify_rejects_a_pipe_or_a_device(place, tmp_path, kind: str) -> None:
    """`verify` rejects a pipe or a device with one sentence."""
    misplace(tmp_path / "given", kind)
    done = command(place, "verify", str(tmp_path / "given"))

    assert 1 == done.returncode
    assert "cannot look into given: it is no plain file" in done.stderr
    assert 1 == len(done.stderr.splitlines())


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", ["telemetry-rollup.json", "telemetry-2024-02-28.jsonl.gz"])
def test_a_misplaced_stored_file(place, name: str, kind: str) -> None:
    """Commands work with a pipe or a device among the stored files."""
    assert "True True\n" == place.run(EVENT).stdout
    misplace(place.log.parent / name, kind)
    for arguments in (("verify",), ("stats",), ("doctor",), ("status",)):
        done = command(place, *arguments)
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 1), done.stderr


def test_a_repository_does_not_run_programs(place, tmp_path) -> None:
    """`doctor` and `verify` do not run programs that the configuration of the repository names."""
    git = ["git", "-C", str(place.root)]
    subprocess.run([*git, "init", "-q"], check=True)
    assert "True True\n" == place.run(EVENT).stdout
    subprocess.run([*git, "add", "-f", str(place.log)], check=True)
    marker, program = tmp_path / "it-ran", tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $0 >> {marker}\n")
    program.chmod(0o755)
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks/post-index-change").symlink_to(program)
    included = tmp_path / "more"
    included.write_text(f"[core]\n\tfsmonitor = {program}\n\thooksPath = {tmp_path}/hooks\n")
    subprocess.run([*git, "config", "include.path", str(included)], check=True)
    for arguments in (("doctor",), ("doctor", "--fix"), ("verify",)):
        done = command(place, *arguments)
        assert done.returncode in (0, 1), done.stderr

    assert not marker.exists()
    subprocess.run([*git, "status"], check=True, capture_output=True)
    assert marker.exists()


# -- hard links ----------------------------------------------------------------------------------


def add_hard_link(path: Path, tmp_path: Path) -> Path:
    """Create a file of another program with `path` as a second hard link."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious\n")
    outside.chmod(0o644)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.link(outside, path)
    return outside


def is_unchanged(outside: Path) -> bool:
    """Return whether the bytes and the mode of the file are unchanged."""
    return (b"precious\n", 0o644) == (outside.read_bytes(), outside.stat().st_mode & 0o777)


def test_doctor_does_not_repair_a_foreign_ignore_file(place, tmp_path) -> None:
    """If `.gitignore` is a hard link, `--fix` leaves it and writes git's exclude file."""
    subprocess.run(["git", "init", "-q", str(place.root)], check=True)
    assert "True True\n" == place.run(EVENT).stdout
    outside = add_hard_link(Path(place.home.ignore), tmp_path)
    done = command(place, "doctor", "--fix", "--json")
    (found,) = (f for f in json.loads(done.stdout) if f["name"] == "git")

    assert (0, True) == (done.returncode, is_unchanged(outside))
    assert (found["fixed"], "is not ignored by git" in found["says"]) == (True, True)
    git = ["git", "-C", str(place.root), "check-ignore", "-q", ".flowspec/telemetry.jsonl"]
    assert 0 == subprocess.run(git, check=False).returncode


def test_a_foreign_export_log(place, tmp_path) -> None:
    """If the export log is a hard link, it is not written and the error names it."""
    outside = add_hard_link(Path(log.path_of(place.home)), tmp_path)
    done = command(place, "export", "--format", "json", "-o", str(tmp_path / "out.json"))

    assert is_unchanged(outside)
    assert 1 == done.returncode
    assert "exports.jsonl is not a plain file of yours alone" in done.stderr


@pytest.mark.parametrize("which", ["names", "error", "deciding"])
def test_the_recorder_does_not_write_a_foreign_file(place, tmp_path, which: str) -> None:
    """The recorder does not write declared names, the last error or the lock to a hard link."""
    dirs = ProjectDirs.of(place.home)
    path = {
        "names": dirs.names,
        "error": dirs.last_error,
        "deciding": f"{place.home.config}/{transaction.LOCK}",
    }[which]
    outside = add_hard_link(Path(path), tmp_path)
    outside.chmod(0o600)
    done = place.run(
        "from telemetry_kit import *\n"
        "from telemetry_kit.recording import recorder\n"
        "from telemetry_kit.consent import cache\n"
        "configure(app='flowspec', agents=['ada'])\n"
        "print(bool(track_role_event('agent.invoked', agent='ada')))\n"
        "recorder.save_error(cache.lookup().paths, 'ENOSPC')\n"
        "disable_telemetry()\n"
    )
    outside.chmod(0o644)

    assert (0, "True\n", "") == (done.returncode, done.stdout, done.stderr)
    assert is_unchanged(outside)
    assert os.path.samefile(outside, path)


def test_a_foreign_maintenance_lock(place, tmp_path) -> None:
    """If the lock is a hard link, nothing is deleted and the command names the lock."""
    assert "True True\n" == place.run(EVENT).stdout
    outside = add_hard_link(Path(place.home.lock), tmp_path)
    done = command(place, "clear", "--yes")

    assert 1 == done.returncode
    assert str(place.home.lock) in done.stderr
    assert is_unchanged(outside)
