"""A file that is written beside its target and takes its place in one step."""

import os
import stat

import pytest

from telemetry_kit.files import leftovers
from telemetry_kit.files.atomic import NewFile


@pytest.mark.parametrize("sync", [True, False])
def test_it_replaces_its_target(tmp_path, sync):
    """Whole, for this user only; nothing else stays, and no file stays open."""
    path, before = tmp_path / "out", sorted(os.listdir("/dev/fd"))
    path.write_text("old")
    former = os.umask(0o377)
    try:
        with NewFile(str(path)) as new:
            os.write(new.fd, b"new")
            assert path.read_text() == "old"
            new.place(str(path), sync=sync)
    finally:
        os.umask(former)

    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["out"]
    assert before == sorted(os.listdir("/dev/fd"))


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt, SystemExit])
def test_what_fails_leaves_its_target(tmp_path, error):
    """As it was, and nothing beside it."""
    path = tmp_path / "out"
    path.write_text("old")

    def write(fd):
        os.write(fd, b"new")
        raise error

    with pytest.raises(error), NewFile(str(path)) as new:
        write(new.fd)

    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def test_in_an_open_folder(tmp_path):
    """The target is relative to it, wherever the folder is by now."""
    (tmp_path / "before").mkdir()
    folder = os.open(tmp_path / "before", os.O_RDONLY)
    with NewFile("out", folder) as new:
        (tmp_path / "before").rename(tmp_path / "after")
        os.write(new.fd, b"new")
        new.place("renamed")
    os.close(folder)

    assert os.listdir(tmp_path / "after") == ["renamed"]
    assert (tmp_path / "after/renamed").read_text() == "new"


def test_a_long_name(tmp_path):
    """The temporary file has a name that fits."""
    path = tmp_path / ("\u00e9" * 120)
    with NewFile(str(path)) as new:
        new.place(str(path), replace=False)

    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(("seconds", "goes"), [(3_600, True), (3_599, False)])
def test_the_age_of_what_is_swept(tmp_path, monkeypatch, seconds, goes):
    """One that was written to since then stays; one whose writer is alive stays at any age."""
    monkeypatch.setattr(leftovers.time, "time", lambda: 1_800_000_000.0)
    with NewFile(str(tmp_path / "out")) as new:
        os.utime(new.path, (0, 0))
        leftovers.sweep(str(tmp_path), 3_600.0)
        assert os.path.exists(new.path)
        left = new.path
    with open(left, "w") as file:
        os.fchmod(file.fileno(), 0o600)
    os.utime(left, (0, 1_800_000_000 - seconds))
    leftovers.sweep(str(tmp_path), 3_600.0)

    assert goes == (not os.path.exists(left))
