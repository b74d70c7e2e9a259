"""Files of others in the places that commands and recorder look at: pipes, devices, hard links."""

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


def limited() -> None:
    """Let a child process have one gibibyte of memory."""
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))


def command(place, *words: str):
    """Run a command in bounded memory and, by the limit of `python()`, in bounded time."""
    return place.python("-m", "telemetry_kit", *words, preexec_fn=limited, timeout=30)


def put(path: Path, kind: str) -> None:
    """Something that is no file in the place of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", ["pyproject.toml", ".flowspec/telemetry.toml"])
def test_a_repository_file_that_is_none(place, name: str, kind: str) -> None:
    """No command hangs or runs out of memory; `status` names the file."""
    put(place.root / name, kind)
    for words in (("status", "--json"), ("doctor",), ("verify",)):
        done = command(place, *words)
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 1), done.stderr
        assert words[0] != "status" or f"{name} cannot be read" in done.stdout


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_the_host_does_not_wait(place, kind: str) -> None:
    """In the recording program such a file denies."""
    put(place.root / "pyproject.toml", kind)
    done = place.run(EVENT, preexec_fn=limited, timeout=30)

    assert (0, "False False\n", "") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize(
    "name", [".git", ".git/config", ".git/logs/HEAD", ".git/index", "../home/.gitconfig"]
)
def test_a_file_of_git_that_is_none(place, name: str, kind: str) -> None:
    """What is read from a repository are regular files, their first bytes only."""
    if name != ".git":
        subprocess.run(["git", "init", "-q", str(place.root)], check=True)
    put(place.root / name, kind)
    for words in (("doctor",), ("verify",)):
        done = command(place, *words)
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 1), done.stderr


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_verify_of_what_is_no_file(place, tmp_path, kind: str) -> None:
    """A pipe or a device is refused in one sentence."""
    put(tmp_path / "given", kind)
    done = command(place, "verify", str(tmp_path / "given"))

    assert 1 == done.returncode
    assert "given is not a regular file" in done.stderr
    assert 1 == len(done.stderr.splitlines())


@pytest.mark.parametrize("kind", ["pipe", "device"])
@pytest.mark.parametrize("name", ["telemetry-rollup.json", "telemetry-2024-02-28.jsonl.gz"])
def test_a_stored_file_that_is_none(place, name: str, kind: str) -> None:
    """Commands go on where something else stands among the stored files."""
    assert "True True\n" == place.run(EVENT).stdout
    put(place.log.parent / name, kind)
    for words in (("verify",), ("stats",), ("doctor",), ("status",)):
        done = command(place, *words)
        assert "Traceback" not in done.stderr
        assert done.returncode in (0, 1), done.stderr


def test_a_repository_does_not_run_programs(place, tmp_path) -> None:
    """What its configuration names is not started by `doctor` and `verify`."""
    git = ["git", "-C", str(place.root)]
    subprocess.run([*git, "init", "-q"], check=True)
    assert "True True\n" == place.run(EVENT).stdout
    subprocess.run([*git, "add", "-f", str(place.log)], check=True)
    witness, program = tmp_path / "it-ran", tmp_path / "program"
    program.write_text(f"#!/bin/sh\necho $0 >> {witness}\n")
    program.chmod(0o755)
    (tmp_path / "hooks").mkdir()
    (tmp_path / "hooks/post-index-change").symlink_to(program)
    more = tmp_path / "more"
    more.write_text(f"[core]\n\tfsmonitor = {program}\n\thooksPath = {tmp_path}/hooks\n")
    subprocess.run([*git, "config", "include.path", str(more)], check=True)
    for words in (("doctor",), ("doctor", "--fix"), ("verify",)):
        done = command(place, *words)
        assert done.returncode in (0, 1), done.stderr

    assert not witness.exists()
    subprocess.run([*git, "status"], check=True, capture_output=True)
    assert witness.exists()


# -- a second name -------------------------------------------------------------------------------


def second_name(path: Path, tmp_path: Path) -> Path:
    """Somebody's file, of which `path` is another name."""
    outside = tmp_path / "outside"
    outside.write_bytes(b"precious\n")
    outside.chmod(0o644)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.link(outside, path)
    return outside


def is_as_it_was(outside: Path) -> bool:
    """Whether neither bytes nor mode of the file changed."""
    return (b"precious\n", 0o644) == (outside.read_bytes(), outside.stat().st_mode & 0o777)


def test_doctor_does_not_mend_a_foreign_ignore_file(place, tmp_path) -> None:
    """Where `.gitignore` has a second name, --fix leaves it and writes git's own exclude file."""
    subprocess.run(["git", "init", "-q", str(place.root)], check=True)
    assert "True True\n" == place.run(EVENT).stdout
    outside = second_name(Path(place.home.ignore), tmp_path)
    done = command(place, "doctor", "--fix", "--json")
    (found,) = (f for f in json.loads(done.stdout) if f["name"] == "git")

    assert (0, True) == (done.returncode, is_as_it_was(outside))
    assert (found["fixed"], "is not ignored by git" in found["says"]) == (True, True)
    git = ["git", "-C", str(place.root), "check-ignore", "-q", ".flowspec/telemetry.jsonl"]
    assert 0 == subprocess.run(git, check=False).returncode


def test_an_export_is_not_noted_in_a_foreign_file(place, tmp_path) -> None:
    """Where the export log has a second name, it is not written to, and named."""
    outside = second_name(Path(log.path_of(place.home)), tmp_path)
    done = command(place, "export", "--format", "json", "-o", str(tmp_path / "out.json"))

    assert is_as_it_was(outside)
    assert 1 == done.returncode
    assert "exports.jsonl is not a plain file of yours alone" in done.stderr


@pytest.mark.parametrize("which", ["names", "error", "deciding"])
def test_the_recorder_does_not_write_a_foreign_file(place, tmp_path, which: str) -> None:
    """Names, the last error and the lock of decisions go into files of ours alone."""
    dirs = ProjectDirs.of(place.home)
    path = {
        "names": dirs.names,
        "error": dirs.last_error,
        "deciding": f"{place.home.config}/{transaction.LOCK}",
    }[which]
    outside = second_name(Path(path), tmp_path)
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
    assert is_as_it_was(outside)
    assert os.path.samefile(outside, path)


def test_a_foreign_maintenance_lock(place, tmp_path) -> None:
    """A lock with a second name is not used: nothing is deleted, and the command says why."""
    assert "True True\n" == place.run(EVENT).stdout
    outside = second_name(Path(place.home.lock), tmp_path)
    done = command(place, "clear", "--yes")

    assert 1 == done.returncode
    assert str(place.home.lock) in done.stderr
    assert is_as_it_was(outside)
