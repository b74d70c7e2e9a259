"""Private files of the user, and foreign files: reading, writing and deleting."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit.files import atomic, leftovers, private

HEX = "0123456789ab"
LEFTOVER = f".key-{HEX}.telemetry-kit.tmp"


def make_pipe(path: Path) -> None:
    """Create a pipe without a writer."""
    os.mkfifo(path)


def make_zero(path: Path) -> None:
    """Create a link to an endless device."""
    path.symlink_to("/dev/zero")


def make_terminal(path: Path) -> None:
    """Create a link to a terminal device."""
    path.symlink_to("/dev/ptmx")


def make_folder(path: Path) -> None:
    """Create a directory."""
    path.mkdir()


def make_loop(path: Path) -> None:
    """Create a link to itself."""
    path.symlink_to(path)


def make_dangling(path: Path) -> None:
    """Create a link without a target."""
    path.symlink_to(path.parent / "nowhere")


NOT_REGULAR = [make_pipe, make_zero, make_terminal, make_folder, make_loop, make_dangling]


# -- reading -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", NOT_REGULAR)
def test_only_regular_files_are_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A pipe, a device, a directory or a broken link is an error, without waiting."""
    path = tmp_path / "x"
    make(path)
    with pytest.raises(OSError, match=r"\[Errno"):
        private.read_regular(str(path), 100)


@pytest.mark.parametrize(("size", "limit"), [(0, 10), (9, 10), (10, 10), (11, 10), (200_000, 10)])
def test_reading_is_bounded(tmp_path: Path, size: int, limit: int) -> None:
    """The file is read up to the limit, also through a link."""
    path, link = tmp_path / "x", tmp_path / "link"
    path.write_bytes(b"x" * size)
    link.symlink_to(path)

    assert b"x" * min(size, limit) == private.read_regular(str(link), limit)


def test_a_file_of_proc_is_read_completely() -> None:
    """A file with size 0 that is delivered in chunks is read to its end."""
    with open("/proc/self/mountinfo", "rb") as file:
        expected = file.read()

    assert expected == private.read_regular("/proc/self/mountinfo", 1 << 24)


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """A rejected file is closed again."""
    before = len(os.listdir("/proc/self/fd"))
    for make in NOT_REGULAR:
        make(tmp_path / make.__name__)
        with pytest.raises(OSError, match=r"\[Errno"):
            private.read_regular(str(tmp_path / make.__name__), 10)
    (tmp_path / "one").touch()
    os.link(tmp_path / "one", tmp_path / "two")
    with pytest.raises(private.ForeignFileError):
        private.open_own(str(tmp_path / "two"), os.O_WRONLY)

    assert before == len(os.listdir("/proc/self/fd"))


# -- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [os.O_APPEND, os.O_TRUNC, os.O_CREAT | os.O_TRUNC])
@pytest.mark.parametrize("kind", ["hard link", "link", "pipe", "device", "folder", "foreign"])
def test_a_foreign_file_is_not_written(tmp_path: Path, kind: str, flags: int) -> None:
    """A hard link, a link or another foreign file is rejected and unchanged."""
    outside, path = tmp_path / "outside", tmp_path / "x"
    outside.write_bytes(b"precious")
    if kind == "hard link":
        os.link(outside, path)
    elif kind == "link":
        path.symlink_to(outside)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/null")
    elif kind == "folder":
        path.mkdir()
    elif os.geteuid() == 0:
        path.write_bytes(b"theirs")
        os.chown(path, 65_534, 65_534)
    else:
        pytest.skip("only root can make a file of another user")
    before = path.lstat()
    with pytest.raises(OSError, match=str(path)):
        private.open_own(str(path), os.O_RDWR | flags)

    after = path.lstat()
    assert b"precious" == outside.read_bytes()
    assert (before.st_mode, before.st_size) == (after.st_mode, after.st_size)


def test_a_private_file_is_written(tmp_path: Path) -> None:
    """A new file is private. An existing one is appended to or truncated."""
    path = tmp_path / "x"
    for flags, text in ((os.O_APPEND, b"one"), (os.O_APPEND, b"two"), (os.O_TRUNC, b"three")):
        fd = private.open_own(str(path), os.O_WRONLY | os.O_CREAT | flags)
        os.write(fd, text)
        os.close(fd)
        found = path.read_bytes()
        assert found == {b"one": b"one", b"two": b"onetwo", b"three": b"three"}[text]

    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_a_file_in_an_open_directory_is_written(tmp_path: Path) -> None:
    """A path may be relative to an open directory."""
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    os.close(private.open_own("x", os.O_WRONLY | os.O_CREAT, dir_fd=folder))
    os.close(folder)

    assert ["x"] == os.listdir(tmp_path)


