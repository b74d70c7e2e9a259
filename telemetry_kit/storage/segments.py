"""The files of the log: one consistent list of them, and the bytes in each."""

from __future__ import annotations

import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_NB, LOCK_SH, flock

from telemetry_kit._units import counted
from telemetry_kit.files.private import SAFE_FLAGS, close, name_of, open_folder
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage import compression, doubles
from telemetry_kit.storage.log_file import LOG
from telemetry_kit.storage.rotation import LOCK, SEGMENT

ARCHIVE, SEALED, ACTIVE = "archive", "sealed", "active"
_CHUNK_BYTES = 1 << 16
_ATTEMPTS = 50
# The log is rotated at 10,000 events. The last events of a much larger file are not worth a search.
_SEARCHED_BYTES = 40 << 20
_FLAGS = os.O_RDONLY | SAFE_FLAGS
_OTHER_VERSION = ("line of another version", "lines of another version")


class Segment:
    """One file of the log.

    Args:
        name: its name in the folder of the log.
        st: its state.

    Attributes:
        kind: `archive`, `sealed` or `active`.
        size_bytes: its size on disk.
        identity: device and inode.
    """

    def __init__(self, name: str, st: os.stat_result) -> None:
        self.name = name
        self.kind = ACTIVE if name == LOG else SEALED if name.endswith(".jsonl") else ARCHIVE
        self.size_bytes = st.st_size
        self.identity = (st.st_dev, st.st_ino)


class FileReport:
    """What could not be read in one file.

    Args:
        malformed: how many lines are no event.
        recovered: how many events were found inside those lines.
        too_long: how many lines over `MAX_READ_LINE_BYTES` were skipped.
        other_version: how many lines have a schema version that this reader does not know.
        doubles: how many events were left out because they are stored before.

    Attributes:
        in_progress: whether the last line of the active log is still being written.
        stopped: why the rest of the file was not read; empty if it was.
    """

    def __init__(
        self,
        malformed: int = 0,
        recovered: int = 0,
        too_long: int = 0,
        other_version: int = 0,
        doubles: int = 0,
    ) -> None:
        self.malformed = malformed
        self.recovered = recovered
        self.too_long = too_long
        self.other_version = other_version
        self.doubles = doubles
        self.in_progress = False
        self.stopped = ""

    def add(self, other: FileReport) -> None:
        """Add the report of another part of the file."""
        self.malformed += other.malformed
        self.recovered += other.recovered
        self.too_long += other.too_long
        self.other_version += other.other_version
        self.doubles += other.doubles
        self.in_progress |= other.in_progress
        self.stopped = self.stopped or other.stopped

    def sentence(self) -> str:
        """Return the counts in words; empty if everything was read."""
        counts = [
            (self.malformed, "malformed line", "malformed lines"),
            (self.too_long, "line over 1.05 MB", "lines over 1.05 MB"),
            (self.other_version, *_OTHER_VERSION),
            (self.recovered, "event recovered from them", "events recovered from them"),
            (self.doubles, "event that is stored twice", "events that are stored twice"),
        ]
        parts = [counted(*row) for row in counts if row[0]]
        return "; ".join(filter(None, (", ".join(parts), self.stopped)))

    def of_other_version(self) -> str:
        """Return in words how many lines have another version; empty if none has."""
        return counted(self.other_version, *_OTHER_VERSION) if self.other_version else ""

    def unread(self) -> str:
        """Return why events of the file may be missing; empty if none is."""
        return "; ".join(filter(None, (self.of_other_version(), self.stopped)))


class ReadReport:
    """What could not be read, by file name in the order of reading."""

    def __init__(self) -> None:
        self.files: dict[str, FileReport] = {}

    def of(self, name: str) -> FileReport:
        """Return the report of one file."""
        return self.files.setdefault(name, FileReport())

    @property
    def malformed(self) -> int:
        """How many lines in all files are no event."""
        return sum(r.malformed + r.too_long for r in self.files.values())

    @property
    def other_version(self) -> int:
        """How many lines in all files have another version."""
        return sum(report.other_version for report in self.files.values())

    @property
    def unread_files(self) -> list[str]:
        """The names of the files that were not read to the end or have unknown versions."""
        return [name for name, report in self.files.items() if report.unread()]

    def sentences(self) -> list[str]:
        """Return one sentence for each file that was not read completely."""
        found = self.files.items()
        return [f"{name}: {sentence}" for name, report in found if (sentence := report.sentence())]


