"""`telemetry-kit export` writes a complete file or none."""

import errno
import fcntl
import json
import os
import resource
import signal
import stat
import subprocess
import sys
import time

import pytest

from telemetry_kit.export import log as export_log
from telemetry_kit.export.formats import FORMATS
from telemetry_kit.files.atomic import NewFile
from tests.cli.export_helpers import (
    ENDED_BY_SIGNAL,
    MANY,
    export,
    files,
    fill,
    ids,
    other_files,
    stored,
)


def test_force(undecided):
    """`--force` replaces a link and leaves the target of the link unchanged."""
    fill(undecided, stored(1))
    user_file = undecided.root / "kept"
    user_file.write_text("mine")
    (undecided.root / "there").symlink_to(user_file)
    done = export(undecided, "-o", "there", "--force")

    assert done.returncode == 0, done.stderr
    assert user_file.read_text() == "mine"
    assert not (undecided.root / "there").is_symlink()


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_leaves_no_partial_file(undecided, form):
    """On a full disk, the exit code is 1 and the existing file is unchanged."""
    if form == "parquet":
        pytest.importorskip("duckdb")
    fill(undecided, *(stored(n) for n in range(3_000)))
    (undecided.root / "out").write_text("mine")
    before = files(undecided)

    def limit_file_size():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    # The size limit would otherwise cut the bytecode files that Python writes.
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    given = ("--format", form, "-o", "out", "--force")
    done = export(undecided, *given, preexec_fn=limit_file_size, env=env)

    assert done.returncode == 1
    assert done.stderr.startswith("telemetry-kit: out cannot be written (")
    assert "the file is unchanged" in done.stderr
    assert done.stderr.count("written") == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert (undecided.root / "out").read_text() == "mine"
    assert before == files(undecided)


@pytest.mark.slow
def test_a_killed_export_leaves_no_partial_file(undecided, many_lines):
    """If an export is killed at any time, its output file is complete or missing."""
    fill(undecided)
    undecided.log.write_bytes(many_lines)
    path = undecided.root / "out"
    for delay in (0.3, 0.45, 0.6, 0.8, 1.0):
        child = subprocess.Popen(
            [sys.executable, "-m", "telemetry_kit", "export", "--format", "csv", "-o", str(path)],
            cwd=undecided.root,
            env=undecided.env,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(delay)
        child.kill()
        child.wait()
        if path.exists():
            assert len(ids("csv", path)) == MANY
            path.unlink()


KILLED = """
import os, signal, sys
from telemetry_kit.cli import main
from telemetry_kit.files import atomic
real = {owner}.{step}

def killed(*args, **options):
    if {late}:
        real(*args, **options)
    os.kill(os.getpid(), signal.SIGKILL)

{owner}.{step} = killed
sys.exit(main(["export", *sys.argv[1:]]))
"""


def kill_export(place, *args, step="NewFile.place", late=False):
    """Run an export that is killed by SIGKILL before or after a step."""
    owner, _, name = f"atomic.{step}".rpartition(".")
    done = place.python("-c", KILLED.format(owner=owner, step=name, late=late), *args)

    assert done.returncode == -signal.SIGKILL, done.stderr


def age(path, seconds):
    """Set the modification time of a file to this many seconds ago."""
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("step", "late"),
    [("os.fchmod", True), ("NewFile.place", False), ("os.link", True)],
    ids=["begun", "written", "placed"],
)
def test_the_file_of_a_killed_export_is_deleted(undecided, form, step, late):
    """A killed export leaves one private file. A later export deletes it after an hour."""
    if form == "parquet":
        pytest.importorskip("duckdb")
    fill(undecided, stored(1))
    (undecided.root / "there").write_text("mine")
    kill_export(undecided, "--format", form, "-o", "out", step=step, late=late)
    outputs = ["out"] if step == "os.link" else []
    leftovers = [name for name in other_files(undecided) if name not in ("there", *outputs)]
    again = export(undecided, "-o", "first")
    young = [name for name in other_files(undecided) if name in leftovers]
    for name in leftovers:
        assert stat.S_IMODE((undecided.root / name).stat().st_mode) == 0o600
        age(undecided.root / name, 3_601)
    done = export(undecided, "-o", "second")

    assert len(leftovers) == 1
    assert leftovers[0].startswith(".out-")
    assert leftovers == young
    assert (again.returncode, done.returncode) == (0, 0), again.stderr + done.stderr
    assert other_files(undecided) == sorted(["first", "second", "there", *outputs])


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_killed_export_keeps_the_existing_file(undecided, late):
    """The existing file is unchanged until the complete new file replaces it."""
    fill(undecided, stored(1))
    (undecided.root / "there").write_text("mine")
    kill_export(undecided, "-o", "there", "--force", step="os.rename", late=late)

    if late:
        assert ids("jsonl", undecided.root / "there") == [stored(1)["event_id"]]
        assert other_files(undecided) == ["there"]
    else:
        assert (undecided.root / "there").read_text() == "mine"


