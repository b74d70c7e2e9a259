"""The roll-up: what was counted of each file of the journal, so that only new lines are read again.

It is a cache and never believed without a look: a packed file counts as known while its inode,
size and time are the same, a plain one while the bytes that were counted are. Nothing is written
here; whoever holds the maintenance lock does that.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field

from telemetry_kit import private
from telemetry_kit.home import Home
from telemetry_kit.insights.count import Counting, Wanted, count, count_file
from telemetry_kit.insights.scan import fingerprint
from telemetry_kit.insights.tally import Tally
from telemetry_kit.journal.segments import ARCHIVE, Problems, Report, Source, snapshot

NAME = "telemetry-rollup.json"
VERSION = 1
MAX_BYTES = 64 << 20
# So many new events, or a file that came or went, make it worth writing anew.
MIN_NEWS = 1_000
# A log is sealed long before it is twice this; of a longer one, both ends are compared.
_COMPARED_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one file.

    Args:
        name: its name when it was counted.
        inode: device and inode.
        state: size and time of an archive; of a plain file the bytes counted and their sum.
        report: malformed, recovered, too long lines, and those of another version.
    """

    name: str
    inode: tuple[int, int]
    state: tuple[int, int]
    report: tuple[int, int, int, int]


@dataclass(slots=True)
class Look:
    """A tally, and what to keep of it.

    Args:
        tally: of everything.
        problems: what was wrong in the files.
        keep: the roll-up to write; None where the one there is good enough.
        entries: the files that it is about.
    """

    tally: Tally
    problems: Problems
    keep: bytes | None = None
    entries: list[Entry] = field(default_factory=list)


class Stored:
    """A roll-up as it was read.

    Args:
        data: its bytes; nothing in them makes it raise.
    """

    def __init__(self, data: bytes | None) -> None:
        self.entries: dict[tuple[int, int], Entry] = {}
        self.whole = Tally()
        self._lines: dict[tuple[int, int], bytes] = {}
        if data is not None:
            try:
                self._load(data)
            except (ValueError, TypeError, KeyError, RecursionError):
                self.entries, self.whole, self._lines = {}, Tally(), {}

    def _load(self, data: bytes) -> None:
        head, _, body = data.partition(b"\n")
        said = json.loads(head)
        if said["version"] != VERSION or said["made_by"] != fingerprint():
            return
        if said["sum"] != zlib.crc32(body):
            raise ValueError("it is damaged")
        lines = body.splitlines()
        self.whole = Tally.from_dict(json.loads(lines[0]))
        for (name, inode, state, report), line in zip(said["files"], lines[1:], strict=True):
            entry = Entry(name, tuple(inode), tuple(state), tuple(report))
            self.entries[entry.inode] = entry
            self._lines[entry.inode] = line

    def line(self, inode: tuple[int, int]) -> bytes:
        """The stored tally of one file."""
        return self._lines[inode]

    def tally(self, inode: tuple[int, int]) -> Tally:
        """The tally of one file."""
        return Tally.from_dict(json.loads(self._lines[inode]))


