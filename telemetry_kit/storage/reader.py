"""Read every stored event, in order and once, from files in any state.

No content raises an exception. Data that cannot be read is counted in a `ReadReport`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from telemetry_kit.paths import ProjectPaths
from telemetry_kit.schema import catalog
from telemetry_kit.storage.doubles import ids_in, whole_lines
from telemetry_kit.storage.parser import Event, is_of_another_version, parse, recovered_events
from telemetry_kit.storage.segments import ACTIVE, FileReport, ReadReport, snapshot

MAX_READ_LINE_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"
# After a crash, a page that was not written to disk is a run of NULs. No line continues after it.
# Without the NULs, the parts around them could be read as one line that was never written.
_ENDS = re.compile(rb"[\0\n]+")


def read(paths: ProjectPaths, problems: ReadReport | None = None) -> Iterator[Event]:
    """Yield every stored event once, oldest first, as of the time of the first one.

    Args:
        problems: receives what could not be read.

    Yields:
        Events with the fields of the catalog. Those of the original program have no
        `schema_version` and no ids, and may have a `metadata` mapping.
    """
    found = ReadReport() if problems is None else problems
    with snapshot(paths, found, each_once=True) as sources:
        for source in sources:
            report = found.of(source.segment.name)
            yield from events_in(source.chunks(report), report, source.segment.kind == ACTIVE)


def read_some(
    paths: ProjectPaths, is_wanted: Callable[[str], bool], problems: ReadReport
) -> Iterator[Event]:
    """Yield the stored events with certain IDs, and the others that share a line with one.

    Those of the original program, which have no ID, are yielded too. No other line is parsed.

    Args:
        is_wanted: whether an event with this ID is wanted.
        problems: receives what could not be read.
    """

    def is_parsed(line: bytes) -> bool:
        ids = ids_in(iter([line]))
        return not ids or any(is_wanted(event_id.decode("ascii")) for event_id in ids)

    with snapshot(paths, problems) as sources:
        for source in sources:
            report = problems.of(source.segment.name)
            for block in whole_lines(source.chunks(report)):
                lines = [line for line in block.split(b"\n") if is_parsed(line)]
                yield from events_in(iter([b"\n".join(lines)]), report)


def events_in(chunks: Iterator[bytes], report: FileReport, active: bool = False) -> Iterator[Event]:
    """Yield the events in the bytes of one file, or in some of its lines.

    Args:
        chunks: the bytes.
        report: receives what could not be read.
        active: whether a last line without a newline is still being written.
    """
    for raw, ended, cut in split_lines(chunks):
        line = raw.removeprefix(_BOM).strip(b" \t\r")
        if not line:
            continue
        event = None if cut else parse(line)
        if event is not None:
            yield event
            continue
        found = list(recovered_events(line))
        report.recovered += len(found)
        if active and not ended:
            report.in_progress = True
        elif cut:
            report.too_long += 1
        elif is_of_another_version(line):
            report.other_version += 1
        else:
            report.malformed += 1
        yield from found


def split_lines(chunks: Iterator[bytes]) -> Iterator[tuple[bytes, bool, bool]]:
    """Yield each line, whether it has a newline, and whether it is too long.

    Of a line that is too long, the last bytes are yielded: a whole event may be joined to its end.
    """
    rest, cut = b"", False
    for chunk in chunks:
        *ended, rest = _ENDS.split(rest + chunk)
        for line in ended:
            yield line, True, cut or len(line) > MAX_READ_LINE_BYTES
            cut = False
        if cut or len(rest) > MAX_READ_LINE_BYTES:
            rest, cut = rest[-catalog.MAX_LINE_BYTES :], True
    if rest:
        yield rest, False, cut
