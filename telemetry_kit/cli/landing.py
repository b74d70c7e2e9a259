"""Files that are there as a whole or not at all, also where their maker is killed.

What is in them is not known here. They are made without a name where the system can do that, else
in a hidden folder beside their place. The next one to be made there deletes such a folder if its
maker was killed. A file in the folder proves that it is ours; another folder of this form of name
stays, whoever gave it that name.
"""

from __future__ import annotations

import hashlib
import os
import queue
import re
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock

_BATCH_BYTES = 1 << 20
_BATCHES = 4
_TRIES = 20
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_UNNAMED = getattr(os, "O_TMPFILE", 0)
_CODE_BYTES = 6
_MAX_SHOWN_CHARS = 40
_LEFT_BEHIND = re.compile(r"\..{0,40}-([0-9a-f]{12})\.telemetry-kit\.tmp", re.DOTALL)


def is_stream(path: str) -> bool:
    """Whether what is there is written into, and never replaced: a pipe, a device.

    Args:
        path: where something is, or nothing.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    # /dev/stdout is one also where stdout is a file.
    of_the_system = os.path.abspath(path).startswith(("/dev/", "/proc/"))
    return not stat.S_ISDIR(mode) and (of_the_system or not stat.S_ISREG(mode))


@contextmanager
def cleaning_up() -> Iterator[None]:
    """Whoever is told to end inside of it leaves nothing behind, and exits with 128 and the signal.

    Signals that the program handles itself stay its own.
    """
    caught: list[int] = []

    def stop(number: int, _: object) -> None:
        if not caught:
            caught.append(number)
            raise SystemExit(128 + number)

    former = {}
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            try:
                former[number] = signal.signal(number, stop)
            except ValueError:
                break  # not the main thread
    try:
        yield
    except BaseException:
        if caught:
            # A library in between may have made another error of it.
            raise SystemExit(128 + caught[0]) from None
        raise
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def put(blocks: Iterator[bytes], path: str, force: bool) -> str:
    """Write a file.

    Args:
        blocks: what goes into it.
        path: where it will be.
        force: whether to replace what is there.

    Returns:
        The SHA-256 of what was written.

    Raises:
        FileExistsError: it is there already.
        OSError: it could not be written.
    """
    sweep(path)
    fd = _unnamed(path)
    if fd is not None:
        with os.fdopen(fd, "wb", buffering=0) as out:
            sha256 = _pour(blocks, out.fileno())
            _name(out.fileno(), path, force)
        return sha256
    with _beside(path) as temporary:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(temporary, flags, 0o600), "wb", buffering=0) as out:
            sha256 = _pour(blocks, out.fileno())
        _into_place(temporary, path, force)
    return sha256


def made_by(write: Callable[[str], None], path: str, force: bool) -> str:
    """A file that somebody else writes, by name; its SHA-256.

    Args:
        write: writes it, given the path of an empty file; may make others beside it.
        path: where it will be.
        force: whether to replace what is there.

    Raises:
        FileExistsError: it is there already.
        OSError: it could not be written.
    """
    sweep(path)
    with _beside(path) as temporary:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        write(temporary)
        sha256 = _sum_and_sync(temporary)
        _into_place(temporary, path, force)
    return sha256


def sweep(path: str) -> None:
    """Delete what was left by those that were killed while they made a file here, whichever.

    A folder whose maker is alive is locked, and stays. So does one that this program did not make.

    Args:
        path: where the next file will be.
    """
    folder = os.path.dirname(path)
    try:
        found = [_LEFT_BEHIND.fullmatch(name) for name in os.listdir(folder or ".")]
    except OSError:
        return
    for match in filter(None, found):
        _sweep_one(os.path.join(folder, match[0]), match[1])


def _sweep_one(folder: str, code: str) -> None:
    try:
        fd = os.open(folder, _FOLDER)
    except OSError:
        return
    try:
        flock(fd, LOCK_EX | LOCK_NB)
        if _is_private(fd) and _is_ours(_mark(code), fd):
            _delete(folder, fd, last=_mark(code))
    except OSError:
        return  # somebody is at work in it
    finally:
        os.close(fd)


def _mark(code: str) -> str:
    """The file by which a folder of ours is known: it has the code of the folder's own name."""
    return f"telemetry-kit-{code}"


def _is_private(fd: int) -> bool:
    st = os.fstat(fd)
    return st.st_uid == os.geteuid() and stat.S_IMODE(st.st_mode) == 0o700


def _is_ours(name: str, folder: int) -> bool:
    """Whether a name in an open folder is that of a regular file of this user."""
    try:
        st = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISREG(st.st_mode) and st.st_uid == os.geteuid()


