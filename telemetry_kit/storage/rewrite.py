"""Compress, rewrite or delete one segment, even while a program holds it open.

The caller chooses the lines. Until an archive is complete, the sealed file counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from errno import EMLINK
from fcntl import LOCK_EX, LOCK_NB, flock

from telemetry_kit.files.atomic import NewFile
from telemetry_kit.files.private import name_of
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import compression, line_parts, rotation
from telemetry_kit.storage.segments import SEALED, Report, Segment, Source

Keep = Callable[[bytes], bool]

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_CHUNK_BYTES = 1 << 16
_PAGE_BYTES = 1 << 12
_TOO_LARGE = "it is larger than an archive may be, and stays as it is"


class Done:
    """What maintenance did.

    Args:
        archived: segments packed.
        deleted: segments deleted because their time, or the space for them, was over.
        crowded: how many of them for the space.
        lines: lines removed from segments that stay.
        leased: sealed segments left alone because a program still holds them open.
        survivors: what should have gone and could not, each with the reason.
    """

    __slots__ = ("archived", "crowded", "deleted", "leased", "lines", "survivors")

    def __init__(self) -> None:
        self.archived = 0
        self.deleted = 0
        self.crowded = 0
        self.lines = 0
        self.leased = 0
        self.survivors: list[str] = []


def pack(home: ProjectPaths, folder: int, segment: Segment, done: Done) -> None:
    """Make a sealed segment an archive, unless a program still holds it open.

    Args:
        home: whose journal.
        folder: its open folder, under the maintenance lock.
        segment: a sealed one.
        done: filled.
    """
    with _survived(home, segment, done), _without_writers(folder, segment) as alone:
        if alone:
            _replace(home, folder, segment, None, done)
        else:
            done.leased += 1


def thin(home: ProjectPaths, folder: int, segment: Segment, keep: Keep, done: Done) -> None:
    """Take lines out of a segment; a sealed one that nobody holds open is packed as well.

    Args:
        home: whose journal.
        folder: its open folder, under the maintenance lock.
        segment: a sealed one, or an archive.
        keep: told each line without its end, and apart what is glued together in one; False
            removes it.
        done: filled.
    """
    with _survived(home, segment, done), _without_writers(folder, segment) as alone:
        if not alone or not _replace(home, folder, segment, keep, done):
            _blank(home, folder, segment, keep, done, alone)


def delete(home: ProjectPaths, folder: int, segment: Segment, keep: Keep, done: Done) -> None:
    """Delete a segment; one that a program holds open loses its lines instead.

    Args:
        home: whose journal.
        folder: its open folder, under the maintenance lock.
        segment: a sealed one, or an archive.
        keep: lines that a program may write to it yet, and that stay.
        done: filled.
    """
    with _survived(home, segment, done), _without_writers(folder, segment) as alone:
        if alone:
            _unlink(folder, segment)
            done.deleted += 1
        else:
            _blank(home, folder, segment, keep, done, alone)


def is_held(folder: int, segment: Segment) -> bool:
    """Whether a program still holds a sealed segment open."""
    with _without_writers(folder, segment) as alone:
        return not alone


# -- one step each -----------------------------------------------------------------------------


@contextmanager
def _survived(home: ProjectPaths, segment: Segment, done: Done) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        done.survivors.append(f"{home.folder}/{segment.name} ({name_of(error)})")


@contextmanager
def _without_writers(folder: int, segment: Segment) -> Iterator[bool]:
    """Whether all leases of it are given back, and stay so; nothing ever writes to an archive."""
    if segment.kind != SEALED:
        yield True
        return
    try:
        fd = os.open(segment.name, os.O_RDWR | _FLAGS, dir_fd=folder)
    except PermissionError:
        # Sealed means read-only, to us as well; an exclusive flock does not need more.
        fd = os.open(segment.name, os.O_RDONLY | _FLAGS, dir_fd=folder)
    try:
        try:
            flock(fd, LOCK_EX | LOCK_NB)
        except OSError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)


def _unlink(folder: int, segment: Segment) -> None:
    if segment.kind == SEALED:
        _unlink_leftovers(folder, segment)
    os.unlink(segment.name, dir_fd=folder)


def _unlink_leftovers(folder: int, segment: Segment, but: str = "") -> None:
    """What an archiver that was killed has left behind a sealed file must not come to light."""
    for suffix in (compression.GZIP, compression.ZSTD):
        if suffix != but:
            try:
                os.unlink(f"{segment.name}{suffix}", dir_fd=folder)
            except FileNotFoundError:
                continue


def _replace(
    home: ProjectPaths, folder: int, segment: Segment, keep: Keep | None, done: Done
) -> bool:
    """Write the archive anew beside the segment; a rename puts it in its place.

    Returns:
        False where a sealed file is too large for that, and lines are to go from it.
    """
    obstacle = compression.obstacle(segment.name)
    if obstacle:
        done.survivors.append(f"{home.folder}/{segment.name} ({obstacle})")
        return True
    with NewFile(segment.name, folder) as new:
        made = _Made(segment, folder, keep)
        made.write(new.fd)
        # Before the look at the segment: it takes time, in which that may grow.
        os.fsync(new.fd)
        why = made.report.stopped or _has_grown(folder, segment, made.removed.bytes)
        if why == _TOO_LARGE and segment.kind == SEALED and keep is not None:
            return False
        if why:
            # Better a damaged archive than what is left of it.
            done.survivors.append(f"{home.folder}/{segment.name} ({why})")
        elif keep is None or made.removed.lines or segment.kind == SEALED:
            _settle(folder, segment, new, made, done)
        return True


def _has_grown(folder: int, segment: Segment, size: int) -> str:
    if segment.kind == SEALED:
        found = os.stat(segment.name, dir_fd=folder, follow_symlinks=False)
        if found.st_size != size:
            return "it is still written to"
    return ""


def _settle(folder: int, segment: Segment, new: NewFile, made: _Made, done: Done) -> None:
    if made.kept:
        name = f"{segment.name.partition('.jsonl')[0]}.jsonl{made.suffix}"
        new.place(name, sync=False)
        os.fsync(folder)
        if segment.kind == SEALED:
            # Last the sealed file: as long as it is there, no archive beside it is read.
            _unlink_leftovers(folder, segment, but=made.suffix)
            os.unlink(segment.name, dir_fd=folder)
            done.archived += 1
    else:
        _unlink(folder, segment)
        done.deleted += 1
    done.lines += made.removed.lines


class _Made:
    """An archive in the making.

    Args:
        segment: what is packed.
        folder: its open folder.
        keep: told each line without its end; None keeps all.
    """

    def __init__(self, segment: Segment, folder: int, keep: Keep | None) -> None:
        self._source = Source(segment, folder, None)
        self._keep = keep
        self.report = Report()
        self.removed = _Removed(keep)
        self.kept: int | None = None
        self.suffix = ""

    def write(self, out: int) -> None:
        """Pack into an open, empty file, in the first way that a reader would accept."""
        for way in compression.ways(self._source.segment.name):
            self.suffix = way.suffix
            self.removed = _Removed(self._keep)
            chunks = self.removed.counted(self._source.chunks(self.report))
            chunks = self.removed.filter(chunks) if self._keep else chunks
            self.kept = compression.pack(lambda data: _write(out, data), chunks, way)
            if self.kept is not None:
                return
            os.ftruncate(out, 0)
            os.lseek(out, 0, os.SEEK_SET)
        self.report.stopped = _TOO_LARGE


class _Removed:
    """Filters lines and counts those that go, and the bytes that came.

    Args:
        keep: told each line without its end.
    """

    def __init__(self, keep: Keep | None) -> None:
        self._keep = keep or (lambda _line: True)
        self.lines = 0
        self.bytes = 0

    def counted(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.bytes += len(chunk)
            yield chunk

    def filter(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """What stays: as it is, but on a line of its own where something next to it went."""
        open_line = False
        for piece, goes in line_parts.judged(chunks, self._keep):
            self.lines += goes and piece.begins
            if not goes:
                yield piece.data + piece.end
                open_line = not piece.end
            elif open_line:
                yield b"\n"
                open_line = False


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


# -- in its place ------------------------------------------------------------------------------


def _blank(
    home: ProjectPaths, folder: int, segment: Segment, keep: Keep, done: Done, alone: bool
) -> None:
    """Overwrite lines of a sealed file with empty ones, as where a program holds it open.

    The program may sleep between its look at the file and its write, stopped by Ctrl-Z or with
    the lid closed, for hours: then it writes to this very file, and what it was told is on file
    must be found. A file in its place, or none, would lose that line.
    """
    _unlink_leftovers(folder, segment)
    fd, at = _lent(folder, segment), 0
    try:
        for piece, goes in line_parts.judged(_chunks(fd), keep):
            if goes and (alone or not piece.last):
                _overwrite(fd, at, at + len(piece.data))
                done.lines += piece.begins
            elif goes:
                # Somebody may be inside it: what comes would be glued to nothing.
                told = "its last line is not ended, and a program holds it open"
                done.survivors.append(f"{home.folder}/{segment.name} ({told})")
            at += len(piece.data) + len(piece.end)
        os.fsync(fd)
    finally:
        os.close(fd)


def _chunks(fd: int) -> Iterator[bytes]:
    at = 0
    while chunk := os.pread(fd, _CHUNK_BYTES, at):
        at += len(chunk)
        yield chunk


def _lent(folder: int, segment: Segment) -> int:
    """The sealed file open for writing, sealed again."""
    fd = os.open(segment.name, os.O_RDONLY | _FLAGS, dir_fd=folder)
    try:
        if not rotation.is_plain(os.fstat(fd)):
            # With a second name it is somebody else's file, too.
            raise OSError(EMLINK, segment.name)
        os.fchmod(fd, rotation.LENT_MODE)
        try:
            out = os.open(segment.name, os.O_RDWR | _FLAGS, dir_fd=folder)
        finally:
            os.fchmod(fd, rotation.SEALED_MODE)
        if os.path.sameopenfile(fd, out):
            return out
        os.close(out)
        raise FileNotFoundError(segment.name)
    finally:
        os.close(fd)


def _overwrite(fd: int, begin: int, end: int) -> None:
    """From its end: killed in between, it leaves the front, which still tells the day."""
    while begin < end:
        at = max(begin, (end - 1) // _PAGE_BYTES * _PAGE_BYTES)
        os.pwrite(fd, b"\n" * (end - at), at)
        end = at
