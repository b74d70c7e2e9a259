"""The count cache: the counts of each file of the log, so that only new lines are counted.

Each use checks it: the counts of a compressed file are valid while its inode, size and times are
unchanged, those of a plain file while its counted bytes are. This module only reads the cache.
`telemetry_kit.cli.count_cache` saves it under the maintenance lock.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable

from telemetry_kit.files import private
from telemetry_kit.insights.counters import Counters
from telemetry_kit.insights.counting import CountedLog, count, count_file
from telemetry_kit.insights.query import Query
from telemetry_kit.insights.scanner import fingerprint
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.storage.segments import ARCHIVE, FileReport, ReadReport, Source, snapshot

# Size, and the times of the last write and of the last change in nanoseconds.
Marks = tuple[int, int, int]
Inode = tuple[int, int]

NAME = "telemetry-rollup.json"
VERSION = 3
MAX_BYTES = 64 << 20
# The cache is saved after this many new events, or if a file was added, renamed or deleted.
MIN_NEWS = 1_000
# The log is rotated at 10,000 events, so its files are smaller: all their bytes are compared.
_COMPARED_BYTES = 40 << 20
# Of a larger file, both ends are compared, and its times as long as its size is unchanged.
_END_BYTES = 4 << 20


class Entry:
    """What the cache knows of one file.

    Args:
        name: its name when it was counted.
        inode: device and inode.
        state: the number of counted bytes and their checksum, both for plain files only, and
            the marks.
        report: the numbers of malformed, recovered and too long lines, and of lines of another
            version.
        line: its counters as JSON.
    """

    __slots__ = ("inode", "line", "name", "report", "state")

    def __init__(
        self,
        name: str,
        inode: Inode,
        state: tuple[int, int, int, int, int],
        report: tuple[int, int, int, int],
        line: bytes,
    ) -> None:
        self.name = name
        self.inode = inode
        self.state = state
        self.report = report
        self.line = line

    def counters(self) -> Counters:
        """Parse its counters."""
        return Counters.from_dict(json.loads(self.line))


def load(data: bytes) -> tuple[dict[Inode, Entry], Counters]:
    """Return the entries of a saved cache and the sum of their counters.

    Args:
        data: the content of its file. Nothing is returned of a damaged or an outdated one.
    """
    entries: dict[Inode, Entry] = {}
    try:
        checksum, head, total, *lines = data.split(b"\n")
        if int(checksum) != zlib.crc32(memoryview(data)[len(checksum) + 1 :]):
            return {}, Counters()
        found = json.loads(head)
        if (found["version"], found["made_by"]) != (VERSION, fingerprint()):
            return {}, Counters()
        for (name, inode, state, report), line in zip(found["files"], lines[:-1], strict=True):
            entry = Entry(name, tuple(inode), tuple(state), tuple(report), line)
            entries[entry.inode] = entry
        return entries, Counters.from_dict(json.loads(total))
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}, Counters()


def count_log(paths: ProjectPaths, query: Query | None = None) -> CountedLog:
    """Count the events of the log, with the count cache if all of them count.

    Args:
        paths: the project.
        query: which events count; by default all.
    """
    if query is not None and not query.everything:
        return count(paths, query)
    try:
        data = private.read(f"{paths.folder}/{NAME}", MAX_BYTES)
    except private.UnsafeFileError:
        data = None
    counting = CachedCounting(data or b"")
    with snapshot(paths, counting.problems) as sources:
        for source in sources:
            counting.add(source)
        return counting.result()


class CachedCounting:
    """Count files, and reuse the counts of known bytes.

    Args:
        data: the content of the saved cache.
    """

    def __init__(self, data: bytes) -> None:
        self.problems = ReadReport()
        self._entries, self._cached = load(data)
        self._uncached = Counters()
        self._gone = dict(self._entries)
        # Each makes the new entry of a file, which is necessary only if the cache is saved.
        self._new: list[Callable[[], Entry]] = []
        self._news = 0
        self._changed = False

    def add(self, source: Source) -> None:
        """Count one file."""
        segment, now = source.segment, source.state()
        marks = (now.st_size, now.st_mtime_ns, now.st_ctime_ns) if now else (-1, -1, -1)
        report = self.problems.of(segment.name)
        known = self._entries.get(segment.identity)
        if known is not None and not is_unchanged(source, known, marks):
            known = None
        if known is not None:
            self._gone.pop(known.inode, None)
            self._changed |= known.name != segment.name
            report.add(FileReport(*known.report))
            if segment.kind == ARCHIVE or segment.size_bytes == known.state[0]:
                same = Entry(segment.name, known.inode, known.state, known.report, known.line)
                self._new.append(lambda: same)
                source.close()
                return
        counted = count_file(source, Query(), known.state[0] if known else 0)
        self._uncached.merge(counted.unended)
        self._news += counted.counters.total("events")
        report.add(counted.report)
        report.add(counted.unended_report)
        if report.stopped:
            # The rest of the file may be readable next time, so its counts are not saved.
            self._uncached.merge(counted.counters)
            if known is not None:
                self._uncached.merge(known.counters())
                self._cached.take_away(known.counters())
            return
        self._cached.merge(counted.counters)
        self._changed |= known is None
        # As text: the counters of a thousand files take ten times as much memory.
        news, size, lines = counted.counters.dumped(), counted.counted_bytes, counted.report

        def entry() -> Entry:
            line = news
            if known is not None:
                lines.add(FileReport(*known.report))
                both = known.counters()
                both.merge(Counters.from_dict(json.loads(news)))
                line = both.dumped()
            checksum = 0 if segment.kind == ARCHIVE else checksum_of(source, size, known)
            numbers = (lines.malformed, lines.recovered, lines.too_long, lines.other_version)
            state = (size, checksum, marks[0], marks[1], marks[2])
            return Entry(segment.name, segment.identity, state, numbers, line)

        self._new.append(entry)

    def result(self) -> CountedLog:
        """Return the counts of all files that were added."""
        for entry in self._gone.values():
            self._cached.take_away(entry.counters())
            self._changed = True
        counters = Counters()
        counters.merge(self._cached)
        counters.merge(self._uncached)
        counters.count_malformed(self.problems.malformed)
        found = CountedLog(counters, self.problems, counters.roles())
        is_new = self._changed or self._news >= MIN_NEWS
        if is_new and (self._entries or counters.total("events") >= MIN_NEWS):
            entries = [entry() for entry in self._new]
            found.files = [(entry.name, entry.inode) for entry in entries]
            found.cache_lines = self.lines(entries)
        return found

    def lines(self, entries: list[Entry]) -> list[bytes]:
        """Return the lines of the cache to save."""
        head = {
            "version": VERSION,
            "made_by": fingerprint(),
            "files": [[e.name, e.inode, e.state, e.report] for e in entries],
        }
        text = json.dumps(head, separators=(",", ":")).encode()
        lines = [text, self._cached.dumped(), *(entry.line for entry in entries)]
        checksum = 0
        for line in lines:
            checksum = zlib.crc32(b"\n", zlib.crc32(line, checksum))
        return [b"%d" % checksum, *lines]


def is_unchanged(source: Source, entry: Entry, marks: Marks) -> bool:
    """Whether the counted bytes of a file are as they were."""
    size, checksum, *known = entry.state
    if source.segment.kind == ARCHIVE:
        return tuple(known) == marks and entry.name == source.segment.name
    if size > _COMPARED_BYTES and known[0] == marks[0] and tuple(known) != marks:
        return False
    return marks[0] >= size and checksum_of(source, size) == checksum


def checksum_of(source: Source, size: int, known: Entry | None = None) -> int:
    """Return the checksum of the first bytes of a plain file, or of both ends of many bytes.

    Args:
        source: the file.
        size: how many bytes.
        known: what is known of its beginning, if that is still true.
    """
    if size > _COMPARED_BYTES:
        return source.checksum(size, _END_BYTES)
    return source.checksum(size, size, *(known.state[:2] if known is not None else ()))
