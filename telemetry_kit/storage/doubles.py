"""Leave out events that are stored twice: after a copy was restored, or a log was pasted.

A file of the log is appended to, renamed and compressed, so two files with the same events have the
same first event, or one of them contains the first event of the other. All IDs are compared only in
such files. The bytes of a double are replaced, so that all positions stay the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from telemetry_kit.storage.parser import PREFIX

TYPE_CHECKING = False
if TYPE_CHECKING:
    from telemetry_kit.storage.segments import FileReport

HEAD_BYTES = 4_096
# A longer line without an end is passed on in pieces.
_MAX_LINE_BYTES = 1 << 20
_ID = re.compile(re.escape(PREFIX) + rb'([0-9a-f]{16})"')


def first_id(head: bytes) -> bytes:
    """Return the ID of the first event in the first bytes of a file; empty if there is none."""
    found = _ID.search(head)
    return found[1] if found else b""


def ids_in(blocks: Iterator[bytes]) -> set[bytes]:
    """Return the IDs of the events in the lines of a file."""
    found: set[bytes] = set()
    for block in whole_lines(blocks):
        found.update(_ID.findall(block))
    return found


def whole_lines(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in blocks of whole lines, except for a last line without an end."""
    rest = b""
    for chunk in chunks:
        data = rest + chunk if rest else chunk
        end = data.rfind(b"\n") + 1 if len(data) < _MAX_LINE_BYTES else len(data)
        block, rest = data[:end], data[end:]
        if block:
            yield block
    if rest:
        yield rest


def each_once(
    chunks: Iterator[bytes],
    own: bytes,
    firsts: set[bytes],
    known: Callable[[bytes, int], set[bytes]],
    report: FileReport,
    begin: int = 0,
    ids: set[bytes] | None = None,
) -> Iterator[bytes]:
    """Yield the bytes of a file with each double replaced by line ends or blanks.

    Args:
        chunks: the bytes.
        own: the ID of the first event of this file.
        firsts: the IDs of the first events of this file and of earlier ones.
        known: returns the IDs of the events before a position of this file, and of the file that
            begins with a given event.
        report: receives the number of doubles.
        begin: the position of the first byte.
        ids: the IDs of the events of earlier files, if this one is known to have some of them.
    """
    unseen = firsts if ids is None else firsts - {own}
    search = finder(unseen)
    at = begin
    for block in whole_lines(chunks):
        # The first event of the file is expected at its beginning.
        behind = block.find(own) + len(own) if at == 0 else 0
        while found := search(block, behind):
            ids = known(found, at) | (ids or set())
            unseen = unseen - {own, found}
            search = finder(unseen)
        at += len(block)
        yield block if ids is None else blank_doubles(block, ids, report)


def finder(firsts: set[bytes]) -> Callable[[bytes, int], bytes]:
    """Return a function that returns the first of these IDs behind a position of a block."""
    if len(firsts) == 1:
        (only,) = firsts
        # Longer texts are found faster.
        begins = PREFIX + only
        return lambda block, behind: only if block.find(begins, behind) >= 0 else b""
    if not firsts:
        return lambda block, behind: b""
    one_of = re.compile(rb'%s(%s)"' % (re.escape(PREFIX), b"|".join(sorted(firsts))))

    def search(block: bytes, behind: int) -> bytes:
        found = one_of.search(block, behind)
        return found[1] if found else b""

    return search


def blank_doubles(block: bytes, ids: set[bytes], report: FileReport) -> bytes:
    """Replace the events that are known, and add the IDs of the others."""
    blank = bytearray(block)
    found = list(_ID.finditer(block))
    begins = [match.start() for match in found]
    for match, following in zip(found, [*begins, len(block)][1:], strict=True):
        if match[1] not in ids:
            ids.add(match[1])
            continue
        report.doubles += 1
        begin, end = match.start(), block.find(b"\n", match.end(), following)
        is_line = end >= 0 and block[max(begin - 1, 0) : begin] in (b"", b"\n")
        end = end if end >= 0 else following
        # Within a damaged line, and at the end of the log, no line ends here.
        blank[begin:end] = (b"\n" if is_line else b" ") * (end - begin)
    return bytes(blank)
