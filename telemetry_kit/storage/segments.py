"""The files of the log: one consistent listing, and the bytes in them.

It parses no lines and writes nothing.
"""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_NB, LOCK_SH, flock

from telemetry_kit.files.private import name_of
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import compression as packing
from telemetry_kit.storage.log_file import LOG
from telemetry_kit.storage.rotation import LOCK, SEGMENT

ARCHIVE, SEALED, ACTIVE = "archive", "sealed", "active"
_CHUNK_BYTES = 1 << 16
_SUM_BYTES = 1 << 20
_ROUNDS = 50
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Segment:
    """One file of the journal.

    Args:
        name: its name in the app's folder.
        kind: `archive`, `sealed` or `active`.
        size_bytes: its size on disk.
        identity: device and inode.
    """

    __slots__ = ("identity", "kind", "name", "size_bytes")

    def __init__(self, name: str, kind: str, size_bytes: int, identity: tuple[int, int]) -> None:
        self.name = name
        self.kind = kind
        self.size_bytes = size_bytes
        self.identity = identity


class Report:
    """What was wrong in one file.

    Args:
        malformed: lines that are no event.
        recovered: events found inside those lines, which were returned.
        too_long: lines over `MAX_READ_LINE_BYTES`, skipped.
        other_version: lines of a schema version that this reader does not know.
        in_progress: the last line of the active log is still being written.
        stopped: why the rest, or all of it, was not read; empty when it was.
    """

    __slots__ = (
        "in_progress",
        "malformed",
        "other_version",
        "recovered",
        "stopped",
        "too_long",
    )

    def __init__(
        self, malformed: int = 0, recovered: int = 0, too_long: int = 0, other_version: int = 0
    ) -> None:
        self.malformed = malformed
        self.recovered = recovered
        self.too_long = too_long
        self.other_version = other_version
        self.in_progress = False
        self.stopped = ""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Report) and all(
            getattr(self, name) == getattr(other, name) for name in self.__slots__
        )

    __hash__ = None  # type: ignore[assignment]

    def add(self, other: Report) -> None:
        """Add what was wrong in another part of the file."""
        self.malformed += other.malformed
        self.recovered += other.recovered
        self.too_long += other.too_long
        self.other_version += other.other_version
        self.in_progress |= other.in_progress
        self.stopped = self.stopped or other.stopped

    def sentence(self) -> str:
        """The counts in words; empty when nothing is wrong."""
        lines = [
            _counted(self.malformed, "malformed line"),
            _counted(self.too_long, "line over 1 MiB", "lines over 1 MiB"),
            _counted(self.other_version, "line of another version", "lines of another version"),
        ]
        parts = [part for part in lines if part]
        if self.recovered:
            parts.append(f"{_counted(self.recovered, 'event')} recovered from them")
        return "; ".join(filter(None, (", ".join(parts), self.stopped)))


def _counted(count: int, one: str, many: str = "") -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}" if count else ""


class Problems:
    """What was wrong with the files that were read, by file name in the order of reading."""

    __slots__ = ("files",)

    def __init__(self) -> None:
        self.files: dict[str, Report] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Problems) and self.files == other.files

    __hash__ = None  # type: ignore[assignment]

    def of(self, name: str) -> Report:
        """The report of one file."""
        return self.files.setdefault(name, Report())

    @property
    def malformed(self) -> int:
        """Lines that were no event, in all files."""
        return sum(r.malformed + r.too_long for r in self.files.values())

    def sentences(self) -> list[str]:
        """One sentence for each file that had a problem."""
        told = [(name, report.sentence()) for name, report in self.files.items()]
        return [f"{name}: {sentence}" for name, sentence in told if sentence]


