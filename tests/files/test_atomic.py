"""A file that is written beside its target and then replaces it in one step."""

import os
import stat

import pytest

from telemetry_kit.files import leftovers
from telemetry_kit.files.atomic import NewFile


@pytest.mark.parametrize("sync", [True, False])
def test_a_new_file_replaces_its_target(tmp_path, sync):
    """The new file is complete and private. No other file and no descriptor is left."""
    path, before = tmp_path / "out", sorted(os.listdir("/dev/fd"))
    path.write_text("old")
    previous = os.umask(0o377)
    try:
        with NewFile(str(path)) as new:
            os.write(new.fd, b"new")
            assert path.read_text() == "old"
            new.place(str(path), sync=sync)
    finally:
        os.umask(previous)

    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["out"]
    assert before == sorted(os.listdir("/dev/fd"))


@pytest.mark.parametrize("exception", [OSError, KeyboardInterrupt, SystemExit])
def test_an_error_keeps_the_target(tmp_path, exception):
    """After an error the target is unchanged, and no file is left beside it."""
    path = tmp_path / "out"
    path.write_text("old")

    def write(fd):
        os.write(fd, b"new")
        raise exception

    with pytest.raises(exception), NewFile(str(path)) as new:
        write(new.fd)

    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]


def test_a_path_relative_to_an_open_directory(tmp_path):
    """A path is relative to the open directory, even if that is renamed."""
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
    """For a long name, the name of the temporary file is shortened."""
    path = tmp_path / ("\u00e9" * 120)
    with NewFile(str(path)) as new:
        new.place(str(path), replace=False)

    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize(("seconds", "is_deleted"), [(3_600, True), (3_599, False)])
def test_the_age_of_deleted_leftovers(tmp_path, monkeypatch, seconds, is_deleted):
    """A temporary file is deleted after an hour without writes, unless its writer is alive."""
    monkeypatch.setattr(leftovers.time, "time", lambda: 1_800_000_000.0)
    with NewFile(str(tmp_path / "out")) as new:
        os.utime(new.path, (0, 0))
        leftovers.sweep(str(tmp_path), 3_600.0)
        assert os.path.exists(new.path)
        leftover = new.path
    with open(leftover, "w") as file:
        os.fchmod(file.fileno(), 0o600)
    os.utime(leftover, (0, 1_800_000_000 - seconds))
    leftovers.sweep(str(tmp_path), 3_600.0)

    assert is_deleted == (not os.path.exists(leftover))