class Source:
    """A segment to read from.

    Args:
        segment: the segment.
        fd: the open file, or None to open it when it is read. Archives do not change, and years
            of them must not use up the file descriptors.
    """

    def __init__(self, segment: Segment, folder: int, fd: int | None) -> None:
        self.segment = segment
        self._folder = folder
        self._fd = fd
        # The sources that begin with these events, this one included; empty to read all bytes.
        self._firsts: dict[bytes, Source] = {}
        self._own = b""
        # Earlier sources with the same first event.
        self.twins: list[Source] = []

    def leave_out_doubles(self, earlier: dict[bytes, Source]) -> None:
        """Leave out the events that earlier files have, and those that this file has twice.

        Args:
            earlier: the earlier sources by the IDs of their first events. This one is added.
        """
        # The first block of zstd has 128 KiB, uncompressed.
        end = 1 << 18 if self.segment.name.endswith(compression.ZSTD) else doubles.HEAD_BYTES
        own = doubles.first_id(next(self.raw_chunks(FileReport(), end=end), b""))
        if not own:
            return
        if own in earlier:
            self.twins = [*earlier[own].twins, earlier[own]]
        self._own = own
        # Archives are not appended to, so only the file itself may have been pasted into one.
        self._firsts = {own: self} if self.segment.kind == ARCHIVE else {**earlier, own: self}
        earlier[own] = self

    def chunks(self, report: FileReport, begin: int = 0) -> Iterator[bytes]:
        """Yield its bytes, uncompressed, up to its size when it was opened.

        Args:
            report: receives the reason if not all of them could be read.
            begin: how many bytes of an uncompressed file to skip.
        """
        chunks = self.raw_chunks(report, begin)
        try:
            if self._firsts:
                chunks = self.each_once(chunks, report, begin)
            yield from chunks
        finally:
            self.close()

    def raw_chunks(self, report: FileReport, begin: int = 0, end: int = 1 << 62) -> Iterator[bytes]:
        """Yield its bytes, uncompressed, with all doubles.

        Args:
            report: receives the reason if not all of them could be read.
            begin: how many bytes of an uncompressed file to skip.
            end: the last byte of the file to read.
        """
        fd = self._fd
        try:
            if fd is None:
                fd = os.open(self.segment.name, _FLAGS, dir_fd=self._folder)
            stored = read_chunks(fd, begin, min(end, os.fstat(fd).st_size))
            if self.segment.kind == ARCHIVE:
                yield from compression.decompress(stored, report, self.segment.name)
            else:
                yield from stored
        except FileNotFoundError:
            return  # it was deleted since it was listed, together with its events
        except OSError as error:
            report.stopped = f"it cannot be read ({name_of(error)})"
        finally:
            if fd is not None and fd != self._fd:
                close(fd)

    def each_once(self, chunks: Iterator[bytes], report: FileReport, begin: int) -> Iterator[bytes]:
        """Yield its bytes without doubles."""
        ids = self.ids_before(self._own, begin) if self.twins else None
        firsts = {*self._firsts}
        return doubles.each_once(chunks, self._own, firsts, self.ids_before, report, begin, ids)

    def ids_before(self, first: bytes, at: int) -> set[bytes]:
        """Return the IDs of the events before a position, and of earlier files.

        Args:
            first: the ID of the first event of an earlier file.
            at: the position.
        """
        found: set[bytes] = set()
        for source in (*self.twins, self._firsts[first]):
            if source is not self:
                found |= doubles.ids_in(source.raw_chunks(FileReport()))
        left = at
        for block in doubles.whole_lines(self.raw_chunks(FileReport())) if at else ():
            found |= doubles.ids_in(iter((block[:left],)))
            left -= len(block)
            if left <= 0:
                break
        return found

    def backwards(self, report: FileReport, size_bytes: int, line_bytes: int) -> Iterator[bytes]:
        """Yield the lines of an open file in blocks, the last block first.

        Within a block, the oldest line comes first.

        Args:
            report: receives the reason if not all of them could be read.
            size_bytes: the approximate size of a block.
            line_bytes: only the last bytes of a longer line are yielded, so many of them.
        """
        fd, rest = self._fd, b""
        if fd is None:
            return
        try:
            at = os.fstat(fd).st_size
            whole = b"".join(self.chunks(report)) if self.has_doubles(at) else None
            while at:
                at, end = max(at - size_bytes, 0), at
                block = os.pread(fd, end - at, at) if whole is None else whole[at:end]
                block += rest
                # The beginning of the first line is in an earlier block.
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

    def has_doubles(self, size_bytes: int) -> bool:
        """Whether an open file of this size has doubles. A very large one is not searched."""
        if self.twins or not self._firsts or size_bytes > _SEARCHED_BYTES:
            return bool(self.twins)
        report = FileReport()
        return any(report.doubles for _ in self.each_once(self.raw_chunks(report), report, 0))

    def state(self) -> os.stat_result | None:
        """Return the state of the file now, which shows a change; None if it was deleted."""
        try:
            if self._fd is not None:
                return os.fstat(self._fd)
            return os.stat(self.segment.name, dir_fd=self._folder, follow_symlinks=False)
        except OSError:
            return None

    def checksum(self, count: int, both_ends: int, begin: int = 0, total: int = 0) -> int:
        """Return the CRC-32 of the first bytes of an uncompressed file; -1 if it was deleted.

        Args:
            count: how many bytes.
            both_ends: if `count` is more than twice this, only so many bytes at each end.
            begin: how many of them `total` has already.
            total: the CRC-32 of those.
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
                for chunk in read_chunks(fd, first, end):
                    total = zlib.crc32(chunk, total)
            return total
        except OSError:
            return -1
        finally:
            os.close(fd)

    def close(self) -> None:
        """Close the file if it is open."""
        fd, self._fd = self._fd, None
        if fd is not None:
            close(fd)


@contextmanager
def snapshot(
    paths: ProjectPaths, problems: ReadReport, each_once: bool = False
) -> Iterator[list[Source]]:
    """Yield all segments at one moment, oldest first and the active log last; close them then.

    Args:
        problems: receives what cannot be read.
        each_once: leave out events that are stored twice.
    """
    sources: list[Source] = []
    try:
        folder = open_folder(paths.folder)
    except (OSError, ValueError) as error:
        if not isinstance(error, FileNotFoundError):
            problems.of(paths.folder).stopped = f"it cannot be opened ({name_of(error)})"
        yield sources
        return
    try:
        if os.fstat(folder).st_uid == os.geteuid():
            sources = open_segments(folder, problems)
        else:
            problems.of(paths.folder).stopped = "it is not a folder of yours"
        firsts: dict[bytes, Source] = {}
        for source in sources if each_once else ():
            source.leave_out_doubles(firsts)
        yield sources
    finally:
        for source in sources:
            source.close()
        os.close(folder)


def open_segments(folder: int, problems: ReadReport) -> list[Source]:
    """Open all segments so that none is missing or read twice if another process seals the log."""
    lock = lock_shared(folder)
    sources: list[Source] = []
    try:
        for _ in range(_ATTEMPTS):
            for source in sources:
                source.close()
            listed = list_names(folder)
            sources = open_listed(folder, [name for name, _ in listed], problems)
            if lock is not None or list_names(folder) == listed:
                break
    except OSError as error:
        problems.of(LOG).stopped = f"its folder cannot be read ({name_of(error)})"
    finally:
        if lock is not None:
            os.close(lock)
    return sources


def lock_shared(folder: int) -> int | None:
    """Take the maintenance lock for reading; None if it is missing or another process has it."""
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


def list_names(folder: int) -> list[tuple[str, int]]:
    """Return the names and inodes of all segments in order."""
    with os.scandir(folder) as entries:
        found = [(e.name, e.inode()) for e in entries if e.name == LOG or SEGMENT.fullmatch(e.name)]
    return sorted(found, key=lambda pair: order_of(pair[0]))


def order_of(name: str) -> tuple[str, int, str]:
    """Return the day, number and name of a segment, by which segments are sorted."""
    match = SEGMENT.fullmatch(name)
    # The log comes after every day. A sealed file comes before the archive of the same name.
    return (match[1], int(match[2] or 1), name) if match else ("~", 0, name)


def open_listed(folder: int, names: list[str], problems: ReadReport) -> list[Source]:
    """Open segments, each file once, and no archive of a sealed file that still exists."""
    sealed: set[str] = set()
    sources: list[Source] = []
    seen: set[tuple[int, int]] = set()
    for name in names:
        stem, _, suffix = name.partition(".jsonl")
        if suffix and f"{stem}.jsonl" in sealed:
            continue  # a process was killed before it deleted the sealed file
        source = open_segment(folder, name, problems)
        if source is None:
            continue
        if not suffix:
            # Only a readable file hides its archive, which comes later.
            sealed.add(name)
        if source.segment.identity in seen:
            source.close()
        else:
            seen.add(source.segment.identity)
            sources.append(source)
    return sources


def open_segment(folder: int, name: str, problems: ReadReport) -> Source | None:
    """Open one segment; an archive is opened for a check only."""
    try:
        fd = os.open(name, _FLAGS, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError as error:
        problems.of(name).stopped = f"it cannot be opened ({name_of(error)})"
        return None
    st = os.fstat(fd)
    source = Source(Segment(name, st), folder, fd)
    is_own = stat.S_ISREG(st.st_mode) and st.st_uid == os.geteuid()
    if not is_own or source.segment.kind == ARCHIVE:
        source.close()
    if not is_own:
        problems.of(name).stopped = "it is not a plain file of yours"
        return None
    return source


def read_chunks(fd: int, at: int = 0, end: int = 1 << 62) -> Iterator[bytes]:
    """Yield the bytes of an open file between two positions."""
    while at < end and (chunk := os.pread(fd, min(_CHUNK_BYTES, end - at), at)):
        at += len(chunk)
        yield chunk
