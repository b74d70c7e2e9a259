"""The count cache: the counts of each file of the log, so that only new lines are read again.

Each use checks it: a compressed file counts as known while its inode, size and times are the
same, a plain one while its counted bytes are. Nothing is written here. The holder of the
maintenance lock does that.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator

from telemetry_kit.files import private
from telemetry_kit.insights.counters import Counters
from telemetry_kit.insights.counting import Wanted, count, count_file
from telemetry_kit.insights.scanner import fingerprint
from telemetry_kit.paths import Home
from telemetry_kit.storage.segments import ARCHIVE, Problems, Report, Source, snapshot

# Bytes counted, their CRC-32, size, and the two times in nanoseconds.
State = tuple[int, int, int, int, int]
Marks = tuple[int, int, int]

NAME = "telemetry-rollup.json"
VERSION = 2
MAX_BYTES = 64 << 20
# So many new events, or a file that came or went, make it worth writing anew.
MIN_NEWS = 1_000
# A log is sealed at 10,000 events, long before this: it is compared byte for byte.
_COMPARED_BYTES = 40 << 20
# Of a longer one, which no journal in order has, both ends are, and its times while it is as long.
_END_BYTES = 4 << 20


class Entry:
    """What is known of one file.

    Args:
        name: its name when it was counted.
        inode: device and inode.
        state: of a plain file the bytes counted and their sum; of any its size, the time when
            it was written, and the one when that or its name or mode changed.
        report: malformed, recovered, too long lines, and those of another version.
    """

    __slots__ = ("inode", "name", "report", "state")

    def __init__(
        self, name: str, inode: tuple[int, int], state: State, report: tuple[int, int, int, int]
    ) -> None:
        self.name = name
        self.inode = inode
        self.state = state
        self.report = report


class Look:
    """Counters, and what to keep of it.

    Args:
        counters: of everything.
        problems: what was wrong in the files.
        keep: the lines of the roll-up to write; None where the one there is good enough.
        entries: the files that it is about.
        roles: those that occur, also in events that are not in the counters.
    """

    __slots__ = ("entries", "keep", "problems", "roles", "counters")

    def __init__(
        self,
        counters: Counters,
        problems: Problems,
        keep: list[bytes | memoryview] | None = None,
        entries: list[Entry] | None = None,
        roles: set[str] | None = None,
    ) -> None:
        self.roles = counters.roles() if roles is None else roles
        self.counters = counters
        self.problems = problems
        self.keep = keep
        self.entries = entries or []


class Stored:
    """A roll-up as it was read.

    Args:
        data: its bytes; nothing in them makes it raise.
    """

    def __init__(self, data: bytes | None) -> None:
        self.entries: dict[tuple[int, int], Entry] = {}
        self.whole = Counters()
        # Views, no copies: a thousand files make it tens of megabytes.
        self._lines: dict[tuple[int, int], memoryview] = {}
        if data is not None:
            try:
                self._load(data)
            except (ValueError, TypeError, KeyError, RecursionError):
                self.entries, self.whole, self._lines = {}, Counters(), {}

    def _load(self, data: bytes) -> None:
        total, *lines = _lines_of(data)
        if int(bytes(total)) != zlib.crc32(memoryview(data)[len(total) + 1 :]):
            raise ValueError("it is damaged")
        head, whole, *lines = lines
        said = json.loads(bytes(head))
        if said["version"] != VERSION or said["made_by"] != fingerprint():
            return
        self.whole = Counters.from_dict(json.loads(bytes(whole)))
        for (name, inode, state, report), line in zip(said["files"], lines, strict=True):
            entry = Entry(name, tuple(inode), tuple(state), tuple(report))
            self.entries[entry.inode] = entry
            self._lines[entry.inode] = line

    def line(self, inode: tuple[int, int]) -> memoryview:
        """The stored counters of one file."""
        return self._lines[inode]

    def counters(self, inode: tuple[int, int]) -> Counters:
        """The counters of one file."""
        return Counters.from_dict(json.loads(bytes(self._lines[inode])))


def _lines_of(data: bytes) -> Iterator[memoryview]:
    view, at = memoryview(data), 0
    while (end := data.find(b"\n", at)) >= 0:
        yield view[at:end]
        at = end + 1


def look(home: Home, wanted: Wanted | None = None) -> Look:
    """The counters of the journal; of all of it, with the help of the roll-up.

    Args:
        home: whose journal.
        wanted: which events count; where that is not all, everything is read.
    """
    problems = Problems()
    if wanted is not None and not wanted.everything:
        roles: set[str] = set()
        return Look(count(home, wanted, problems, roles), problems, roles=roles)
    try:
        stored = Stored(private.read(f"{home.folder}/{NAME}", MAX_BYTES))
    except private.UnsafeFileError:
        stored = Stored(None)
    made = _Looking(stored, problems)
    with snapshot(home, problems) as sources:
        for source in sources:
            made.add(source)
        return made.done()


class _Looking:
    def __init__(self, stored: Stored, problems: Problems) -> None:
        self._stored = stored
        self._problems = problems
        self._whole = stored.whole
        self._loose = Counters()
        self._gone = dict(stored.entries)
        # What to keep of each file: worked out only where it is kept.
        self._kept: list[Callable[[], tuple[Entry, bytes | memoryview]]] = []
        self._news = 0
        self._changed = False

    def add(self, source: Source) -> None:
        """Count one file, or take over what is known of it."""
        segment = source.segment
        entry = self._stored.entries.get(segment.identity)
        marks = _marks(source)
        report = self._problems.of(segment.name)
        if entry is None or not _is_the_same(source, entry, marks):
            self._count(source, None, report, marks)
            return
        self._gone.pop(entry.inode, None)
        self._changed |= entry.name != segment.name
        report.add(Report(*entry.report))
        if segment.kind != ARCHIVE and segment.size_bytes != entry.state[0]:
            self._count(source, entry, report, marks)
            return
        same = Entry(segment.name, entry.inode, entry.state, entry.report)
        self._kept.append(lambda: (same, self._stored.line(same.inode)))
        source.close()

    def _count(self, source: Source, entry: Entry | None, report: Report, marks: Marks) -> None:
        """Count one file, from where it is known to on."""
        counted = count_file(source, Wanted(), entry.state[0] if entry else 0)
        news = counted.counters
        self._loose.merge(counted.loose)
        self._news += news.total("events")
        report.add(counted.report)
        report.add(counted.unended)
        if report.stopped:
            # Another look may find more: it is counted, and not kept.
            self._loose.merge(news)
            if entry is not None:
                self._loose.merge(self._stored.counters(entry.inode))
                self._whole.take_away(self._stored.counters(entry.inode))
            return
        self._whole.merge(news)
        self._changed |= entry is None
        at, whole = counted.at, counted.report
        if entry is None:
            # As text: the counters of a thousand files take ten times as much.
            line = news.dumped()
            self._kept.append(lambda: (_entry(source, at, marks, whole), line))
            return

        whole.add(Report(*entry.report))

        def kept() -> tuple[Entry, bytes]:
            news.merge(self._stored.counters(entry.inode))
            return _entry(source, at, marks, whole, entry), news.dumped()

        self._kept.append(kept)

    def done(self) -> Look:
        """The counters of all files that were added."""
        for inode in self._gone:
            self._whole.take_away(self._stored.counters(inode))
            self._changed = True
        counters = Counters()
        counters.merge(self._whole)
        counters.merge(self._loose)
        counters.count_malformed(self._problems.malformed)
        enough = self._changed or self._news >= MIN_NEWS
        worth = counters.total("events") >= MIN_NEWS or bool(self._stored.entries)
        if not (enough and worth):
            return Look(counters, self._problems)
        made = [kept() for kept in self._kept]
        entries = [entry for entry, _ in made]
        return Look(counters, self._problems, self._rendered(made), entries)

    def _rendered(self, made: list[tuple[Entry, bytes | memoryview]]) -> list[bytes | memoryview]:
        head = {
            "version": VERSION,
            "made_by": fingerprint(),
            "files": [[e.name, e.inode, e.state, e.report] for e, _ in made],
        }
        said = json.dumps(head, separators=(",", ":")).encode()
        lines = [said, self._whole.dumped(), *(line for _, line in made)]
        total = 0
        for line in lines:
            total = zlib.crc32(b"\n", zlib.crc32(line, total))
        return [b"%d" % total, *lines]


def _entry(
    source: Source, at: int, marks: Marks, report: Report, known: Entry | None = None
) -> Entry:
    """What is known of a file after so many bytes of it were counted."""
    segment = source.segment
    total = 0 if segment.kind == ARCHIVE else _sum_of(source, at, known)
    return Entry(segment.name, segment.identity, (at, total, *marks), _numbers(report))


def _marks(source: Source) -> Marks:
    """By which a change of a file is noticed without reading it; before it is read."""
    now = source.state()
    return (now.st_size, now.st_mtime_ns, now.st_ctime_ns) if now else (-1, -1, -1)


def _is_the_same(source: Source, entry: Entry, marks: Marks) -> bool:
    at, total, *known = entry.state
    if source.segment.kind == ARCHIVE:
        return tuple(known) == marks and entry.name == source.segment.name
    if at > _COMPARED_BYTES and known[0] == marks[0] and tuple(known) != marks:
        return False
    return marks[0] >= at and _sum_of(source, at) == total


def _sum_of(source: Source, count: int, known: Entry | None = None) -> int:
    """The sum of the first bytes of a plain file, or what stands for it where they are too many.

    Args:
        source: the file.
        count: how many bytes.
        known: a state of it that was found to be true, to go on from.
    """
    if count > _COMPARED_BYTES:
        return source.sum_of(count, _END_BYTES)
    if known is not None:
        return source.sum_of(count, count, *known.state[:2])
    return source.sum_of(count, count)


def _numbers(report: Report) -> tuple[int, int, int, int]:
    return report.malformed, report.recovered, report.too_long, report.other_version