def test_the_file_of_a_running_export_is_not_deleted(undecided):
    """An old temporary file is deleted only if no process has locked it."""
    fill(undecided, stored(1))
    locked, unlocked = (undecided.root / f".out-0123456789a{n}.telemetry-kit.tmp" for n in "bc")
    for path in (locked, unlocked):
        path.write_text("events")
        path.chmod(0o600)
        age(path, 3_601)
    lock = os.open(locked, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    done = export(undecided, "-o", "out")
    os.close(lock)

    assert done.returncode == 0, done.stderr
    assert other_files(undecided) == sorted([locked.name, "out"])


@pytest.mark.parametrize(
    "kind", ["another name", "open to others", "link", "hard link", "pipe", "folder"]
)
def test_files_of_the_user_are_not_deleted(undecided, kind):
    """A file or folder of the user with a similar name is not changed."""
    fill(undecided, stored(1))
    path, user_file = undecided.root / ".a-deadbeefcafe.telemetry-kit.tmp", undecided.root / "kept"
    user_file.write_text("mine")
    user_file.chmod(0o600)
    if kind == "another name":
        path = undecided.root / ".a-deadbeefcafe.telemetry.tmp"
    if kind == "folder":
        path.mkdir(0o700)
        (path / "whole").write_text("mine")
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    elif kind == "link":
        path.symlink_to(user_file)
    elif kind == "hard link":
        os.link(user_file, path)
    else:
        path.write_text("mine")
        path.chmod(0o644 if kind == "open to others" else 0o600)
    age(path, 7_200)
    before = sorted(path.rglob("*"))
    done = export(undecided, "-o", "out")
    forced = export(undecided, "-o", "out", "--force", "--format", "sqlite")

    assert (done.returncode, forced.returncode) == (0, 0), done.stderr + forced.stderr
    assert other_files(undecided) == sorted([path.name, "kept", "out"])
    assert sorted(path.rglob("*")) == before
    assert user_file.read_text() == "mine"


SWAPPED = """
import os, sys
from telemetry_kit.cli import main
from telemetry_kit.files.atomic import NewFile
real = NewFile.place

def swapped(self, *args, **options):
    os.rename("theirs", self.path)
    real(self, *args, **options)

NewFile.place = swapped
sys.exit(main(["export", "-o", "out", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("form", ["jsonl", "sqlite"])
def test_a_replaced_temporary_file_is_not_used(undecided, form):
    """If another process replaces the temporary file, the export fails."""
    fill(undecided, stored(1))
    (undecided.root / "theirs").write_text("theirs")
    (undecided.root / "out").write_text("mine")
    done = undecided.python("-c", SWAPPED, "--force", "--format", form)

    assert done.returncode == 1
    assert "another process has replaced the temporary file" in done.stderr
    assert (undecided.root / "out").read_text() == "mine"


def test_an_ignored_signal(undecided):
    """An export that ignores SIGHUP, as under nohup, completes."""
    fill(undecided, stored(1))
    code = ENDED_BY_SIGNAL.format(name="SIGHUP", before="SIG_IGN")
    done = undecided.python("-c", code, "--format", "csv", "-o", "out")

    assert done.returncode == 0, done.stderr
    assert other_files(undecided) == ["out"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_leaves_no_file(undecided, form, name):
    """After SIGTERM or SIGHUP no file remains, and the exit code is that of the signal."""
    if form == "parquet":
        pytest.importorskip("duckdb")
    fill(undecided, stored(1))
    code = ENDED_BY_SIGNAL.format(name=name, before="SIG_DFL")
    done = undecided.python("-c", code, "--format", form, "-o", "out")

    assert done.returncode == 128 + getattr(signal, name)
    assert other_files(undecided) == []


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_file_created_during_the_export(tmp_path, monkeypatch, links):
    """A file that appears during the export is not replaced, with or without hard links."""
    path = tmp_path / "out"

    def deny_link(*_args, **_options):
        raise PermissionError(errno.EPERM, "no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", deny_link)
    with NewFile(str(path)) as new:
        path.write_text("mine")
        with pytest.raises(FileExistsError):
            new.place(str(path), replace=False)

    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == ["out"]
    path.unlink()
    with NewFile(str(path)) as new:
        os.write(new.fd, b"ours")
        new.place(str(path), replace=False)
    assert path.read_text() == "ours"
    assert os.listdir(tmp_path) == ["out"]


def test_a_closed_pipe(undecided):
    """If the reader closes the pipe, the export exits with 0 and prints nothing."""
    fill(undecided, *(stored(n) for n in range(5_000)))
    code = (
        "import os, subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-m', 'telemetry_kit', 'export'],"
        " stdout=subprocess.PIPE, stderr=subprocess.PIPE)\n"
        "p.stdout.close()\n"
        "print(p.stderr.read(), p.wait())"
    )

    assert undecided.run(code).stdout == "b'' 0\n"


FAILS_ON_DICTIONARY = """
import sys
from telemetry_kit.cli import main
from telemetry_kit.cli.commands import export
real = export.write_blocks

def put(blocks, path, force):
    if path.endswith(".md"):
        raise OSError(28, "No space left on device")
    return real(blocks, path, force)

export.write_blocks = put
sys.exit(main(["export", *sys.argv[1:]]))
"""


def test_a_second_file_that_cannot_be_written(place):
    """If the dictionary cannot be written, the error names it, and the export is logged."""
    fill(place, stored(1))
    done = place.python("-c", FAILS_ON_DICTIONARY, "-o", "out", "--dictionary", "--history")

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "telemetry-kit: exported, but out.dictionary.md cannot be written (the disk is full): "
        "no file was created"
    )
    assert other_files(place) == ["out", "out.consent.jsonl"]
    assert [entry["destination"] for entry in list(export_log.ExportLog(place.home))] == ["out"]


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_named_pipe(undecided, force):
    """The export writes to a named pipe and does not replace it."""
    fill(undecided, stored(1))
    pipe = undecided.root / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True)
    done = export(undecided, "-o", "pipe", *force)
    read = reader.communicate(timeout=20)[0]
    deny_link = export(undecided, "-o", "pipe", "--format", "sqlite", "--force")

    assert (done.returncode, json.loads(read)["seq"]) == (0, 1)
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert (deny_link.returncode, "is no text" in deny_link.stderr) == (2, True)
    assert next(iter(export_log.ExportLog(undecided.home)))["destination"] == "pipe"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_full_device(undecided):
    """A device that is full is reported in one sentence with exit code 1."""
    fill(undecided, stored(1))
    done = export(undecided, "-o", "/dev/full", "--force")

    assert done.returncode == 1
    assert done.stderr == (
        "telemetry-kit: /dev/full cannot be written (the disk is full): the output is incomplete\n"
    )
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
