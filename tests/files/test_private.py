"""Files of the user alone, and files of others: what is read, written and deleted, and what not."""

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

CODE = "0123456789ab"
LEFT = f".key-{CODE}.telemetry-kit.tmp"


def make_pipe(path: Path) -> None:
    """A pipe that nobody writes to."""
    os.mkfifo(path)


def make_zero(path: Path) -> None:
    """A link to a device without an end."""
    path.symlink_to("/dev/zero")


def make_terminal(path: Path) -> None:
    """A link to a terminal, or to what stands for one."""
    path.symlink_to("/dev/ptmx")


def make_folder(path: Path) -> None:
    """A folder."""
    path.mkdir()


def make_loop(path: Path) -> None:
    """A link to itself."""
    path.symlink_to(path)


def make_dangling(path: Path) -> None:
    """A link to nothing."""
    path.symlink_to(path.parent / "nowhere")


NO_FILES = [make_pipe, make_zero, make_terminal, make_folder, make_loop, make_dangling]


# -- reading -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", NO_FILES)
def test_only_regular_files_are_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A pipe, a device, a folder and a broken link are errors, and reading does not wait."""
    path = tmp_path / "x"
    make(path)
    with pytest.raises(OSError, match=r"\[Errno"):
        private.read_regular(str(path), 100)


@pytest.mark.parametrize(("size", "limit"), [(0, 10), (9, 10), (10, 10), (11, 10), (200_000, 10)])
def test_reading_is_bounded(tmp_path: Path, size: int, limit: int) -> None:
    """The first bytes are read, through a link as well, and never more than the limit."""
    path, link = tmp_path / "x", tmp_path / "link"
    path.write_bytes(b"x" * size)
    link.symlink_to(path)

    assert b"x" * min(size, limit) == private.read_regular(str(link), limit)


def test_a_file_of_the_system_is_read_whole() -> None:
    """A file that is delivered in pieces, and says that it is empty, is read to its end."""
    with open("/proc/self/mountinfo", "rb") as file:
        expected = file.read()

    assert expected == private.read_regular("/proc/self/mountinfo", 1 << 24)


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    """Whatever is refused is closed again."""
    before = len(os.listdir("/proc/self/fd"))
    for make in NO_FILES:
        make(tmp_path / make.__name__)
        with pytest.raises(OSError, match=r"\[Errno"):
            private.read_regular(str(tmp_path / make.__name__), 10)
    (tmp_path / "one").touch()
    os.link(tmp_path / "one", tmp_path / "two")
    with pytest.raises(private.ForeignFileError):
        private.open_own(str(tmp_path / "two"), os.O_WRONLY)

    assert before == len(os.listdir("/proc/self/fd"))


# -- writing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [os.O_APPEND, os.O_TRUNC, os.O_CREAT | os.O_TRUNC])
@pytest.mark.parametrize("kind", ["hard link", "link", "pipe", "device", "folder", "foreign"])
def test_what_is_not_ours_is_not_written(tmp_path: Path, kind: str, flags: int) -> None:
    """A file with a second name, a link and the like are refused, and stay to the byte."""
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


def test_a_file_of_ours_is_written(tmp_path: Path) -> None:
    """A new file is made for this user only; one that is there is appended to, or written anew."""
    path = tmp_path / "x"
    for flags, text in ((os.O_APPEND, b"one"), (os.O_APPEND, b"two"), (os.O_TRUNC, b"three")):
        fd = private.open_own(str(path), os.O_WRONLY | os.O_CREAT | flags)
        os.write(fd, text)
        os.close(fd)
        found = path.read_bytes()
        assert found == {b"one": b"one", b"two": b"onetwo", b"three": b"three"}[text]

    assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_a_file_in_an_open_folder_is_written(tmp_path: Path) -> None:
    """The path may be relative to an open folder."""
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    os.close(private.open_own("x", os.O_WRONLY | os.O_CREAT, dir_fd=folder))
    os.close(folder)

    assert ["x"] == os.listdir(tmp_path)


# -- sweeping ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        ".x.tmp",
        ".telemetry-x.tmp",
        "key.tmp",
        f".key-{CODE}.tmp",
        f"key-{CODE}.telemetry-kit.tmp",
        f".-{CODE}.telemetry-kit.tmp",
        f".key{CODE}.telemetry-kit.tmp",
        f".key-{CODE}0.telemetry-kit.tmp",
        f".key-{CODE[1:]}.telemetry-kit.tmp",
        f".key-{CODE[1:]}G.telemetry-kit.tmp",
        f".key-{CODE.upper()}.telemetry-kit.tmp",
        f"{LEFT}.bak",
    ],
)
def test_a_file_of_another_name_stays(tmp_path: Path, name: str) -> None:
    """Only names of the exact form that we give are swept."""
    (tmp_path / name).write_bytes(b"theirs")
    (tmp_path / name).chmod(0o600)
    leftovers.sweep(str(tmp_path))

    assert [name] == os.listdir(tmp_path)


@pytest.mark.parametrize("kind", ["open to others", "hard link", "link", "pipe", "folder", "user"])
def test_what_is_not_provably_ours_stays(tmp_path: Path, kind: str) -> None:
    """A file of our form that we cannot have left is not deleted."""
    path, outside = tmp_path / LEFT, tmp_path / "outside"
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
def test_what_a_killed_writer_left_goes(tmp_path: Path, mode: int) -> None:
    """A file of ours is deleted, also one that was killed before it had its mode."""
    if mode != 0o600 and os.geteuid() != 0:
        pytest.skip("only root can open it")
    path = tmp_path / LEFT
    path.write_bytes(b"secret")
    path.chmod(mode)
    leftovers.sweep(str(tmp_path))

    assert [] == os.listdir(tmp_path)


_KILLED = """
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
    """Wherever it is killed, its temporary file is swept, and the file is whole or not there."""
    path = tmp_path / "key"
    code = _KILLED
    subprocess.run([sys.executable, "-c", code, step, how, str(path)], check=False)
    leftovers.sweep(str(tmp_path))

    made = step in ("link", "rename")
    assert ["key"] * made == os.listdir(tmp_path)
    assert not made or (path.read_bytes(), path.stat().st_nlink) == (b"secret", 1)


@given(st.text(st.characters(codec="ascii", exclude_characters="/\0"), min_size=1, max_size=40))
def test_a_name_is_known_again(name: str) -> None:
    """What a temporary file was made for is read from its name."""
    assert name == leftovers.target_of(atomic.temporary_name(name))
