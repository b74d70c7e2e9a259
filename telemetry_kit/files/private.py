"""Files of the user, and of other users: read with checks and replaced as a whole.

The content is the caller's.
"""

from __future__ import annotations

import os
from errno import EBADF, EINVAL, ENOLCK, ENOSYS, ENOTSUP, EOPNOTSUPP

from telemetry_kit.errors import TelemetryError

# What `flock` answers where files cannot be locked: NFS, FUSE, 9p and others differ in this.
NO_LOCKS = frozenset({EBADF, EINVAL, ENOLCK, ENOSYS, ENOTSUP, EOPNOTSUPP})
_KIND = 0o170000
_REGULAR = 0o100000
_DIRECTORY = 0o040000
_TRIES = 20
SUFFIX = ".telemetry-kit.tmp"
CODE_BYTES = 6
# To open a pipe does not wait for its other end, to open a terminal does not take it.
_SAFELY: int = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY"))


class UnsafeFileError(TelemetryError):
    """A file that is there but cannot be trusted; the message names it and says why."""


class ForeignFileError(PermissionError):
    """A file that is not changed: a pipe or device, another user's, or one with a second name."""


def open_regular(path: str, follow: bool = True) -> int:
    """Open somebody's file for reading: a regular one, no pipe, device or folder.

    Args:
        path: the file.
        follow: whether it may be a link.

    Raises:
        OSError: it cannot be opened, or is no regular file.
        ValueError: the path holds a zero byte.
    """
    fd = os.open(path, os.O_RDONLY | _SAFELY | os.O_NOFOLLOW * (not follow))
    try:
        _check_kind(os.fstat(fd).st_mode, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _check_kind(mode: int, path: str) -> None:
    kind = mode & _KIND
    if kind != _REGULAR:
        import errno  # deferred: only trouble needs it

        number = errno.EISDIR if kind == _DIRECTORY else errno.ENXIO
        raise OSError(number, os.strerror(number), path)


def read_regular(path: str, limit: int, follow: bool = True) -> bytes:
    """The first bytes of somebody's file, in bounded memory and without waiting.

    Args:
        path: the file.
        limit: the most bytes to read.
        follow: whether it may be a link.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: the path holds a zero byte.
    """
    fd = open_regular(path, follow)
    try:
        return _first(fd, limit)
    finally:
        os.close(fd)


def _first(fd: int, limit: int) -> bytes:
    data = piece = os.read(fd, limit)
    # A file of the system may come in pieces.
    while piece and len(data) < limit:
        piece = os.read(fd, limit - len(data))
        data += piece
    return data


def open_for_writing(path: str, flags: int, dir_fd: int | None = None) -> int:
    """Open a file of ours to append to it or to write it anew: never a link, nor a second name.

    Args:
        path: the file.
        flags: `O_WRONLY` or `O_RDWR`, and `O_APPEND`, `O_CREAT`, `O_EXCL` or `O_TRUNC`.
        dir_fd: an open folder that the path is relative to.

    Raises:
        ForeignFileError: it is no regular file, belongs to another user or has a second name;
            nothing in it was changed.
        OSError: it cannot be opened.
    """
    safe = flags & ~os.O_TRUNC | _SAFELY | os.O_NOFOLLOW
    fd = os.open(path, safe, 0o600, dir_fd=dir_fd)
    try:
        st = os.fstat(fd)
        if st.st_mode & _KIND != _REGULAR or st.st_uid != os.geteuid() or st.st_nlink > 1:
            import errno  # deferred: only trouble needs it

            raise ForeignFileError(errno.EPERM, "it is not a plain file of yours alone", path)
        if flags & os.O_TRUNC:
            os.ftruncate(fd, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read(path: str, limit: int, forbidden: int = 0o077, last: bool = False) -> bytes | None:
    """The bytes of a file, never through a link.

    Args:
        path: the file.
        limit: the most bytes it may have.
        forbidden: permission bits that it must not have.
        last: read its last `limit` bytes, however long it is.

    Returns:
        Its bytes, or None when there is no such file.

    Raises:
        UnsafeFileError: it is there, but is no plain file of this user, is open to others, is
            too long or cannot be read.
    """
    fd = opened(path, forbidden)
    if fd is None:
        return None
    try:
        if last:
            return os.pread(fd, limit, max(os.fstat(fd).st_size - limit, 0))
        data = _first(fd, limit + 1)
    except OSError as error:
        raise UnsafeFileError(f"{path} cannot be read ({name_of(error)})") from None
    finally:
        os.close(fd)
    if len(data) > limit:
        raise UnsafeFileError(f"{path} is longer than {limit} bytes")
    return data


def opened(path: str, forbidden: int = 0o077) -> int | None:
    """Open a file for reading, never through a link; None when there is no such file.

    Args:
        path: the file.
        forbidden: permission bits that it must not have.

    Raises:
        UnsafeFileError: it is there, but is no plain file of this user, is open to others or
            cannot be opened.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | _SAFELY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UnsafeFileError(f"{path} cannot be opened ({name_of(error)})") from None
    try:
        st = os.fstat(fd)
        if st.st_mode & _KIND != _REGULAR or st.st_uid != os.geteuid():
            raise UnsafeFileError(f"{path} is not a plain file of yours")
        if st.st_mode & forbidden:
            raise UnsafeFileError(f"{path} is open to others (mode {st.st_mode & 0o777:04o})")
    except BaseException:
        os.close(fd)
        raise
    return fd


def remedy(path: str, mode: bool = True) -> str:
    """The command that makes a file readable again that `read()` refuses.

    Args:
        path: the file.
        mode: whether a file that is open to others can still be trusted.

    Returns:
        One phrase; empty where no change of owner or mode helps.
    """
    st = None
    while st is None:
        try:
            st = os.lstat(path)
        except PermissionError:
            # Not to be seen: the folder that it is in is closed.
            path = os.path.dirname(path)
        except OSError:
            return ""
    is_folder = st.st_mode & _KIND == _DIRECTORY
    if not is_folder and st.st_mode & _KIND != _REGULAR:
        return ""
    quoted = "'" + path.replace("'", "'\\''") + "'"
    if st.st_uid != os.geteuid():
        if os.geteuid() == 0:
            return "it belongs to another user, so run the program as that user, without sudo"
        return f'sudo chown {"-R " * is_folder}"$USER" {quoted} gives it back to you'
    if is_folder:
        return "" if st.st_mode & 0o300 == 0o300 else f"chmod 700 {quoted} opens it to you"
    if st.st_mode & 0o400 and not (mode and st.st_mode & 0o077):
        return ""
    return f"chmod 600 {quoted} makes it yours alone"


def replace(path: str, data: bytes, sync: bool = True) -> None:
    """Put `data` at `path` in one step, readable by this user only, making folders as needed.

    Args:
        path: the file.
        data: its bytes.
        sync: also write the folder to disk, so that a power failure does not bring back what was
            there before. The recorder does without.

    Raises:
        OSError: nothing was replaced.
    """
    fd, temporary = _written(path, data, sync)
    try:
        os.rename(temporary, path)
    except BaseException:
        remove(temporary)
        raise
    finally:
        _close(fd)
    if sync:
        sync_folder(os.path.dirname(path))


def create(path: str, data: bytes, sync: bool = True) -> bool:
    """The same where there is no file yet; of two processes that try, one does.

    Returns:
        Whether it was this one; False leaves what is there.

    Raises:
        OSError: nothing was made.
    """
    fd, temporary = _written(path, data, sync)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        try:
            remove(temporary)
        finally:
            _close(fd)
    if sync:
        sync_folder(os.path.dirname(path))
    return True


def sync_folder(path: str) -> None:
    """Write to disk which files are in a folder: what was renamed, made or deleted in it.

    Where the system refuses, the change holds all the same, and is written later.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        fd = os.open(path, flags)
    except OSError:
        return
    _sync(fd)
    _close(fd)


def overwrite(path: str, data: bytes) -> None:
    """Write one line over a file, in place, where there is no space to replace it.

    The line is padded with blanks to the length of what was there, so that one write of no new
    block does it. Where that fails the file is empty afterwards; one that was missing, too.

    Args:
        path: the file.
        data: the line, with its newline.

    Raises:
        OSError: the file is as it was.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    fd = os.open(path, flags, 0o600)
    try:
        st = os.fstat(fd)
        if st.st_mode & _KIND != _REGULAR or st.st_uid != os.geteuid() or st.st_nlink != 1:
            raise PermissionError(f"{path} is not a plain file of yours")
        padded = data[:-1].ljust(st.st_size - 1) + b"\n"
        try:
            written = os.write(fd, padded)
        except OSError:
            written = 0
        if written != len(padded):
            os.ftruncate(fd, 0)
        _sync(fd)
    finally:
        _close(fd)
    sync_folder(os.path.dirname(path))


def _sync(fd: int) -> None:
    try:
        os.fsync(fd)
    except OSError:
        return  # it holds all the same; the system writes it down later


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return  # it is on disk already


def _written(path: str, data: bytes, sync: bool) -> tuple[int, str]:
    """A temporary file beside `path`, whole and on disk, locked for as long as it is open."""
    folder = os.path.dirname(path)
    temporary = f"{folder}/{temporary_name(os.path.basename(path))}"
    fd = _made(folder, temporary, sync)
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
    return _written(path, data, sync)


def _made(folder: str, path: str, sync: bool) -> int:
    """A new file in a folder that is made if need be, and that somebody may take away again."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    for _ in range(_TRIES):
        make_folder(folder, sync)
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            continue
    make_folder(folder, sync)
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


def temporary_name(name: str) -> str:
    """A name beside a file of this one, by which `leftovers.sweep()` knows a temporary file."""
    return f".{name}-{os.urandom(CODE_BYTES).hex()}{SUFFIX}"


class NotOwnerError(PermissionError):
    """A folder of another user, in which nothing is made: nobody could take it away again."""


def make_folder(path: str, sync: bool = True) -> None:
    """Make a folder, and those above it, each for this user only; existing ones stay.

    Args:
        path: the folder.
        sync: also write to disk that it is there.

    Raises:
        NotOwnerError: the last one that exists is another user's: a program that runs as
            root with somebody's HOME, for instance.
        OSError: it could not be made.
    """
    if os.path.isdir(path):
        check_owner(path)
        return
    above = os.path.dirname(path)
    make_folder(above, sync)
    try:
        make_last_folder(path)
    except FileNotFoundError:
        # The one above was taken away meanwhile.
        make_folder(above, sync)
        make_last_folder(path)
    if sync:
        sync_folder(above)


def can_make(folder: str) -> bool:
    """Whether files could be made in a folder, which is made itself if need be."""
    while is_missing(folder):
        folder = os.path.dirname(folder)
    try:
        check_owner(folder)
    except OSError:
        return False
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


def is_missing(path: str) -> bool:
    """Whether nothing is there; False where that cannot be seen."""
    try:
        os.lstat(path)
    except OSError as error:
        return isinstance(error, (FileNotFoundError, NotADirectoryError))
    return False


def check_owner(folder: str) -> None:
    """Refuse a folder of another user.

    Raises:
        NotOwnerError: it is one.
        OSError: it cannot be looked at.
    """
    if os.stat(folder).st_uid != os.geteuid():
        import errno  # deferred: only trouble needs it

        raise NotOwnerError(errno.EPERM, "it belongs to another user", folder)


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
    if isinstance(error, ForeignFileError):
        return f"{error.filename} is not a plain file of yours alone"
    name = name_of(error)
    return f"{_MEANING.get(name, 'cannot be used')} ({name})"
