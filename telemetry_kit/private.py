"""Files that belong to the user alone: read without being fooled, replaced as a whole.

What is in them is not known here.
"""

from __future__ import annotations

import os

from telemetry_kit.errors import TelemetryError

_KIND = 0o170000
_REGULAR = 0o100000
_DIRECTORY = 0o040000


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
    temporary = _written(path, data)
    try:
        os.rename(temporary, path)
    except BaseException:
        remove(temporary)
        raise


def create(path: str, data: bytes) -> bool:
    """The same where there is no file yet; of two processes that try, one does.

    Returns:
        Whether it was this one; False leaves what is there.

    Raises:
        OSError: nothing was made.
    """
    temporary = _written(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        remove(temporary)
    return True


def _written(path: str, data: bytes) -> str:
    folder = os.path.dirname(path)
    make_folder(folder)
    temporary = f"{folder}/.{os.path.basename(path)}-{os.urandom(6).hex()}.tmp"
    fd = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
    )
    try:
        try:
            os.fchmod(fd, 0o600)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        remove(temporary)
        raise
    return temporary


def make_folder(path: str) -> None:
    """Make a folder, and those above it, each for this user only; existing ones stay."""
    if os.path.isdir(path):
        return
    make_folder(os.path.dirname(path))
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    # A umask that takes the owner's own bits away is the only reason for another mode.
    if os.lstat(path).st_mode & 0o777 != 0o700:
        os.chmod(path, 0o700, follow_symlinks=False)


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
