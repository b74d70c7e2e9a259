"""Compression of archives: gzip everywhere, zstd where the interpreter has it.

The caller chooses the archives and reads their lines.
"""

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
# Modules with the interface of Python 3.14, tried in order. What belongs to one environment only
# reads: an archive that it wrote could not be read any more once it is gone.
WRITING = (_STANDARD,)
READING = (_STANDARD, "backports.zstd")
_NO_ZSTD = (
    "it is packed with zstd, which this Python cannot read: "
    "use Python 3.14 or later, or install backports.zstd"
)
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3
# 8 MiB, what `zstd -19` makes; a frame may ask for 2 GiB.
_WINDOW_LOG = 23
_CHUNK_BYTES = 1 << 16


class Codec:
    """One way to pack.

    Args:
        suffix: how the name of such an archive ends.
        begin: makes a compressor.
        stored: whether it leaves the bytes as they are.
    """

    __slots__ = ("begin", "stored", "suffix")

    def __init__(self, suffix: str, begin: Callable[[], Any], stored: bool = False) -> None:
        self.suffix = suffix
        self.begin = begin
        self.stored = stored


def ways(name: str) -> list[Codec]:
    """The ways to pack a segment, the preferred one first.

    Args:
        name: its name. An archive keeps its packing, because it is replaced by a rename.
    """
    archived = not name.endswith(".jsonl")
    if archived and name.endswith(ZSTD):
        zstd = find(READING)
        return [] if zstd is None else [_zstd(zstd)]
    zstd = None if archived else find(WRITING)
    return [_gzip(_GZIP_LEVEL) if zstd is None else _zstd(zstd), _gzip(0)]


def obstacle(name: str) -> str:
    """Why an archive cannot be unpacked here, or an empty string when it can."""
    return _NO_ZSTD if name.endswith(ZSTD) and find(READING) is None else ""


def find(names: tuple[str, ...]) -> Any:
    """The first of these modules that is there, or None.

    Args:
        names: modules with the interface of `compression.zstd`.
    """
    for name in names:
        if name == _STANDARD and sys.version_info < (3, 14):
            continue  # a module of that name would be the host's
        try:
            return __import__(name, fromlist=["zstd"])
        except (ImportError, OSError):
            continue  # too many open files is no reason to fail either
    return None


def _gzip(level: int) -> Codec:
    # Without a name or a time in it.
    return Codec(GZIP, lambda: zlib.compressobj(level, zlib.DEFLATED, 31), stored=not level)


def _zstd(zstd: Any) -> Codec:
    named = zstd.CompressionParameter
    options = {named.compression_level: _ZSTD_LEVEL, named.checksum_flag: 1}
    return Codec(ZSTD, lambda: zstd.ZstdCompressor(options=options))


def pack(write: Callable[[bytes], None], chunks: Iterator[bytes], way: Codec) -> int | None:
    """Write chunks as an archive.

    Args:
        write: takes all bytes that it is given.
        chunks: what goes into it.
        way: how to pack.

    Returns:
        How many bytes went in; None when a reader would take the result for a bomb.
    """
    packer = way.begin()
    total = packed = 0
    for chunk in chunks:
        total += len(chunk)
        piece = packer.compress(chunk)
        packed += len(piece)
        write(piece)
        if is_bomb(total if way.stored else packed, total):
            return None
    write(packer.flush())
    return total


def unpacked(chunks: Iterator[bytes], report: FileReport, name: str) -> Iterator[bytes]:
    """The content of an archive, of any number of members, in bounded pieces.

    Args:
        chunks: its bytes.
        report: filled with the reason when that is not all.
        name: its name, which says how it is packed.
    """
    found = _unpacker(name)
    if found is None:
        report.stopped = _NO_ZSTD
        return
    begin, error = found
    member = begin()
    read = came = 0
    try:
        for chunk in chunks:
            read += len(chunk)
            rest = chunk
            while True:
                if member.eof:
                    rest = rest.lstrip(b"\0")  # padding between members
                    if not rest:
                        break
                    member = begin()
                piece = member.decompress(rest, _CHUNK_BYTES)
                came += len(piece)
                if is_bomb(read, came):
                    report.stopped = "it unpacks to more than an archive can hold; the rest is left"
                    return
                yield piece
                rest = member.unused_data if member.eof else b""
                if not member.eof and member.needs_input:
                    break
    except error:
        report.stopped = (
            "the archive is damaged: what was read before the damage may be wrong, "
            "what comes behind it is lost"
        )
        return
    if not member.eof:
        report.stopped = "the archive is cut off: the rest is lost"


def _unpacker(name: str) -> tuple[Callable[[], Any], type[Exception]] | None:
    if not name.endswith(ZSTD):
        return _Gunzip, zlib.error
    zstd = find(READING)
    if zstd is None:
        return None
    options = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
    return lambda: zstd.ZstdDecompressor(options=options), zstd.ZstdError


class _Gunzip:
    """One gzip member, with the interface of the other decompressors."""

    def __init__(self) -> None:
        self._unzip = zlib.decompressobj(31)
        self.needs_input = True

    def decompress(self, data: bytes, max_length: int) -> bytes:
        """The next bytes, no more than so many; what else is in `data` is kept."""
        piece = self._unzip.decompress(self._unzip.unconsumed_tail + data, max_length)
        # zlib may have taken all its input and still hold output back.
        self.needs_input = not self._unzip.unconsumed_tail and len(piece) < max_length
        return piece

    @property
    def eof(self) -> bool:
        """Whether the member has ended."""
        return self._unzip.eof

    @property
    def unused_data(self) -> bytes:
        """What came behind its end."""
        return self._unzip.unused_data


def is_bomb(packed: int, unpacked: int) -> bool:
    """Whether an archive holds more than one of ours can.

    Args:
        packed: bytes read of it so far.
        unpacked: bytes that came out of them.
    """
    if unpacked <= RATIO_FREE_BYTES:
        return False
    return unpacked > MAX_ARCHIVE_BYTES or unpacked > MAX_RATIO * packed