# -- leftovers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        ".x.tmp",
        ".telemetry-x.tmp",
        "key.tmp",
        f".key-{HEX}.tmp",
        f"key-{HEX}.telemetry-kit.tmp",
        f".-{HEX}.telemetry-kit.tmp",
        f".key{HEX}.telemetry-kit.tmp",
        f".key-{HEX}0.telemetry-kit.tmp",
        f".key-{HEX[1:]}.telemetry-kit.tmp",
        f".key-{HEX[1:]}G.telemetry-kit.tmp",
        f".key-{HEX.upper()}.telemetry-kit.tmp",
        f"{LEFTOVER}.bak",
    ],
)
def test_a_file_of_another_name_is_kept(tmp_path: Path, name: str) -> None:
    """Only files with the exact form of our temporary names are deleted."""
    (tmp_path / name).write_bytes(b"theirs")
    (tmp_path / name).chmod(0o600)
    leftovers.sweep(str(tmp_path))

    assert [name] == os.listdir(tmp_path)


@pytest.mark.parametrize("kind", ["open to others", "hard link", "link", "pipe", "folder", "user"])
def test_a_foreign_temporary_file_is_kept(tmp_path: Path, kind: str) -> None:
    """A file with a temporary name is kept if its type, mode or owner is not ours."""
    path, outside = tmp_path / LEFTOVER, tmp_path / "outside"
    outside.write_bytes(b"theirs")
    outside.chmod(0o600)
    if kind == "hard link":
        os.link(outside, path)
    elif kind == "link":
        path.symlink_to(outside)
    elif kind == "pipe":
        os.mkfifo(path, 0o600)
    elif kind == "folder":
        path.mkdir(0o700)
        (path / "theirs").touch()
    else:
        path.write_bytes(b"x")
        path.chmod(0o644 if kind == "open to others" else 0o600)
        if kind == "user" and os.geteuid() != 0:
            pytest.skip("only root can make a file of another user")
        if kind == "user":
            os.chown(path, 65_534, 65_534)
    leftovers.sweep(str(tmp_path))

    assert os.path.lexists(path)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o000])
def test_a_leftover_of_a_killed_writer_is_deleted(tmp_path: Path, mode: int) -> None:
    """A leftover is deleted, even if its writer was killed before it set the mode."""
    if mode != 0o600 and os.geteuid() != 0:
        pytest.skip("only root can open it")
    path = tmp_path / LEFTOVER
    path.write_bytes(b"secret")
    path.chmod(mode)
    leftovers.sweep(str(tmp_path))

    assert [] == os.listdir(tmp_path)


_KILL_AFTER_CALL = """
import os, signal, sys
from telemetry_kit.files import atomic, leftovers
step, how, path = sys.argv[1:]
real = getattr(os, step)
def killing(*args, **options):
    done = real(*args, **options)
    os.kill(os.getpid(), signal.SIGKILL)
    return done
setattr(os, step, killing)
getattr(atomic, how)(path, b"secret")
"""


@pytest.mark.parametrize(
    ("step", "how"),
    [(step, how) for how in ("create", "replace") for step in ("fchmod", "write", "fsync")]
    + [("link", "create"), ("rename", "replace")],
)
def test_a_writer_that_is_killed_leaves_nothing(tmp_path: Path, step: str, how: str) -> None:
    """After a kill at any call, the leftover is deleted, and the file is complete or missing."""
    path = tmp_path / "key"
    program = _KILL_AFTER_CALL
    subprocess.run([sys.executable, "-c", program, step, how, str(path)], check=False)
    leftovers.sweep(str(tmp_path))

    is_complete = step in ("link", "rename")
    assert ["key"] * is_complete == os.listdir(tmp_path)
    assert not is_complete or (path.read_bytes(), path.stat().st_nlink) == (b"secret", 1)


@given(st.text(st.characters(codec="ascii", exclude_characters="/\0"), min_size=1, max_size=40))
def test_the_target_of_a_temporary_name(name: str) -> None:
    """The target of a temporary file is read from its name."""
    assert name == leftovers.target_of(atomic.temporary_name(name))
