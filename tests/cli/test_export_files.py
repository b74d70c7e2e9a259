"""`telemetry-kit export`: the file is whole or absent, whatever happens meanwhile."""

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
from telemetry_kit.schema.encoding import encode
from tests.cli.export_helpers import MANY, TOLD_TO_END, export, files, fill, ids, others, stored


@pytest.fixture(scope="module")
def many():
    """Lines of so many events."""
    return b"".join(encode(stored(n)) for n in range(MANY))


def test_force(undecided):
    """What is there is replaced in one step, and a link is replaced, not followed."""
    fill(undecided, stored(1))
    kept = undecided.root / "kept"
    kept.write_text("mine")
    (undecided.root / "there").symlink_to(kept)
    done = export(undecided, "-o", "there", "--force")

    assert done.returncode == 0, done.stderr
    assert kept.read_text() == "mine"
    assert not (undecided.root / "there").is_symlink()


@pytest.mark.parametrize("form", FORMATS)
def test_a_full_disk_leaves_no_half_file(undecided, form):
    """Exit code 1, one sentence, and what was there before is there after."""
    if form == "parquet":
        pytest.importorskip("duckdb")
    fill(undecided, *(stored(n) for n in range(3_000)))
    (undecided.root / "out").write_text("mine")
    before = files(undecided)

    def small():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    # Python itself would leave half a file of its own where it finds no compiled module.
    env = {"PYTHONDONTWRITEBYTECODE": "1"}
    given = ("--format", form, "-o", "out", "--force")
    done = export(undecided, *given, preexec_fn=small, env=env)

    assert done.returncode == 1
    assert done.stderr.startswith("telemetry-kit: out cannot be written (")
    assert "the file is unchanged" in done.stderr
    assert done.stderr.count("written") == 1
    assert done.stderr.count("\n") == 1, done.stderr
    assert (undecided.root / "out").read_text() == "mine"
    assert before == files(undecided)


@pytest.mark.slow
def test_a_killed_export_leaves_no_half_file(undecided, many):
    """At whatever moment: the name stands for the whole file or for nothing."""
    fill(undecided)
    undecided.log.write_bytes(many)
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


def killed(place, *args, step="NewFile.place", late=False):
    """Export, and die by SIGKILL before or after a step."""
    owner, _, name = f"atomic.{step}".rpartition(".")
    done = place.python("-c", KILLED.format(owner=owner, step=name, late=late), *args)

    assert done.returncode == -signal.SIGKILL, done.stderr


def age(path, seconds):
    """Set the time of the last write so far back."""
    then = time.time() - seconds
    os.utime(path, (then, then), follow_symlinks=False)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("step", "late"),
    [("os.fchmod", True), ("NewFile.place", False), ("os.link", True)],
    ids=["begun", "written", "placed"],
)
def test_what_a_kill_leaves_is_swept(undecided, form, step, late):
    """One private file, which the next export of the folder deletes once it is an hour old."""
    if form == "parquet":
        pytest.importorskip("duckdb")
    fill(undecided, stored(1))
    (undecided.root / "there").write_text("mine")
    killed(undecided, "--format", form, "-o", "out", step=step, late=late)
    made = ["out"] if step == "os.link" else []
    left = [name for name in others(undecided) if name not in ("there", *made)]
    again = export(undecided, "-o", "first")
    young = [name for name in others(undecided) if name in left]
    for name in left:
        assert stat.S_IMODE((undecided.root / name).stat().st_mode) == 0o600
        age(undecided.root / name, 3_601)
    done = export(undecided, "-o", "second")

    assert len(left) == 1
    assert left[0].startswith(".out-")
    assert left == young
    assert (again.returncode, done.returncode) == (0, 0), again.stderr + done.stderr
    assert others(undecided) == sorted(["first", "second", "there", *made])


@pytest.mark.parametrize("late", [False, True], ids=["before", "after"])
def test_a_kill_replaces_whole_files_only(undecided, late):
    """What was there stays until the new file takes its place in one step."""
    fill(undecided, stored(1))
    (undecided.root / "there").write_text("mine")
    killed(undecided, "-o", "there", "--force", step="os.rename", late=late)

    if late:
        assert ids("jsonl", undecided.root / "there") == [stored(1)["event_id"]]
        assert others(undecided) == ["there"]
    else:
        assert (undecided.root / "there").read_text() == "mine"


