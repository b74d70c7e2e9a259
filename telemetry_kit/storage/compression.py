"""Compression of archives: gzip everywhere, and zstd if the interpreter has it."""

from __future__ import annotations

import sys
import zlib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from telemetry_kit.storage.segments import FileReport

GZIP, ZSTD = ".gz", ".zst"
MAX_ARCHIVE_BYTES = 256 << 20
MAX_RATIO = 200
RATIO_FREE_BYTES = 5 << 20
_STANDARD = "compression.zstd"
# Modules with the interface of Python 3.14, tried in order. The backport is only used to read: an
# archive that it wrote could not be read after the environment is deleted.
WRITING = (_STANDARD,)
READING = (_STANDARD, "backports.zstd")
_NO_ZSTD = (
    "it is compressed with zstd, which this Python cannot read: "
    "use Python 3.14 or later, or install backports.zstd"
)
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3
# 8 MiB, the window of `zstd -19`. A damaged archive could ask for 2 GiB.
_WINDOW_LOG = 23
_CHUNK_BYTES = 1 << 16
# The longest end of an archive that is no content: a CRC-32 and a size.
_CHECKSUM_BYTES = 8


class Codec:
    """A way to compress.

    Args:
        suffix: the end of the name of such an archive.
        compressor: creates a compressor.
        stored: whether it leaves the bytes as they are.
    """

    def __init__(self, suffix: str, compressor: Callable[[], Any], stored: bool = False) -> None:
        self.suffix = suffix
        self.compressor = compressor
        self.stored = stored


def codecs(name: str) -> list[Codec]:
    """Return the codecs for a segment, the preferred one first.

    Args:
        name: its name. An archive keeps its suffix, because it is replaced by a rename.
    """
    is_archive = not name.endswith(".jsonl")
    is_zstd = name.endswith(ZSTD)
    zstd = find(READING) if is_zstd else None if is_archive else find(WRITING)
    if zstd is not None:
        named = zstd.CompressionParameter
        options = {named.compression_level: _ZSTD_LEVEL, named.checksum_flag: 1}
        preferred = Codec(ZSTD, lambda: zstd.ZstdCompressor(options=options))
    elif is_zstd:
        return []
    else:
        preferred = gzip(_GZIP_LEVEL)
    return [preferred] if is_zstd else [preferred, gzip(0)]


def gzip(level: int) -> Codec:
    """Return gzip without a name and a time in the archive; level 0 stores the bytes."""
    return Codec(GZIP, lambda: zlib.compressobj(level, zlib.DEFLATED, 31), stored=not level)


def obstacle(name: str) -> str:
    """Return why an archive cannot be read here, or an empty string if it can."""
    return _NO_ZSTD if name.endswith(ZSTD) and find(READING) is None else ""


def find(names: tuple[str, ...]) -> Any:
    """Return the first importable module of these, which have the interface of `_STANDARD`."""
    for name in names:
        if name == _STANDARD and sys.version_info < (3, 14):
            continue  # a module of that name would belong to the program
        try:
            return __import__(name, fromlist=["zstd"])
        except (ImportError, OSError):
            continue  # an OSError is raised if too many files are open
    return None


def compress(write: Callable[[bytes], None], chunks: Iterator[bytes], codec: Codec) -> int | None:
    """Write chunks as an archive.

    Args:
        write: writes all bytes that it receives.
        chunks: the content.
        codec: the codec.

    Returns:
        The size of the content, or None if a reader would refuse the archive as a bomb.
    """
    compressor = codec.compressor()
    total = compressed = 0
    for chunk in chunks:
        total += len(chunk)
        block = compressor.compress(chunk)
        compressed += len(block)
        write(block)
        if is_bomb(total if codec.stored else compressed, total):
            return None
    write(compressor.flush())
    return total


def decompress(chunks: Iterator[bytes], report: FileReport, name: str) -> Iterator[bytes]:
    """Yield the content of an archive, of any number of members, in blocks of limited size.

    Args:
        chunks: its bytes.
        report: receives the reason if not all of it could be read.
        name: its name, which ends with the suffix of the codec.
    """
    chunks = checksum_apart(chunks)
    decompressor: Callable[[], Any] = GzipDecompressor
    error: type[Exception] = zlib.error
    if name.endswith(ZSTD):
        zstd = find(READING)
        if zstd is None:
            report.stopped = _NO_ZSTD
            return
        options = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
        decompressor, error = lambda: zstd.ZstdDecompressor(options=options), zstd.ZstdError
    yield from expand(chunks, report, decompressor, error)


def expand(
    chunks: Iterator[bytes],
    report: FileReport,
    decompressor: Callable[[], Any],
    error: type[Exception] | tuple[type[Exception], ...],
) -> Iterator[bytes]:
    """Yield the content of an archive, of any number of members, in blocks of limited size.

    Args:
        chunks: its bytes.
        report: receives the reason if not all of it could be read.
        decompressor: creates a decompressor with the interface of `ZstdDecompressor`.
        error: what it raises if the archive is damaged.
    """
    member = decompressor()
    read = total = 0
    try:
        for chunk in chunks:
            read += len(chunk)
            rest = chunk
            while True:
                if member.eof:
                    rest = rest.lstrip(b"\0")  # padding between members
                    if not rest:
                        break
                    member = decompressor()
                block = member.decompress(rest, _CHUNK_BYTES)
                total += len(block)
                if is_bomb(read, total):
                    report.stopped = "it is larger than an archive may be: the rest was not read"
                    return
                if block:
                    yield block
                rest = member.unused_data if member.eof else b""
                if not member.eof and member.needs_input:
                    break
    except error:
        report.stopped = (
            "the archive is damaged: events before the damage may be wrong, later ones are lost"
        )
        return
    if not member.eof:
        report.stopped = "the archive is incomplete: the rest is lost"


def checksum_apart(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the bytes of an archive, the last ones one by one.

    If the checksum at its end is wrong, a decompressor returns nothing for the bytes that it
    received together with it.
    """
    last = b""
    for chunk in chunks:
        data = last + chunk
        last = data[-_CHECKSUM_BYTES:]
        if len(data) > _CHECKSUM_BYTES:
            yield data[:-_CHECKSUM_BYTES]
    for at in range(len(last)):
        yield last[at : at + 1]


class GzipDecompressor:
    """Reads one gzip member, with the interface of `ZstdDecompressor`."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(31)
        self.eof = False
        self.needs_input = True
        self.unused_data = b""

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """Return the next bytes, at most `max_length`; the rest of `data` is kept."""
        block = self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)
        self.eof, self.unused_data = self._zlib.eof, self._zlib.unused_data
        # zlib may have read all its input and still have output.
        self.needs_input = not self._zlib.unconsumed_tail and len(block) < max_length
        return block


def is_bomb(compressed: int, total: int) -> bool:
    """Whether an archive is larger than this package writes them.

    Args:
        compressed: how many of its bytes were read so far.
        total: how many bytes they held.
    """
    if total <= RATIO_FREE_BYTES:
        return False
    return total > MAX_ARCHIVE_BYTES or total > MAX_RATIO * compressed
