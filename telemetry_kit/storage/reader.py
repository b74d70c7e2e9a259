"""The reader: every stored event, in order and once, from files in any state.

It writes nothing and prints nothing, and no content makes it raise. It counts unreadable data
in the caller's `Problems`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from telemetry_kit.paths import ProjectPaths
from telemetry_kit.schema import catalog
from telemetry_kit.storage.parser import Event, is_of_another_version, parse, resynchronised
from telemetry_kit.storage.segments import ACTIVE, Problems, Report, snapshot

MAX_READ_LINE_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"
# A run of NULs is what a crash leaves where a page never reached the disk: no line goes on
# behind it, and taking it out of the middle of one would alter what the line says.
_ENDS = re.compile(rb"[\0\n]+")


def read(home: ProjectPaths, problems: Problems | None = None) -> Iterator[Event]:
    """Every stored event once, oldest first, as of the first one asked for.

    Args:
        home: whose journal.
        problems: filled while reading.

    Yields:
        Events with the fields of the catalog. Those of the seed's original have no
        `schema_version` and no ids, and may have a `metadata` mapping.
    """
    found = Problems() if problems is None else problems
    with snapshot(home, found) as sources:
        for source in sources:
            report = found.of(source.segment.name)
            yield from events_in(source.chunks(report), report, source.segment.kind == ACTIVE)


def events_in(chunks: Iterator[bytes], report: Report, active: bool = False) -> Iterator[Event]:
    """The events in the bytes of one file, or in any run of its lines.

    Args:
        chunks: the bytes, in pieces.
        report: filled while reading.
        active: a last line without an end is still being written.
    """
    for raw, ended, cut in _lines(chunks):
        line = raw.removeprefix(_BOM).strip(b" \t\r")
        if not line:
            continue
        event = None if cut else parse(line)
        if event is not None:
            yield event
            continue
        found = list(resynchronised(line))
        report.recovered += len(found)
        _count(report, line, cut, active and not ended)
        yield from found


def _count(report: Report, line: bytes, cut: bool, in_progress: bool) -> None:
    if in_progress:
        report.in_progress = True
    elif cut:
        report.too_long += 1
    elif is_of_another_version(line):
        report.other_version += 1
    else:
        report.malformed += 1


def _lines(chunks: Iterator[bytes]) -> Iterator[tuple[bytes, bool, bool]]:
    """Each line with whether it was ended, and whether it was too long to be kept whole.

    Of a line that is too long the last bytes are kept: a whole event may be glued to its end.
    """
    rest, cut = b"", False
    for chunk in chunks:
        *lines, rest = _ENDS.split(rest + chunk)
        for line in lines:
            yield line, True, cut or len(line) > MAX_READ_LINE_BYTES
            cut = False
        if cut or len(rest) > MAX_READ_LINE_BYTES:
            rest, cut = rest[-catalog.MAX_LINE_BYTES :], True
    if rest:
        yield rest, False, cut