def test_the_work_of_the_living_is_not_swept(undecided):
    """A file that is locked stays, however old; one whose writer is gone goes."""
    fill(undecided, stored(1))
    living, dead = (undecided.root / f".out-0123456789a{n}.telemetry-kit.tmp" for n in "bc")
    for path in (living, dead):
        path.write_text("events")
        path.chmod(0o600)
        age(path, 3_601)
    lock = os.open(living, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    done = export(undecided, "-o", "out")
    os.close(lock)

    assert done.returncode == 0, done.stderr
    assert others(undecided) == sorted([living.name, "out"])


@pytest.mark.parametrize(
    "kind", ["another name", "open to others", "link", "hard link", "pipe", "folder"]
)
def test_what_is_not_ours_stays(undecided, kind):
    """A file or folder of the user with a name like ours is not deleted, nor emptied."""
    fill(undecided, stored(1))
    path, kept = undecided.root / ".a-deadbeefcafe.telemetry-kit.tmp", undecided.root / "kept"
    kept.write_text("mine")
    kept.chmod(0o600)
    if kind == "another name":
        path = undecided.root / ".a-deadbeefcafe.telemetry.tmp"
    if kind == "folder":
        path.mkdir(0o700)
        (path / "whole").write_text("mine")
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    elif kind == "link":
        path.symlink_to(kept)
    elif kind == "hard link":
        os.link(kept, path)
    else:
        path.write_text("mine")
        path.chmod(0o644 if kind == "open to others" else 0o600)
    age(path, 7_200)
    before = sorted(path.rglob("*"))
    done = export(undecided, "-o", "out")
    forced = export(undecided, "-o", "out", "--force", "--format", "sqlite")

    assert (done.returncode, forced.returncode) == (0, 0), done.stderr + forced.stderr
    assert others(undecided) == sorted([path.name, "kept", "out"])
    assert sorted(path.rglob("*")) == before
    assert kept.read_text() == "mine"


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
def test_another_file_is_not_put_in_place(undecided, form):
    """One that comes in the place of the temporary file while we are at work."""
    fill(undecided, stored(1))
    (undecided.root / "theirs").write_text("theirs")
    (undecided.root / "out").write_text("mine")
    done = undecided.python("-c", SWAPPED, "--force", "--format", form)

    assert done.returncode == 1
    assert "another process has replaced the temporary file" in done.stderr
    assert (undecided.root / "out").read_text() == "mine"


def test_what_is_ignored_ends_nothing(undecided):
    """An export under nohup goes on when its terminal is gone."""
    fill(undecided, stored(1))
    code = TOLD_TO_END.format(name="SIGHUP", before="SIG_IGN")
    done = undecided.python("-c", code, "--format", "csv", "-o", "out")

    assert done.returncode == 0, done.stderr
    assert others(undecided) == ["out"]


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_told_to_end_it_leaves_nothing(undecided, form, name):
    """No hidden folder with events stays, and the exit code is that of the signal."""
    if form == "parquet":
        pytest.importorskip("duckdb")
    fill(undecided, stored(1))
    code = TOLD_TO_END.format(name=name, before="SIG_DFL")
    done = undecided.python("-c", code, "--format", form, "-o", "out")

    assert done.returncode == 128 + getattr(signal, name)
    assert others(undecided) == []


@pytest.mark.parametrize("links", [True, False], ids=["links", "no links"])
def test_a_name_that_was_taken_meanwhile(tmp_path, monkeypatch, links):
    """Never over a file that came while the export was made: with and without a hard link."""
    path = tmp_path / "out"

    def refused(*_args, **_options):
        raise PermissionError(errno.EPERM, "no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", refused)
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


def test_a_reader_that_has_gone(undecided):
    """`export | head -1` ends quietly."""
    fill(undecided, *(stored(n) for n in range(5_000)))
    code = (
        "import os, subprocess, sys\n"
        "p = subprocess.Popen([sys.executable, '-m', 'telemetry_kit', 'export'],"
        " stdout=subprocess.PIPE, stderr=subprocess.PIPE)\n"
        "p.stdout.close()\n"
        "print(p.stderr.read(), p.wait())"
    )

    assert undecided.run(code).stdout == "b'' 0\n"


LATE = """
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


def test_what_stands_beside_fails(place):
    """The events are there and noted; the sentence names the file that is not."""
    fill(place, stored(1))
    done = place.python("-c", LATE, "-o", "out", "--dictionary", "--history")

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "telemetry-kit: exported, but out.dictionary.md cannot be written (the disk is full): "
        "no file was created"
    )
    assert others(place) == ["out", "out.consent.jsonl"]
    assert [entry["destination"] for entry in list(export_log.ExportLog(place.home))] == ["out"]


@pytest.mark.parametrize("force", [(), ("--force",)])
def test_a_pipe_is_written_into(undecided, force):
    """It is there before, and after."""
    fill(undecided, stored(1))
    pipe = undecided.root / "pipe"
    os.mkfifo(pipe)
    reader = subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True)
    done = export(undecided, "-o", "pipe", *force)
    read = reader.communicate(timeout=20)[0]
    refused = export(undecided, "-o", "pipe", "--format", "sqlite", "--force")

    assert (done.returncode, json.loads(read)["seq"]) == (0, 1)
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert (refused.returncode, "is no text" in refused.stderr) == (2, True)
    assert next(iter(export_log.ExportLog(undecided.home)))["destination"] == "pipe"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_a_stream_that_takes_no_more(undecided):
    """In the system's words, and without a promise about what it keeps."""
    fill(undecided, stored(1))
    done = export(undecided, "-o", "/dev/full", "--force")

    assert done.returncode == 1
    assert done.stderr == (
        "telemetry-kit: /dev/full cannot be written (the disk is full): the output is incomplete\n"
    )
    assert stat.S_ISCHR(os.stat("/dev/full").st_mode)
