"""Read the events of a file: a log, or an export as JSON lines, as a JSON array or as a table."""

from __future__ import annotations

import codecs
import csv
import itertools
import re
from collections.abc import Iterator

from telemetry_kit.export.formats import event_of_row
from telemetry_kit.files import private
from telemetry_kit.storage import compression
from telemetry_kit.storage.parser import Event, as_event, decoder
from telemetry_kit.storage.reader import MAX_READ_LINE_BYTES, events_in, split_lines
from telemetry_kit.storage.segments import FileReport

_CHUNK_BYTES = 1 << 16
_MAGIC = {b"\x1f\x8b": compression.GZIP, b"\x28\xb5\x2f\xfd": compression.ZSTD}
_BOM = b"\xef\xbb\xbf"
_BETWEEN = re.compile(r"[\s,]*")


def read_file(path: str, report: FileReport) -> Iterator[Event]:
    """Yield the events of a file, which may be compressed with gzip or zstd.

    Args:
        path: the file. Its content decides what it is, and not its name.
        report: receives what could not be read.

    Raises:
        OSError, ValueError: the file cannot be read, or is no regular file.
    """
    with open(private.open_regular(path), "rb") as file:
        head = file.read(4)
        file.seek(0)
        chunks = iter(lambda: file.read(_CHUNK_BYTES), b"")
        for magic, suffix in _MAGIC.items():
            if head.startswith(magic):
                chunks = compression.decompress(chunks, report, suffix)
        first = next(chunks, b"")
        chunks = itertools.chain((first,), chunks)
        begin = first.removeprefix(_BOM).lstrip()
        if begin.startswith(b"["):
            yield from _events_of_array(chunks, report)
        elif begin.startswith(b"schema_version,"):
            yield from _events_of_table(chunks, report)
        else:
            yield from events_in(chunks, report)


def _events_of_array(chunks: Iterator[bytes], report: FileReport) -> Iterator[Event]:
    """Yield the events of a JSON array, with any line breaks in it."""
    texts = codecs.iterdecode(chunks, "utf-8-sig", "replace")
    text = next(texts).lstrip()
    at, is_whole = 1, False
    while True:
        match = _BETWEEN.match(text, at)
        at = match.end() if match else at
        if text.startswith("]", at) or (is_whole and at == len(text)):
            return
        try:
            found, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            more = next(texts, "") if len(text) - at < MAX_READ_LINE_BYTES else ""
            if more:
                text, at = text[at:] + more, 0
                continue
            is_whole = is_whole or len(text) - at < MAX_READ_LINE_BYTES
            report.malformed += 1
            at = text.find("\n", at)
            if at < 0:
                return
            continue
        at = end
        event = as_event(found)
        if event is None:
            report.malformed += 1
        else:
            yield event


def _events_of_table(chunks: Iterator[bytes], report: FileReport) -> Iterator[Event]:
    """Yield the events of a CSV file with a heading."""
    lines = (f"{line.decode('utf-8', 'replace')}\n" for line, _, _ in split_lines(chunks))
    heading = next(lines).removeprefix("\ufeff")
    rows = csv.DictReader(itertools.chain((heading,), lines))
    while True:
        try:
            event = as_event(event_of_row(next(rows)))
        except StopIteration:
            return
        except (csv.Error, ValueError, RecursionError):
            event = None
        if event is None:
            report.malformed += 1
        else:
            yield event
