"""The count cache: the counts of each file of the log, so that only new lines are counted.

Each use checks it: the counts of a compressed file are valid while its inode, size and times are
unchanged, those of a plain file while its counted bytes are. This module only reads the cache.
`telemetry_kit.cli.count_cache` saves it under the maintenance lock.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable

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
# So many ids are looked for in the text of the known ones. For more, that text is split.
_MAX_SEARCHED = 20
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
            version. A file with events that are stored twice has no entry.
        line: its counters as JSON.
        sessions: the ids of its sessions, as words.
    """

    __slots__ = ("inode", "line", "name", "report", "sessions", "state")

    def __init__(
        self,
        name: str,
        inode: Inode,
        state: tuple[int, int, int, int, int],
        report: tuple[int, int, int, int],
        line: bytes,
        sessions: bytes,
    ) -> None:
        self.name = name
        self.inode = inode
        self.state = state
        self.report = report
        self.line = line
        self.sessions = sessions

    def counters(self) -> Counters:
        """Parse its counters."""
        return Counters.from_dict(json.loads(self.line))


def load(data: bytes) -> tuple[dict[Inode, Entry], Counters, int]:
    """Return the entries of a saved cache, the sum of their counters, and how many sessions.

    Args:
        data: the content of its file. Nothing is returned of a damaged or an outdated one.
    """
    entries: dict[Inode, Entry] = {}
    try:
        checksum, head, total, *lines = data.split(b"\n")
        if int(checksum) != zlib.crc32(memoryview(data)[len(checksum) + 1 :]):
            return {}, Counters(), 0
        found = json.loads(head)
        if (found["version"], found["made_by"]) != (VERSION, fingerprint()):
            return {}, Counters(), 0
        for number, (name, inode, state, report) in enumerate(found["files"]):
            line, sessions = lines[2 * number : 2 * number + 2]
            entry = Entry(name, tuple(inode), tuple(state), tuple(report), line, sessions)
            entries[entry.inode] = entry
        return entries, Counters.from_dict(json.loads(total)), int(found["sessions"])
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}, Counters(), 0


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
    with snapshot(paths, counting.problems, each_once=True) as sources:
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
        self._entries, self._cached, self._session_count = load(data)
        self._uncached = Counters()
        # Sessions of events that are not in the saved cache.
        self._sessions: set[bytes] = set()
        self._gone = dict(self._entries)
        # The ids of the sessions in known files.
        self._session_texts: list[bytes] = []
        # Each makes the new entry of a file, which is necessary only if the cache is saved.
        self._new: list[Callable[[], Entry]] = []
        self._news = 0
        self._changed = False
        self._has_new = False

    def add(self, source: Source) -> None:
        """Count one file."""
        segment, now = source.segment, source.state()
        marks = (now.st_size, now.st_mtime_ns, now.st_ctime_ns) if now else (-1, -1, -1)
        report = self.problems.of(segment.name)
        known = self._entries.get(segment.identity)
        if known is not None and not is_unchanged(source, known, marks):
            known = None
        # An earlier file may have the same events.
        if source.twins or (self._has_new and segment.kind != ARCHIVE):
            known = None
        self._has_new |= known is None
        if known is not None:
            self._gone.pop(known.inode, None)
            self._changed |= known.name != segment.name
            report.add(FileReport(*known.report))
            self._session_texts.append(known.sessions)
            if segment.kind == ARCHIVE or segment.size_bytes == known.state[0]:
                same = known
                same.name = segment.name
                self._new.append(lambda: same)
                source.close()
                return
        counted = count_file(source, Query(), known.state[0] if known else 0)
        self._uncached.merge(counted.unended)
        self._sessions |= counted.sessions | counted.unended_sessions
        self._news += counted.counters.total("events")
        report.add(counted.report)
        report.add(counted.unended_report)
        if report.stopped or report.doubles:
            # The rest of the file may be readable next time, and doubles depend on other files, so
            # its counts are not saved.
            self._uncached.merge(counted.counters)
            if known is not None:
                self._uncached.merge(known.counters())
                self._cached.take_away(known.counters())
            return
        self._cached.merge(counted.counters)
        self._changed |= known is None
        # As text: the counters of a thousand files take ten times as much memory.
        news, size, lines = counted.counters.dumped(), counted.counted_bytes, counted.report
        new_sessions = b" ".join(sorted(counted.sessions))

        def entry() -> Entry:
            line, sessions = news, new_sessions
            if known is not None:
                lines.add(FileReport(*known.report))
                both = known.counters()
                both.merge(Counters.from_dict(json.loads(news)))
                line = both.dumped()
                sessions = b" ".join(sorted({*known.sessions.split(), *sessions.split()}))
            checksum = 0 if segment.kind == ARCHIVE else checksum_of(source, size, known)
            numbers = (lines.malformed, lines.recovered, lines.too_long, lines.other_version)
            state = (size, checksum, marks[0], marks[1], marks[2])
            return Entry(segment.name, segment.identity, state, numbers, line, sessions)

        self._new.append(entry)

    def result(self) -> CountedLog:
        """Return the counts of all files that were added."""
        for entry in self._gone.values():
            self._cached.take_away(entry.counters())
            self._changed = True
        sessions = self.count_sessions()
        counters = Counters()
        counters.merge(self._cached)
        counters.merge(self._uncached)
        counters.count_malformed(self.problems.malformed)
        counters.count_sessions(sessions)
        found = CountedLog(counters, self.problems, counters.roles())
        is_new = self._changed or self._news >= MIN_NEWS
        if is_new and (self._entries or counters.total("events") >= MIN_NEWS):
            entries = [entry() for entry in self._new]
            found.files = [(entry.name, entry.inode) for entry in entries]
            found.cache_lines = self.lines(entries)
        return found

    def count_sessions(self) -> int:
        """Return how many sessions the known files and the new events have."""
        texts, news = self._session_texts, self._sessions
        count = self._session_count
        if self._gone:
            count = distinct(texts)
        if len(news) <= _MAX_SEARCHED:
            return count + sum(not any(session in text for text in texts) for session in news)
        for text in texts:
            news.difference_update(text.split())
        return count + len(news)

    def lines(self, entries: list[Entry]) -> list[bytes]:
        """Return the lines of the cache to save."""
        head = {
            "version": VERSION,
            "made_by": fingerprint(),
            "sessions": distinct([entry.sessions for entry in entries]),
            "files": [[e.name, e.inode, e.state, e.report] for e in entries],
        }
        text = json.dumps(head, separators=(",", ":")).encode()
        lines = [text, self._cached.dumped()]
        lines += [line for entry in entries for line in (entry.line, entry.sessions)]
        checksum = 0
        for line in lines:
            checksum = zlib.crc32(b"\n", zlib.crc32(line, checksum))
        return [b"%d" % checksum, *lines]


def distinct(texts: Iterable[bytes]) -> int:
    """Return how many different words there are in texts."""
    found: set[bytes] = set()
    for text in texts:
        found.update(text.split())
    return len(found)


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
