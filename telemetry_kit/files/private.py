"""Open, read and delete files with checks of their kind, owner and permissions.

`files.atomic` replaces whole files.
"""

from __future__ import annotations

import errno
import os
import stat

from telemetry_kit.errors import TelemetryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

# The errors of `flock` on file systems that cannot lock files. NFS, FUSE and 9p differ in them.
NO_LOCKS = frozenset(
    {errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
)
_NO_FOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
# With these flags, opening a pipe does not block, a terminal does not become the controlling one,
# and a symbolic link is refused. Windows has none of them.
_NAMES = ("O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY")
SAFE_FLAGS: int = _NO_FOLLOW + sum(getattr(os, name, 0) for name in _NAMES)


class UnsafeFileError(TelemetryError):
    """A file exists but cannot be trusted. The message names the file and the reason."""


class ForeignFileError(PermissionError):
    """A file must not be changed: a pipe or device, another user's, or one with a second name."""


def _open(path: str, flags: int, check: Callable[[int], None], dir_fd: int | None = None) -> int:
    """Open a file, and close it again if `check` raises."""
    fd = os.open(path, flags, 0o600, dir_fd=dir_fd)
    try:
        check(fd)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _is_own(st: os.stat_result) -> bool:
    return stat.S_ISREG(st.st_mode) and st.st_uid == os.geteuid()


def open_folder(path: str) -> int:
    """Open a folder, never through a symbolic link.

    Raises:
        OSError: it cannot be opened, or is not a folder.
    """
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)


def open_regular(path: str, follow: bool = True) -> int:
    """Open a regular file of any user for reading.

    Args:
        path: the file.
        follow: whether it may be a symbolic link.

    Raises:
        OSError: it cannot be opened, or is a pipe, a device or a folder.
        ValueError: the path holds a zero byte.
    """

    def check(fd: int) -> None:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            number = errno.EISDIR if stat.S_ISDIR(mode) else errno.ENXIO
            raise OSError(number, os.strerror(number), path)

    return _open(path, os.O_RDONLY | SAFE_FLAGS & ~(_NO_FOLLOW * follow), check)


def read_regular(path: str, limit: int, follow: bool = True) -> bytes:
    """Read the first bytes of a regular file of any user, without blocking.

    Args:
        path: the file.
        limit: the most bytes to read.
        follow: whether it may be a symbolic link.

    Raises:
        OSError: it cannot be read, or is no regular file.
        ValueError: the path holds a zero byte.
    """
    fd = open_regular(path, follow)
    try:
        return _read_up_to(fd, limit)
    finally:
        os.close(fd)


def _read_up_to(fd: int, limit: int) -> bytes:
    data = block = os.read(fd, limit)
    # A file in /proc or /sys may return less than was asked for.
    while block and len(data) < limit:
        block = os.read(fd, limit - len(data))
        data += block
    return data


def open_own(path: str, flags: int, dir_fd: int | None = None) -> int:
    """Open one of the user's own files, never a symbolic or second hard link.

    Args:
        path: the file.
        flags: `O_RDONLY`, `O_WRONLY` or `O_RDWR`, and `O_APPEND`, `O_CREAT`, `O_EXCL` or `O_TRUNC`.
        dir_fd: an open folder that the path is relative to.

    Raises:
        ForeignFileError: it is no regular file, belongs to another user or has a second name.
            Its content is unchanged.
        OSError: it cannot be opened.
    """

    def check(fd: int) -> None:
        st = os.fstat(fd)
        if not _is_own(st) or st.st_nlink > 1:
            raise ForeignFileError(errno.EPERM, "it is not a plain file of yours alone", path)
        if flags & os.O_TRUNC:
            os.ftruncate(fd, 0)

    return _open(path, flags & ~os.O_TRUNC | SAFE_FLAGS, check, dir_fd)


def read(path: str, limit: int, forbidden: int = 0o077, last: bool = False) -> bytes | None:
    """Read one of the user's own files, never through a symbolic link.

    Args:
        path: the file.
        limit: the most bytes it may have.
        forbidden: permission bits that it must not have.
        last: read its last `limit` bytes, whatever its size.

    Returns:
        Its bytes, or None if there is no such file.

    Raises:
        UnsafeFileError: it exists, but is no regular file of this user, is open to other users,
            is too long or cannot be read.
    """
    fd = open_private(path, forbidden)
    if fd is None:
        return None
    try:
        if last:
            return os.pread(fd, limit, max(os.fstat(fd).st_size - limit, 0))
        data = _read_up_to(fd, limit + 1)
    except OSError as error:
        raise UnsafeFileError(f"{path} cannot be read ({name_of(error)})") from None
    finally:
        os.close(fd)
    if len(data) > limit:
        raise UnsafeFileError(f"{path} is longer than {limit:,} bytes")
    return data


