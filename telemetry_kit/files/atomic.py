"""Write files that are complete or absent, even if the process is killed."""

from __future__ import annotations

import os

from telemetry_kit.files import private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

SUFFIX = ".telemetry-kit.tmp"
CODE_BYTES = 6
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | private.SAFE_FLAGS
# Such a name fits every file system, together with the parts that `temporary_name()` adds.
_MAX_NAME_CHARS = 50
_ATTEMPTS = 20


class NewFile:
    """A temporary file beside its target, with mode 0600, deleted unless `place()` succeeds.

    It is locked while it is open, so `leftovers.sweep()` deletes it only after its writer ended.

    Args:
        path: the target.
        dir_fd: an open folder that the path is relative to.

    Attributes:
        fd: the open file, for reading and writing.
        path: its name, for a library that opens files itself.

    Raises:
        OSError: it could not be created.
    """

    def __init__(self, path: str, dir_fd: int | None = None) -> None:
        import fcntl  # deferred: Windows has none, and this module is imported there

        folder, name = os.path.split(path)
        self._dir_fd = dir_fd
        for _ in range(_ATTEMPTS):
            self.path = os.path.join(folder, temporary_name(name[:_MAX_NAME_CHARS]))
            self.fd = os.open(self.path, _FLAGS, 0o600, dir_fd=dir_fd)
            try:
                os.fchmod(self.fd, 0o600)
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                is_swept = os.fstat(self.fd).st_nlink == 0
            except BlockingIOError:
                is_swept = True  # another process sweeps, and took it for a leftover
            except OSError:
                return  # the file system has no modes or no locks, and nothing is swept there
            if not is_swept:
                return
            os.close(self.fd)
        raise OSError("another process deletes every temporary file")

    def __enter__(self) -> Self:
        return self

    def write(self, data: bytes) -> None:
        """Append all bytes to the file.

        Raises:
            OSError: the system refused some of them.
        """
        view = memoryview(data)
        while view:
            view = view[os.write(self.fd, view) :]

    def place(self, path: str, replace: bool = True, sync: bool = True) -> None:
        """Give the file the name of its target.

        Args:
            path: the target, in the folder of the temporary file.
            replace: whether to replace an existing file.
            sync: whether to write the content to disk first.

        Raises:
            FileExistsError: `replace` is false, and the target exists.
            OSError: the system refused, or another process deleted or replaced the temporary
                file. The target is unchanged.
        """
        if sync:
            os.fsync(self.fd)
        now = os.stat(self.path, dir_fd=self._dir_fd, follow_symlinks=False)
        if not os.path.samestat(now, os.fstat(self.fd)):
            raise OSError("another process has replaced the temporary file")
        if not replace:
            try:
                # Never over a file that was created meanwhile.
                os.link(self.path, path, src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd)
            except FileExistsError:
                raise
            except OSError:
                # The file system has no hard links.
                if os.path.lexists(path):
                    raise FileExistsError(path) from None
            else:
                return
        os.rename(self.path, path, src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            os.unlink(self.path, dir_fd=self._dir_fd)
        except OSError:
            pass  # it was renamed, or the next sweep deletes it
        private.close(self.fd)


def temporary_name(name: str) -> str:
    """Return a new name for a temporary file, which `leftovers.sweep()` recognizes."""
    return f".{name}-{os.urandom(CODE_BYTES).hex()}{SUFFIX}"


def replace(path: str, data: bytes, sync: bool = True) -> None:
    """Replace a file in one step by one with mode 0600; create missing folders.

    Args:
        path: the file.
        data: its bytes.
        sync: also write the folder to disk, so that the old file does not return after a power
            failure. The recorder does not wait for that.

    Raises:
        OSError: nothing was replaced.
    """
    with _new_file(path, sync) as new:
        new.write(data)
        new.place(path)
    if sync:
        private.sync_folder(os.path.dirname(path))


def create(path: str, data: bytes, sync: bool = True) -> bool:
    """Do the same unless the file exists; if two processes try, only one of them creates it.

    Returns:
        Whether this call created it.

    Raises:
        OSError: nothing was created.
    """
    with _new_file(path, sync) as new:
        new.write(data)
        os.fsync(new.fd)
        try:
            # Not `place()`: where hard links are missing, two processes could both succeed.
            os.link(new.path, path)
        except FileExistsError:
            return False
    if sync:
        private.sync_folder(os.path.dirname(path))
    return True


def _new_file(path: str, sync: bool) -> NewFile:
    """Open a temporary file in a folder that other processes may delete meanwhile."""
    for _ in range(_ATTEMPTS):
        private.make_folder(os.path.dirname(path), sync)
        try:
            return NewFile(path)
        except FileNotFoundError:
            continue
    raise FileNotFoundError(path)


def overwrite(path: str, data: bytes) -> None:
    """Write one line over a file in place, for a disk with no space to replace the file.

    The line is padded with spaces to the size of the file, so one write without a new block is
    enough. If that write fails, the file is empty afterwards, also if it was missing before.

    Args:
        path: the file.
        data: the line, with its newline.

    Raises:
        OSError: the file is unchanged.
    """
    fd = private.open_own(path, os.O_WRONLY | os.O_CREAT)
    try:
        padded = data[:-1].ljust(os.fstat(fd).st_size - 1) + b"\n"
        try:
            written = os.write(fd, padded)
        except OSError:
            written = 0
        if written != len(padded):
            os.ftruncate(fd, 0)
        private.sync(fd)
    finally:
        private.close(fd)
    private.sync_folder(os.path.dirname(path))