def look(home: Home, wanted: Wanted | None = None) -> Look:
    """The tally of the journal; of all of it, with the help of the roll-up.

    Args:
        home: whose journal.
        wanted: which events count; where that is not all, everything is read.
    """
    problems = Problems()
    if wanted is not None and not wanted.everything:
        return Look(count(home, wanted, problems), problems)
    try:
        stored = Stored(private.read(f"{home.folder}/{NAME}", MAX_BYTES))
    except private.NotPrivateError:
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
        self._loose = Tally()
        self._gone = dict(stored.entries)
        self._entries: list[Entry] = []
        self._lines: list[bytes] = []
        self._news = 0
        self._changed = False

    def add(self, source: Source) -> None:
        """Count one file, or take over what is known of it."""
        segment = source.segment
        entry = self._stored.entries.get(segment.identity)
        now = source.state()
        report = self._problems.of(segment.name)
        if segment.kind == ARCHIVE:
            state = (now.st_size, now.st_mtime_ns) if now else (-1, -1)
            if entry is not None and entry.state == state and entry.name == segment.name:
                self._take_over(entry, segment.name, report)
                source.close()
                return
            self._count(source, entry=None, report=report, state=state)
        elif entry is not None and _is_the_same(source, entry, now.st_size if now else -1):
            self._take_over(entry, segment.name, report)
            self._go_on(source, entry, report)
        else:
            self._count(source, entry=None, report=report, state=None)

    def _take_over(self, entry: Entry, name: str, report: Report) -> None:
        self._gone.pop(entry.inode, None)
        self._changed |= entry.name != name
        self._entries.append(Entry(name, entry.inode, entry.state, entry.report))
        self._lines.append(self._stored.line(entry.inode))
        _add_report(report, entry.report)

    def _go_on(self, source: Source, entry: Entry, report: Report) -> None:
        if source.segment.size_bytes == entry.state[0]:
            source.close()
            return
        self._entries.pop()
        self._lines.pop()
        self._count(source, entry, report, None)

    def _count(
        self, source: Source, entry: Entry | None, report: Report, state: tuple[int, int] | None
    ) -> None:
        counted, loose = Counting(Wanted()), Counting(Wanted())
        found, unended = Report(), Report()
        begin = entry.state[0] if entry is not None else 0
        plain = source.segment.kind != ARCHIVE
        to, told = (loose, unended) if plain else (None, None)
        at = count_file(counted, source, found, begin, to, told)
        news = counted.settle()
        self._loose.merge(loose.settle())
        self._news += news.total("events")
        whole = Report(*_numbers(found))
        if entry is not None:
            _add_report(whole, entry.report)
        _add_report(report, _numbers(found))
        _add_report(report, _numbers(unended))
        report.in_progress |= unended.in_progress
        report.stopped = found.stopped or unended.stopped
        if report.stopped:
            # Another look may find more: it is counted, and not kept.
            self._loose.merge(news)
            if entry is not None:
                self._loose.merge(self._stored.tally(entry.inode))
                self._whole.take_away(self._stored.tally(entry.inode))
            return
        self._whole.merge(news)
        if entry is not None:
            news.merge(self._stored.tally(entry.inode))
        else:
            self._changed = True
        if state is None:
            state = (at, source.sum_of(at, _COMPARED_BYTES))
        self._entries.append(
            Entry(source.segment.name, source.segment.identity, state, _numbers(whole))
        )
        self._lines.append(_dumped(news))

    def done(self) -> Look:
        """The tally of all files that were added."""
        for inode in self._gone:
            self._whole.take_away(self._stored.tally(inode))
            self._changed = True
        tally = Tally()
        tally.merge(self._whole)
        tally.merge(self._loose)
        tally.count_malformed(self._problems.malformed)
        enough = self._changed or self._news >= MIN_NEWS
        worth = tally.total("events") >= MIN_NEWS or bool(self._stored.entries)
        keep = self._rendered() if enough and worth else None
        return Look(tally, self._problems, keep, self._entries)

    def _rendered(self) -> bytes:
        body = b"\n".join([_dumped(self._whole), *self._lines]) + b"\n"
        head = {
            "version": VERSION,
            "made_by": fingerprint(),
            "sum": zlib.crc32(body),
            "files": [[e.name, e.inode, e.state, e.report] for e in self._entries],
        }
        return json.dumps(head, separators=(",", ":")).encode() + b"\n" + body


def _dumped(tally: Tally) -> bytes:
    return json.dumps(tally.to_dict(), separators=(",", ":")).encode()


def _is_the_same(source: Source, entry: Entry, size: int) -> bool:
    at, known = entry.state
    return size >= at and source.sum_of(at, _COMPARED_BYTES) == known


def _numbers(report: Report) -> tuple[int, int, int, int]:
    return report.malformed, report.recovered, report.too_long, report.other_version


def _add_report(report: Report, numbers: tuple[int, int, int, int]) -> None:
    report.malformed += numbers[0]
    report.recovered += numbers[1]
    report.too_long += numbers[2]
    report.other_version += numbers[3]