def _delete(folder: str, fd: int, last: str) -> None:
    """Delete the files in an open folder, then itself if it is still the one of that name.

    Raises:
        OSError: something stays, and with it the folder.
    """
    names = set(os.listdir(fd)) - {last}
    for name in [*names, last]:
        if _is_ours(name, fd):
            os.unlink(name, dir_fd=fd)
    if os.path.samestat(os.fstat(fd), os.lstat(folder)):
        os.rmdir(folder)


@contextmanager
def _beside(path: str) -> Iterator[str]:
    """The path of a file that may be made, in a private folder that goes away afterwards."""
    folder, fd, mark = _locked_folder(path)
    try:
        # By way of the open folder, where there is one: its name may come to lead elsewhere.
        opened = _entry(fd)
        yield os.path.join(opened if os.path.isdir(opened) else folder, "whole")
    finally:
        try:
            _delete(folder, fd, last=mark)
        except OSError:
            pass  # the next one to be made here tries again
        os.close(fd)


def _locked_folder(path: str) -> tuple[str, int, str]:
    top, name = os.path.split(path)
    for _ in range(_TRIES):
        code = os.urandom(_CODE_BYTES).hex()
        folder = os.path.join(top, f".{name[:_MAX_SHOWN_CHARS]}-{code}.telemetry-kit.tmp")
        os.mkdir(folder, 0o700)
        fd = os.open(folder, _FOLDER)
        try:
            flock(fd, LOCK_EX | LOCK_NB)
        except OSError:
            pass  # a file system without flock
        # In a shared folder another user may have put another one in its place.
        if _is_private(fd) and not os.listdir(fd):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            os.close(os.open(_mark(code), flags, 0o600, dir_fd=fd))
            return folder, fd, _mark(code)
        os.close(fd)
    raise OSError("no folder stays beside it")


def _unnamed(path: str) -> int | None:
    """A new file without a name in the folder of `path`; None where there can be none."""
    if not _UNNAMED:
        return None
    try:
        flags = _UNNAMED | os.O_WRONLY | os.O_CLOEXEC
        fd = os.open(os.path.dirname(path) or ".", flags, 0o600)
    except OSError:
        return None
    if os.path.exists(_entry(fd)):
        return fd
    os.close(fd)
    return None


def _entry(fd: int) -> str:
    return f"/proc/self/fd/{fd}"


def _name(fd: int, path: str, force: bool) -> None:
    """Give a file its name.

    Raises:
        FileExistsError: the name is taken.
    """
    if force:
        with _beside(path) as temporary:
            _link(fd, temporary)
            os.replace(temporary, path)
    else:
        _link(fd, path)  # never over a file that came meanwhile


def _link(fd: int, path: str) -> None:
    # Only with a folder given does Python follow the link that stands for the open file.
    folder = os.open(os.path.dirname(path) or ".", _FOLDER & ~os.O_NOFOLLOW)
    try:
        os.link(_entry(fd), os.path.basename(path), src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)


def _into_place(temporary: str, path: str, force: bool) -> None:
    if force:
        os.replace(temporary, path)
        return
    try:
        os.link(temporary, path)  # never over a file that came meanwhile
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links.
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        os.rename(temporary, path)


def _pour(blocks: Iterator[bytes], out: int) -> str:
    """Write blocks to the disk while the next ones are made; the SHA-256 of all of them."""
    total = hashlib.sha256()
    waiting: queue.Queue[bytes | None] = queue.Queue(_BATCHES)
    failed: list[OSError] = []

    def write() -> None:
        # Summing and writing go on without the interpreter's lock.
        while (batch := waiting.get()) is not None:
            if failed:
                continue
            total.update(batch)
            try:
                left = memoryview(batch)
                while left:
                    left = left[os.write(out, left) :]
            except OSError as error:
                failed.append(error)

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    try:
        for batch in _batches(blocks):
            waiting.put(batch)
            if failed:
                break
    finally:
        waiting.put(None)
        thread.join()
    if failed:
        raise failed[0]
    os.fsync(out)
    return total.hexdigest()


def _batches(blocks: Iterator[bytes]) -> Iterator[bytes]:
    batch: list[bytes] = []
    size = 0
    for block in blocks:
        batch.append(block)
        size += len(block)
        if size >= _BATCH_BYTES:
            yield b"".join(batch)
            batch, size = [], 0
    yield b"".join(batch)


def _sum_and_sync(path: str) -> str:
    total = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total.update(block)
        os.fsync(file.fileno())
    return total.hexdigest()