def open_private(path: str, forbidden: int = 0o077) -> int | None:
    """Open one of the user's own files for reading; None if there is no such file.

    Args:
        path: the file.
        forbidden: permission bits that it must not have.

    Raises:
        UnsafeFileError: it exists, but is no regular file of this user, is open to other users
            or cannot be opened.
    """

    def check(fd: int) -> None:
        st = os.fstat(fd)
        if not _is_own(st):
            raise UnsafeFileError(f"{path} is not a plain file of yours")
        if st.st_mode & forbidden:
            raise UnsafeFileError(f"{path} is open to others (mode {st.st_mode & 0o777:04o})")

    try:
        return _open(path, os.O_RDONLY | SAFE_FLAGS, check)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise UnsafeFileError(f"{path} cannot be opened ({name_of(error)})") from None


def remedy(path: str, mode: bool = True) -> str:
    """Find the command after which `read()` accepts a file that it refuses now.

    Args:
        path: the file.
        mode: whether a file that is open to other users can still be trusted.

    Returns:
        One phrase, or an empty string if no change of owner or mode helps.
    """
    st = None
    while st is None:
        try:
            st = os.lstat(path)
        except PermissionError:
            # The user cannot search the folder, so the folder is the one to repair.
            path = os.path.dirname(path)
        except OSError:
            return ""
    is_folder = stat.S_ISDIR(st.st_mode)
    if not is_folder and not stat.S_ISREG(st.st_mode):
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


def sync_folder(path: str) -> None:
    """Write the entries of a folder to disk: what was renamed, created or deleted in it.

    If the system refuses, the change is in effect and is written later.
    """
    try:
        fd = open_folder(path)
    except OSError:
        return
    sync(fd)
    close(fd)


def sync(fd: int) -> None:
    """Write an open file to disk, unless the system refuses."""
    try:
        os.fsync(fd)
    except OSError:
        return  # the content is in effect, and is written later


def close(fd: int) -> None:
    """Close a file whose content is on disk already, and ignore errors."""
    try:
        os.close(fd)
    except OSError:
        return  # a network file system may report an old error here


class NotOwnerError(PermissionError):
    """A folder belongs to another user, who could not delete what is created in it."""


def make_folder(path: str, sync: bool = True) -> None:
    """Create a folder and its parents, each with mode 0700; existing ones are unchanged.

    Args:
        path: the folder.
        sync: also write the new folder entries to disk.

    Raises:
        NotOwnerError: the last existing folder belongs to another user. An example is a program
            that runs as root with the HOME of a user.
        OSError: it could not be created.
    """
    if os.path.isdir(path):
        if os.stat(path).st_uid != os.geteuid():
            raise NotOwnerError(errno.EPERM, "it belongs to another user", path)
        return
    above = os.path.dirname(path)
    make_folder(above, sync)
    try:
        make_last_folder(path)
    except FileNotFoundError:
        # Another process has deleted the parent meanwhile.
        make_folder(above, sync)
        make_last_folder(path)
    if sync:
        sync_folder(above)


def can_make(folder: str) -> bool:
    """Whether files could be created in a folder, which may be missing itself."""
    while is_missing(folder):
        folder = os.path.dirname(folder)
    try:
        st = os.stat(folder)
    except OSError:
        return False
    is_own = stat.S_ISDIR(st.st_mode) and st.st_uid == os.geteuid()
    return is_own and os.access(folder, os.W_OK | os.X_OK)


def is_missing(path: str) -> bool:
    """Whether nothing has this name; False if the system does not let the user see."""
    try:
        os.lstat(path)
    except OSError as error:
        return isinstance(error, (FileNotFoundError, NotADirectoryError))
    return False


def make_last_folder(path: str) -> None:
    """Create one folder with mode 0700 in an existing folder; do nothing if it exists.

    Raises:
        OSError: it could not be created.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    # Only a umask that removes the owner's own bits leads to another mode.
    if os.lstat(path).st_mode & 0o777 != 0o700:
        set_mode(path, 0o700)


def set_mode(path: str, mode: int) -> None:
    """Set the permission bits of a path, never through a symbolic link.

    Raises:
        OSError: they could not be set, or the path is a symbolic link.
    """
    try:
        os.chmod(path, mode, follow_symlinks=False)
    except NotImplementedError:
        # The interpreter raises this for a symbolic link if the system cannot change its mode.
        raise OSError(errno.ELOOP, "a link", path) from None


def remove(path: str) -> bool:
    """Delete a file, and return whether it existed."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def name_of(error: Exception) -> str:
    """Return the system's short name of an error, for example `ENOSPC`; never its text."""
    number = getattr(error, "errno", None)
    if number is None:
        return type(error).__name__
    return errno.errorcode.get(number, str(number))


_MEANING = {
    "ENOSPC": "the disk is full",
    "EDQUOT": "the disk quota is used up",
    "EROFS": "the file system is read-only",
    "ENOENT": "there is no such file",
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
    """Describe an error in words, without its own text, which may hold data of the host."""
    if isinstance(error, ForeignFileError):
        return f"{error.filename} is not a plain file of yours alone"
    name = name_of(error)
    return f"{_MEANING.get(name, 'cannot be used')} ({name})"