class Source:
    """A segment to read from.

    Args:
        segment: which.
        folder: the open folder that it is in.
        fd: the open file; None for an archive, which is opened when its turn comes: nothing
            changes it any more, and years of archives must not use up the open files.
    """

    __slots__ = ("_fd", "_folder", "segment")

    def __init__(self, segment: Segment, folder: int, fd: int | None) -> None:
        self.segment = segment
        self._folder = folder
        self._fd = fd

    def chunks(self, report: Report, begin: int = 0) -> Iterator[bytes]:
        """The bytes in it, unpacked, as far as it was written when it was opened.

        Args:
            report: filled with the reason when that is not all.
            begin: how many bytes of a file that is not packed to leave out.
        """
        try:
            if self._fd is None:
                self._fd = os.open(self.segment.name, _FLAGS, dir_fd=self._folder)
            stored = _stored(self._fd, begin, os.fstat(self._fd).st_size)
            if self.segment.kind == ARCHIVE:
                yield from packing.unpacked(stored, report, self.segment.name)
            else:
                yield from stored
        except FileNotFoundError:
            return  # deleted since it was listed, and its events with it
        except OSError as error:
            report.stopped = f"it cannot be read ({name_of(error)})"
        finally:
            self.close()

    def backwards(self, report: Report, size_bytes: int, line_bytes: int) -> Iterator[bytes]:
        """The lines of a plain file in blocks, the last block first; in one, oldest first.

        Args:
            report: filled with the reason when that is not all.
            size_bytes: of a block, about.
            line_bytes: of a longer line only so many bytes are kept, those at its end.
        """
        fd, rest = self._fd, b""
        if fd is None:
            return
        try:
            at = os.fstat(fd).st_size
            while at:
                at, end = max(at - size_bytes, 0), at
                block = os.pread(fd, end - at, at) + rest
                # What the first line begins with lies further in front.
                cut = block.find(b"\n") + 1 if at else 0
                if at and cut in (0, len(block)):
                    rest = block[-line_bytes - bool(cut) :]
                    continue
                rest, block = block[:cut], block[cut:]
                if block:
                    yield block
        except OSError as error:
            report.stopped = f"it cannot be read ({name_of(error)})"
        finally:
            self.close()

    def state(self) -> os.stat_result | None:
        """What the file is now, by which a change of it is noticed; None when it is gone."""
        try:
            if self._fd is not None:
                return os.fstat(self._fd)
            return os.stat(self.segment.name, dir_fd=self._folder, follow_symlinks=False)
        except OSError:
            return None

    def sum_of(self, count: int, both_ends: int, begin: int = 0, total: int = 0) -> int:
        """The CRC-32 of the first bytes of a plain file, wherever its reader is; -1: it is gone.

        Args:
            count: how many bytes.
            both_ends: of more than twice that, so many at each end.
            begin: how many of them are in `total` already.
            total: their sum.
        """
        try:
            fd = os.open(self.segment.name, _FLAGS, dir_fd=self._folder)
        except OSError:
            return -1
        try:
            if os.fstat(fd).st_ino != self.segment.identity[1]:
                return -1
            spans = [(begin, min(count, both_ends)), (max(count - both_ends, both_ends), count)]
            for first, end in spans:
                at = first
                while at < end and (chunk := os.pread(fd, min(_SUM_BYTES, end - at), at)):
                    total = zlib.crc32(chunk, total)
                    at += len(chunk)
            return total
        except OSError:
            return -1
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the file, unless it is."""
        fd, self._fd = self._fd, None
        if fd is not None:
            try:
                os.close(fd)
            except OSError:
                return  # what was read was read


@contextmanager
def snapshot(home: ProjectPaths, problems: Problems) -> Iterator[list[Source]]:
    """All segments of one moment, oldest first, the active log last; closed on leaving.

    Args:
        home: whose journal.
        problems: filled with what cannot be used.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        folder = os.open(home.folder, flags)
    except FileNotFoundError:
        yield []
        return
    except (OSError, ValueError) as error:
        problems.of(home.folder).stopped = f"it cannot be opened ({name_of(error)})"
        yield []
        return
    sources: list[Source] = []
    try:
        if os.fstat(folder).st_uid == os.geteuid():
            sources = _sources(folder, problems)
        else:
            problems.of(home.folder).stopped = "it is not a folder of yours"
        yield sources
    finally:
        for source in sources:
            source.close()
        os.close(folder)


def _sources(folder: int, problems: Problems) -> list[Source]:
    """All segments, opened so that no sealing in between hides or doubles one."""
    lock = _share(folder)
    sources: list[Source] = []
    try:
        for _ in range(_ROUNDS):
            for source in sources:
                source.close()
            listed = _listing(folder)
            sources = _open(folder, [name for name, _ in listed], problems)
            if lock is not None or _listing(folder) == listed:
                break
        return sources
    except OSError as error:
        problems.of(LOG).stopped = f"its folder cannot be read ({name_of(error)})"
        return sources
    finally:
        if lock is not None:
            os.close(lock)


def _share(folder: int) -> int | None:
    """The maintenance lock, shared; None when it is not there or somebody is at work."""
    try:
        lock = os.open(LOCK, _FLAGS, dir_fd=folder)
    except OSError:
        return None
    try:
        flock(lock, LOCK_SH | LOCK_NB)
    except OSError:
        os.close(lock)
        return None
    return lock


def _listing(folder: int) -> list[tuple[str, int]]:
    with os.scandir(folder) as entries:
        found = [(e.name, e.inode()) for e in entries if e.name == LOG or SEGMENT.fullmatch(e.name)]
    return sorted(found, key=lambda pair: _order(pair[0]))


def _order(name: str) -> tuple[str, int, str]:
    match = SEGMENT.fullmatch(name)
    # Behind every date. A sealed file sorts before the archive of the same stem.
    return (match[1], int(match[2] or 1), name) if match else ("~", 0, name)


def _open(folder: int, names: list[str], problems: Problems) -> list[Source]:
    sealed: set[str] = set()
    sources: list[Source] = []
    seen: set[tuple[int, int]] = set()
    for name in names:
        stem, _, packing = name.partition(".jsonl")
        if packing and f"{stem}.jsonl" in sealed:
            continue  # the archiver died before it deleted the sealed file, which is whole
        source = _open_one(folder, name, problems)
        if source is not None and not packing:
            # Only what can be read takes the place of its archive, which sorts behind it.
            sealed.add(name)
        if source is not None and source.segment.identity in seen:
            source.close()
        elif source is not None:
            seen.add(source.segment.identity)
            sources.append(source)
    return sources


def _open_one(folder: int, name: str, problems: Problems) -> Source | None:
    try:
        fd = os.open(name, _FLAGS, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        problems.of(name).stopped = f"it cannot be opened ({name_of(error)})"
        return None
    st = os.fstat(fd)
    if not stat.S_ISREG(st.st_mode) or st.st_uid != os.geteuid():
        os.close(fd)
        problems.of(name).stopped = "it is not a plain file of yours"
        return None
    kind = ACTIVE if name == LOG else SEALED if name.endswith(".jsonl") else ARCHIVE
    segment = Segment(name, kind, st.st_size, (st.st_dev, st.st_ino))
    if kind != ARCHIVE:
        return Source(segment, folder, fd)
    os.close(fd)
    return Source(segment, folder, None)


def _stored(fd: int, at: int, end: int) -> Iterator[bytes]:
    while at < end and (chunk := os.pread(fd, min(_CHUNK_BYTES, end - at), at)):
        at += len(chunk)
        yield chunk
