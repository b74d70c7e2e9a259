"""Write files that are complete or absent, even if their writer is killed."""

from __future__ import annotations

import os
from fcntl import LOCK_EX, LOCK_NB, flock

from telemetry_kit.files import private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
# A name of so many characters, with what is put around it, fits every file system.
_MAX_NAME_CHARS = 50


class NewFile:
    """A temporary file beside its target, for this user only, deleted unless `place()` succeeds.

    It is locked while it is open: `leftovers.sweep()` deletes one whose writer was killed.

    Args:
        path: the target.
        dir_fd: an open folder that the path is relative to.

    Attributes:
        fd: the open file, for reading and writing.
        path: its name, for a library that opens files itself.

    Raises:
        OSError: it could not be made.
    """

    def __init__(self, path: str, dir_fd: int | None = None) -> None:
        folder, name = os.path.split(path)
        self._dir_fd = dir_fd
        self.path = os.path.join(folder, private.temporary_name(name[:_MAX_NAME_CHARS]))
        self.fd = os.open(self.path, _FLAGS, 0o600, dir_fd=dir_fd)
        try:
            os.fchmod(self.fd, 0o600)
            flock(self.fd, LOCK_EX | LOCK_NB)
        except OSError:
            pass  # a file system without modes or locks, and so nothing that is swept there

    def __enter__(self) -> Self:
        return self

    def place(self, path: str, replace: bool = True, sync: bool = True) -> None:
        """Give the file the name of its target.

        Args:
            path: the target, in the folder that was given.
            replace: whether to replace what is there.
            sync: whether the content is on disk before.

        Raises:
            FileExistsError: not to be replaced, and something is there.
            OSError: the target is as it was; the temporary file is gone or another one, or the
                system refused.
        """
        if sync:
            os.fsync(self.fd)
        now = os.stat(self.path, dir_fd=self._dir_fd, follow_symlinks=False)
        if not os.path.samestat(now, os.fstat(self.fd)):
            raise OSError("another file came in the place of the temporary one")
        if replace:
            os.rename(self.path, path, src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd)
        else:
            self._link(path)

    def _link(self, path: str) -> None:
        """Never over a file that came meanwhile."""
        try:
            os.link(self.path, path, src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd)
        except FileExistsError:
            raise
        except OSError:
            # A file system without hard links.
            if os.path.lexists(path):
                raise FileExistsError(path) from None
            os.rename(self.path, path)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            os.unlink(self.path, dir_fd=self._dir_fd)
        except OSError:
            pass  # it has its name, or goes with the next sweep
        try:
            os.close(self.fd)
        except OSError:
            return  # it is on disk already, or given up
