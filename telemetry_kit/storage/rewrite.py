"""Compress, rewrite or delete one segment, even while a program has it open.

As long as a sealed file exists, it counts, and an archive beside it is ignored.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EMLINK
from fcntl import LOCK_EX, LOCK_NB, flock

from telemetry_kit.files.atomic import NewFile
from telemetry_kit.files.private import SAFE_FLAGS, name_of
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import compression, line_parts, rotation
from telemetry_kit.storage.segments import SEALED, FileReport, Segment, Source, read_chunks

Keep = Callable[[bytes], bool]

_PAGE_BYTES = 1 << 12
_TOO_LARGE = "it is larger than an archive may be, and stays as it is"


class MaintenanceResult:
    """What maintenance did.

    Attributes:
        archived: how many segments were compressed.
        deleted: how many segments were deleted.
        deleted_for_space: how many of them because the log took too much space.
        lines: how many lines were removed from other segments.
        in_use: how many sealed segments were left, because a program has them open.
        failures: the files that could not be changed, each with the reason.
    """

    def __init__(self) -> None:
        self.archived = self.deleted = self.deleted_for_space = 0
        self.lines = self.in_use = 0
        self.failures: list[str] = []


class Rewriter:
    """Changes segments of one log. The caller holds the maintenance lock.

    Args:
        result: receives the counts and failures.
    """

    def __init__(self, paths: ProjectPaths, folder: int, result: MaintenanceResult) -> None:
        self.paths = paths
        self.folder = folder
        self.result = result

    def compress(self, segment: Segment) -> None:
        """Replace a sealed segment by an archive, unless a program has it open."""
        with self.reported(segment), lock(self.folder, segment) as is_free:
            if is_free:
                self.replace(segment, None)
            else:
                self.result.in_use += 1

    def rewrite(self, segment: Segment, keep: Keep) -> None:
        """Remove lines from a segment, and compress it unless a program has it open.

        Args:
            segment: a sealed one, or an archive.
            keep: receives each line without its newline, and each event of joined ones alone.
                False removes it.
        """
        with self.reported(segment), lock(self.folder, segment) as is_free:
            if not is_free or not self.replace(segment, keep):
                self.blank(segment, keep, is_free)

    def delete(self, segment: Segment, keep: Keep) -> None:
        """Delete a segment, or only its lines if a program has it open.

        Args:
            segment: a sealed one, or an archive.
            keep: selects lines that stay, because a program may write them until then.
        """
        with self.reported(segment), lock(self.folder, segment) as is_free:
            if is_free:
                self.unlink(segment)
                self.result.deleted += 1
            else:
                self.blank(segment, keep, is_free)

    @contextmanager
    def reported(self, segment: Segment) -> Iterator[None]:
        """Report an error of the system."""
        try:
            yield
        except OSError as error:
            self.fail(segment, name_of(error))

    def fail(self, segment: Segment, reason: str) -> None:
        """Report a segment that could not be changed."""
        self.result.failures.append(f"{self.paths.folder}/{segment.name} ({reason})")

    def unlink(self, segment: Segment) -> None:
        """Delete a segment, and first the archives beside it, which would count from then on."""
        if segment.kind == SEALED:
            self.unlink_archives(segment)
        os.unlink(segment.name, dir_fd=self.folder)

    def unlink_archives(self, segment: Segment, but: str = "") -> None:
        """Delete the archives that killed processes left beside a sealed file."""
        for suffix in (compression.GZIP, compression.ZSTD):
            if suffix != but:
                try:
                    os.unlink(f"{segment.name}{suffix}", dir_fd=self.folder)
                except FileNotFoundError:
                    continue

    def replace(self, segment: Segment, keep: Keep | None) -> bool:
        """Write a new archive beside the segment, and rename it to its place.

        Returns:
            False if a sealed file is too large for an archive, and lines must be removed from it.
        """
        obstacle = compression.obstacle(segment.name)
        if obstacle:
            self.fail(segment, obstacle)
            return True
        with NewFile(segment.name, self.folder) as new:
            archive = Archive(segment, self.folder, keep)
            archive.write(new)
            # Before the check of the size: it takes time, in which the segment may grow.
            os.fsync(new.fd)
            why = archive.report.stopped
            if not why and segment.kind == SEALED:
                st = os.stat(segment.name, dir_fd=self.folder, follow_symlinks=False)
                why = "it is still written to" if st.st_size != archive.read_bytes else ""
            if why == _TOO_LARGE and segment.kind == SEALED and keep is not None:
                return False
            if why:
                # A damaged archive is left whole, rather than replaced by its readable part.
                self.fail(segment, why)
            elif keep is None or archive.removed_lines or segment.kind == SEALED:
                self.place(segment, new, archive)
        return True

    def place(self, segment: Segment, new: NewFile, archive: Archive) -> None:
        """Put an archive in the place of its segment, or delete the segment if it is empty."""
        if archive.kept_bytes:
            new.place(f"{segment.name.partition('.jsonl')[0]}.jsonl{archive.suffix}", sync=False)
            os.fsync(self.folder)
            if segment.kind == SEALED:
                # The sealed file goes last: while it exists, no archive beside it is read.
                self.unlink_archives(segment, but=archive.suffix)
                os.unlink(segment.name, dir_fd=self.folder)
                self.result.archived += 1
        else:
            self.unlink(segment)
            self.result.deleted += 1
        self.result.lines += archive.removed_lines

    def blank(self, segment: Segment, keep: Keep, is_free: bool) -> None:
        """Overwrite lines of a sealed file with newlines, while a program may have it open.

        The program may be stopped for hours between its check of the file and its write. Then it
        writes to this very file. A new file in its place, or none, would lose that line.
        """
        self.unlink_archives(segment)
        fd, at = self.open_sealed(segment), 0
        try:
            for part, is_removed in line_parts.select(read_chunks(fd), keep):
                if is_removed and (is_free or not part.last):
                    blank_range(fd, at, at + len(part.data))
                    self.result.lines += part.begins
                elif is_removed:
                    # A program may be writing this line, and would append to the newlines.
                    self.fail(segment, "its last line has no newline, and a program has it open")
                at += len(part.data) + len(part.end)
            os.fsync(fd)
        finally:
            os.close(fd)

    def open_sealed(self, segment: Segment) -> int:
        """Open a sealed file for writing; its mode stays read-only."""
        fd = os.open(segment.name, os.O_RDONLY | SAFE_FLAGS, dir_fd=self.folder)
        try:
            if not rotation.is_plain(os.fstat(fd)):
                # A file with a second name also belongs to another folder.
                raise OSError(EMLINK, segment.name)
            os.fchmod(fd, rotation.WRITABLE_MODE)
            try:
                out = os.open(segment.name, os.O_RDWR | SAFE_FLAGS, dir_fd=self.folder)
            finally:
                os.fchmod(fd, rotation.SEALED_MODE)
            if os.path.sameopenfile(fd, out):
                return out
            os.close(out)
            raise FileNotFoundError(segment.name)
        finally:
            os.close(fd)


@contextmanager
def lock(folder: int, segment: Segment) -> Iterator[bool]:
    """Lock a segment against writers, and yield whether no program has it open.

    Archives need no lock, because nothing writes to them.
    """
    if segment.kind != SEALED:
        yield True
        return
    try:
        fd = os.open(segment.name, os.O_RDWR | SAFE_FLAGS, dir_fd=folder)
    except PermissionError:
        # A sealed file is read-only. An exclusive lock does not need more.
        fd = os.open(segment.name, os.O_RDONLY | SAFE_FLAGS, dir_fd=folder)
    try:
        try:
            flock(fd, LOCK_EX | LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


class Archive:
    """The new content of a segment.

    Args:
        segment: what it is made from.
        keep: receives each line without its newline; None keeps all lines.

    Attributes:
        report: why the segment could not be read or compressed.
        suffix: the end of the archive's name.
        kept_bytes: how many bytes are in it, uncompressed.
        read_bytes: how many bytes were read.
        removed_lines: how many lines were left out.
    """

    def __init__(self, segment: Segment, folder: int, keep: Keep | None) -> None:
        self._source = Source(segment, folder, None)
        self._keep = keep
        self.report = FileReport()
        self.suffix = ""
        self.kept_bytes: int | None = None
        self.read_bytes = self.removed_lines = 0

    def write(self, new: NewFile) -> None:
        """Write it with the first codec whose result a reader accepts."""
        for codec in compression.codecs(self._source.segment.name):
            self.suffix = codec.suffix
            self.read_bytes = self.removed_lines = 0
            chunks = self.read() if self._keep is None else self.filter(self._keep)
            self.kept_bytes = compression.compress(new.write, chunks, codec)
            if self.kept_bytes is not None:
                return
            os.ftruncate(new.fd, 0)
            os.lseek(new.fd, 0, os.SEEK_SET)
        self.report.stopped = _TOO_LARGE

    def read(self) -> Iterator[bytes]:
        """Read and count the bytes of the segment."""
        for chunk in self._source.chunks(self.report):
            self.read_bytes += len(chunk)
            yield chunk

    def filter(self, keep: Keep) -> Iterator[bytes]:
        """Leave out lines; an event that was joined to a removed one gets its own line."""
        is_line_open = False
        for part, is_removed in line_parts.select(self.read(), keep):
            self.removed_lines += is_removed and part.begins
            if not is_removed:
                yield part.data + part.end
                is_line_open = not part.end
            elif is_line_open:
                yield b"\n"
                is_line_open = False


def blank_range(fd: int, begin: int, end: int) -> None:
    """Overwrite bytes from their end: after a kill, the rest still has the day of the line."""
    while begin < end:
        at = max(begin, (end - 1) // _PAGE_BYTES * _PAGE_BYTES)
        os.pwrite(fd, b"\n" * (end - at), at)
        end = at
