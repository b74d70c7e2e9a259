"""Files that belong to the user alone: read without being fooled, replaced as a whole.

What is in them is not known here.
"""

from __future__ import annotations

import os

from telemetry_kit.errors import TelemetryError

_KIND = 0o170000
_REGULAR = 0o100000
_DIRECTORY = 0o040000
_TRIES = 20


class NotPrivateError(TelemetryError):
    """A file that is there but cannot be trusted; the message names it and says why."""


def read(path: str, limit: int, forbidden: int = 0o077) -> bytes | None:
    """The bytes of a file, never through a link.

    Args:
        path: the file.
        limit: the most bytes it may have.
        forbidden: permission bits that it must not have.

    Returns:
        Its bytes, or None when there is no such file.

    Raises:
        NotPrivateError: it is there, but is no plain file of this user, is open to others, is
            too long or cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise NotPrivateError(f"{path} cannot be opened ({name_of(error)})") from None
    try:
        st = os.fstat(fd)
        if st.st_mode & _KIND != _REGULAR or st.st_uid != os.geteuid():
            raise NotPrivateError(f"{path} is not a plain file of yours")
        if st.st_mode & forbidden:
            raise NotPrivateError(f"{path} is open to others (mode {st.st_mode & 0o777:04o})")
        data = os.read(fd, limit + 1)
    except OSError as error:
        raise NotPrivateError(f"{path} cannot be read ({name_of(error)})") from None
    finally:
        os.close(fd)
    if len(data) > limit:
        raise NotPrivateError(f"{path} is longer than {limit} bytes")
    return data


def replace(path: str, data: bytes) -> None:
    """Put `data` at `path` in one step, readable by this user only, making folders as needed.

    Raises:
        OSError: nothing was replaced.
    """
    fd, temporary = _written(path, data)
    try:
        os.rename(temporary, path)
    except BaseException:
        remove(temporary)
        raise
    finally:
        _close(fd)


def create(path: str, data: bytes) -> bool:
    """The same where there is no file yet; of two processes that try, one does.

    Returns:
        Whether it was this one; False leaves what is there.

    Raises:
        OSError: nothing was made.
    """
    fd, temporary = _written(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        try:
            remove(temporary)
        finally:
            _close(fd)
    return True


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return  # it is on disk already


def _written(path: str, data: bytes) -> tuple[int, str]:
    """A temporary file beside `path`, whole and on disk, locked for as long as it is open."""
    folder = os.path.dirname(path)
    temporary = f"{folder}/.{os.path.basename(path)}-{os.urandom(6).hex()}.tmp"
    fd = _made(folder, temporary)
    try:
        os.fchmod(fd, 0o600)
        swept = not _is_ours(fd)
        view = memoryview(b"" if swept else data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
    except BaseException:
        os.close(fd)
        remove(temporary)
        raise
    if not swept:
        return fd, temporary
    os.close(fd)
    return _written(path, data)


def _made(folder: str, path: str) -> int:
    """A new file in a folder that is made if need be, and that somebody may take away again."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    for _ in range(_TRIES):
        make_folder(folder)
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            continue
    make_folder(folder)
    return os.open(path, flags, 0o600)


def _is_ours(fd: int) -> bool:
    """Lock a new file; False when somebody took it for a leftover before that."""
    import fcntl  # deferred: only a file being written needs it

    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # no locks here, and so nobody who sweeps
    return os.fstat(fd).st_nlink > 0


def sweep(folder: str) -> None:
    """Delete temporary files whose writer is gone; one that is being written is locked."""
    import fcntl  # deferred: only maintenance needs it

    try:
        names = [n for n in os.listdir(folder) if n[0] == "." and n.endswith(".tmp")]
    except OSError:
        return
    for name in names:
        try:
            flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
            fd = os.open(f"{folder}/{name}", flags)
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(fd).st_mode & _KIND == _REGULAR:
                os.unlink(f"{folder}/{name}")
        except OSError:
            continue
        finally:
            os.close(fd)


class ForeignFolderError(PermissionError):
    """A folder of another user, in which nothing is made: nobody could take it away again."""


def make_folder(path: str) -> None:
    """Make a folder, and those above it, each for this user only; existing ones stay.

    Raises:
        ForeignFolderError: the last one that exists is another user's: a program that runs as
            root with somebody's HOME, for instance.
        OSError: it could not be made.
    """
    if os.path.isdir(path):
        check_owner(path)
        return
    make_folder(os.path.dirname(path))
    try:
        make_last_folder(path)
    except FileNotFoundError:
        # The one above was taken away meanwhile.
        make_folder(os.path.dirname(path))
        make_last_folder(path)


def check_owner(folder: str) -> None:
    """Refuse a folder of another user.

    Raises:
        ForeignFolderError: it is one.
        OSError: it cannot be looked at.
    """
    if os.stat(folder).st_uid != os.geteuid():
        import errno  # deferred: only trouble needs it

        raise ForeignFolderError(errno.EPERM, "it belongs to another user", folder)


def make_last_folder(path: str) -> None:
    """Make one folder for this user only, in one that is there; an existing one stays.

    Raises:
        OSError: it could not be made.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    # A umask that takes the owner's own bits away is the only reason for another mode.
    if os.lstat(path).st_mode & 0o777 != 0o700:
        set_mode(path, 0o700)


def set_mode(path: str, mode: int) -> None:
    """Set permission bits by name, never through a link.

    Raises:
        OSError: it could not be done, or a link stands there.
    """
    try:
        os.chmod(path, mode, follow_symlinks=False)
    except NotImplementedError:
        # What the system cannot do to a link, the interpreter calls not implemented.
        import errno  # deferred: only trouble needs it

        raise OSError(errno.ELOOP, "a link", path) from None


def remove(path: str) -> bool:
    """Delete a file if it is there; whether it was."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def name_of(error: Exception) -> str:
    """The system's own short name of an error, `ENOSPC` for instance; never its text."""
    number = getattr(error, "errno", None)
    if number is None:
        return type(error).__name__
    import errno  # deferred: only trouble needs it

    return errno.errorcode.get(number, str(number))


_MEANING = {
    "ENOSPC": "the disk is full",
    "EDQUOT": "the disk quota is used up",
    "EROFS": "the file system is read-only",
    "EACCES": "permission denied",
    "EPERM": "operation not permitted",
    "ELOOP": "it is a symbolic link",
    "ENOTDIR": "its folder is not a plain folder",
    "EISDIR": "it is a folder",
    "ENXIO": "it is no plain file",
    "EMFILE": "too many open files",
    "ENFILE": "too many open files",
    "EIO": "input/output error",
    "EFBIG": "the file size limit is reached",
    "ENAMETOOLONG": "the path is too long",
}


def explain(error: Exception) -> str:
    """An error in words, without its text."""
    name = name_of(error)
    return f"{_MEANING.get(name, 'cannot be used')} ({name})"
