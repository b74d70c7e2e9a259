"""Look into a file: yield every text in archives, documents and databases.

The content decides what a file is, and its name does not. Nothing is unpacked to disk. A file
that cannot be looked into is named with the reason.
"""

from __future__ import annotations

import bz2
import codecs
import hashlib
import io
import lzma
import os
import sqlite3
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import IO, Any, cast

from telemetry_kit.export.formats import parquet_rows
from telemetry_kit.files import private
from telemetry_kit.storage import compression
from telemetry_kit.storage.segments import FileReport

# A gigabyte of free text takes about twenty minutes.
MAX_FILE_BYTES = 1 << 30
MAX_DEPTH = 5
MAX_FILES = 10_000
# An archive inside another one that must be read in any order is held in memory up to this size.
MAX_MEMORY_BYTES = 64 << 20
# The directory of a ZIP archive is read at once, and takes several times its size.
MAX_DIRECTORY_BYTES = 4 << 20
MAX_PROBLEMS = 20

_CHUNK_BYTES = 1 << 16
# An XZ archive of level 9 takes 65 MiB. A damaged one could ask for 4 GiB.
_XZ_BYTES = 128 << 20
_BLOCK_BYTES = 512
# A ZIP member may be followed by a descriptor of its sizes.
_DESCRIPTOR_BYTES = 24
_LOCAL_HEADER = struct.Struct("<26xHH")
_SQLITE_VALUE_BYTES = 16 << 20

_Factory = Callable[[], Any]
_CODECS: dict[bytes, tuple[_Factory, type[Exception]]] = {
    b"\x1f\x8b": (compression.GzipDecompressor, zlib.error),
    b"BZh": (bz2.BZ2Decompressor, OSError),
    b"\xfd7zXZ\0": (lambda: lzma.LZMADecompressor(memlimit=_XZ_BYTES), lzma.LZMAError),
    b"]\0\0": (lambda: lzma.LZMADecompressor(memlimit=_XZ_BYTES), lzma.LZMAError),
}
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZIP = (b"PK\3\4", b"PK\5\6", b"PK\7\x08")
_SQLITE = b"SQLite format 3\0"
_PARQUET = b"PAR1"
_PDF = b"%PDF-"
_WITHOUT_DATA = (
    *(tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE),
    *(tarfile.DIRTYPE, tarfile.FIFOTYPE),
)
_TAR_TEXTS = (slice(0, 100), slice(157, 257), slice(265, 329), slice(345, 500))
_TAR_EXTENSIONS = (b"x", b"g", b"X", b"L", b"K")
# Every byte but control characters. NULs are in UTF-16, and where a disk lost a part of a log.
_TEXT_BYTES = bytes([0, *range(7, 14), 26, 27, *range(32, 256)])
_BREAKS = str.maketrans("", "", "\0\t\n\r\ufeff")

_NO_TEXT = "it is neither text nor an archive of a known kind"
_DAMAGED = "it is damaged"


class _UnreadableError(Exception):
    """A file that cannot be looked into; the message is the reason."""


_ERRORS = (
    *(_UnreadableError, OSError, EOFError, ValueError, RuntimeError, ModuleNotFoundError),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile, struct.error, sqlite3.Error),
)


@dataclass(frozen=True, slots=True)
class Part:
    """One text in a file.

    Args:
        name: the name of the file, and its name inside each archive.
        first: its first bytes; none of the names in an archive, or the rows of a database.
        chunks: its bytes; they must be read before the next part.
    """

    name: str
    first: bytes
    chunks: Iterator[bytes]


class Contents:
    """The texts in one file, within limits of size, depth and number.

    Args:
        file: the open file.
        path: its path.
        name: its name in messages.
        is_secret: whether the name of a file inside it must not be shown.

    Attributes:
        files: the number of files in archives.
    """

    def __init__(
        self, file: IO[bytes], path: str, name: str, is_secret: Callable[[bytes], object]
    ) -> None:
        self._file = file
        self._path = path
        self._name = name
        self._is_secret = is_secret
        self._size_bytes = self._inside_bytes = 0
        self._is_stopped = False
        self._problems: dict[str, str] = {}
        self.files = 0

    @property
    def problems(self) -> list[str]:
        """One sentence for each file that could not be looked into, at most `MAX_PROBLEMS`."""
        return list(self._problems.values())

    def sha256(self) -> str:
        """Return the SHA-256 of the file; empty if it cannot be read."""
        digest = hashlib.sha256()
        for chunk in self._checked(self._name, self._stored()):
            digest.update(chunk)
            self._size_bytes += len(chunk)
        return "" if self._problems else digest.hexdigest()

    def parts(self) -> Iterator[Part]:
        """Yield every text. Read the hash first: it checks the size."""
        if not self._problems:
            yield from self._look(self._name, self._stored(), 0)

    # -- the bytes of files ------------------------------------------------------------------

    def _stored(self, begin: int = 0, end: int = MAX_FILE_BYTES) -> Iterator[bytes]:
        """Yield bytes of the file itself."""
        if os.fstat(self._file.fileno()).st_size > MAX_FILE_BYTES:
            raise _UnreadableError(f"it is larger than {MAX_FILE_BYTES >> 30} GiB")
        yield from span(self._file, begin, end)

    def _checked(
        self, name: str, chunks: Iterable[bytes], is_inside: bool = False
    ) -> Iterator[bytes]:
        """Yield chunks up to an error or the limit of a run, which becomes a problem."""
        try:
            for chunk in chunks:
                self._inside_bytes += len(chunk) * is_inside
                if compression.is_bomb(self._size_bytes, self._inside_bytes):
                    self._is_stopped = True
                    raise _UnreadableError("it is larger than an archive may be")
                yield chunk
        except _ERRORS as error:
            self._add_problem(name, error)

    def _add_problem(self, name: str, error: Exception) -> None:
        if isinstance(error, _UnreadableError | ModuleNotFoundError):
            reason = str(error)
        else:
            reason = private.explain(error) if isinstance(error, OSError) else _DAMAGED
        if len(self._problems) >= MAX_PROBLEMS:
            name, reason = "", f"and into more files inside {self._name}"
        self._problems.setdefault(name, f"cannot look into {name}: {reason}" if name else reason)

    # -- the kinds of files ------------------------------------------------------------------

    def _look(self, name: str, chunks: Iterator[bytes], depth: int) -> Iterator[Part]:
        """Yield the texts in one file, or in the rest of one."""
        if self._is_stopped:
            return
        chunks = self._checked(name, chunks, is_inside=depth > 0)
        first = b""
        while len(first) < _BLOCK_BYTES and (chunk := next(chunks, b"")):
            first += chunk
        chunks = chain([first], chunks)
        try:
            yield from self._look_by_kind(name, first, chunks, depth)
        except _ERRORS as error:
            self._add_problem(name, error)

    def _look_by_kind(
        self, name: str, first: bytes, chunks: Iterator[bytes], depth: int
    ) -> Iterator[Part]:
        codec = next((codec for magic, codec in _CODECS.items() if first.startswith(magic)), None)
        is_zip = first.startswith(_ZIP) or (not depth and zipfile.is_zipfile(self._file))
        is_container = codec or is_zip or first.startswith((_ZSTD, _SQLITE)) or is_tar(first)
        if is_container and depth >= MAX_DEPTH:
            raise _UnreadableError(f"it is an archive inside {MAX_DEPTH} others")
        if codec or first.startswith(_ZSTD):
            if header := gzip_names(first):
                yield Part(name, b"", iter([header]))
            yield from self._look(name, expanded(chunks, codec), depth + 1)
        elif is_tar(first):
            yield from self._look_into_tar(name, _Reader(chunks), depth)
        elif is_zip:
            yield from self._look_into_zip(name, self._in_memory(chunks, depth), depth)
        elif first.startswith(_SQLITE):
            file = self._in_memory(chunks, depth)
            # Deleted rows are still in its pages.
            yield Part(name, b"", span(file))
            data = file.getvalue() if isinstance(file, io.BytesIO) else None
            yield from self._texts(name, b"", sqlite_rows(self._path, data))
        elif first.startswith(_PARQUET):
            if depth:
                raise _UnreadableError("it is a Parquet file inside another file")
            yield from self._texts(name, b"", as_lines(parquet_rows(self._path)))
        else:
            yield from self._texts(name, first, chunks)

    def _texts(self, name: str, first: bytes, chunks: Iterator[bytes]) -> Iterator[Part]:
        """Yield one text, and report it if it is something else."""
        check = _TextCheck()

        def seen() -> Iterator[bytes]:
            for chunk in chunks:
                check.add(chunk)
                yield chunk
            if not check.is_text or _PDF in first[:1024]:
                raise _UnreadableError(_NO_TEXT)

        yield Part(name, first, self._checked(name, seen()))

    def _in_memory(self, chunks: Iterator[bytes], depth: int) -> IO[bytes]:
        """Return a file that can be read in any order."""
        if not depth:
            return self._file
        file = io.BytesIO()
        for chunk in chunks:
            if file.write(chunk) + file.tell() > MAX_MEMORY_BYTES:
                size = f"{MAX_MEMORY_BYTES >> 20} MiB"
                raise _UnreadableError(f"it is an archive of more than {size} inside another one")
        return file

    def _look_into_member(
        self, name: str, inner: str, chunks: Iterator[bytes], depth: int
    ) -> Iterator[Part]:
        """Yield the texts in a file of an archive."""
        if self._is_stopped:
            return
        self.files += 1
        if self.files > MAX_FILES:
            self._is_stopped = True
            raise _UnreadableError(f"it contains more than {MAX_FILES:,} files")
        if self._is_secret(os.fsencode(inner)):
            inner = f"file {self.files}"
        yield from self._look(f"{name}/{inner}", chunks, depth + 1)

    def _look_into_zip(self, name: str, file: IO[bytes], depth: int) -> Iterator[Part]:
        """Yield the texts in the files of a ZIP archive, between them, and in its directory."""
        with zipfile.ZipFile(cast("IO[bytes]", _Limited(file))) as archive:
            yield Part(name, b"", span(file, archive.start_dir))
            at = 0
            for info in sorted(archive.infolist(), key=lambda info: info.header_offset):
                yield from self._look_between(name, file, at, info.header_offset, depth)
                file.seek(info.header_offset)
                sizes = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
                start = info.header_offset + _LOCAL_HEADER.size + sum(sizes)
                at = max(at, start + info.compress_size)
                if info.file_size or not info.is_dir():
                    chunks = zip_chunks(
                        archive, info, span(file, start, start + info.compress_size)
                    )
                    yield from self._look_into_member(name, info.filename, chunks, depth)
            yield from self._look_between(name, file, at, archive.start_dir, depth)

    def _look_between(
        self, name: str, file: IO[bytes], begin: int, end: int, depth: int
    ) -> Iterator[Part]:
        """Yield the texts in bytes of an archive that belong to none of its files."""
        if end - begin > _DESCRIPTOR_BYTES:
            yield from self._look(name, span(file, begin, end), depth + 1)

    def _look_into_tar(self, name: str, reader: _Reader, depth: int) -> Iterator[Part]:
        """Yield the texts in the files of a tar archive and in their headers.

        `tarfile` skips bytes that belong to no file, which could hold anything.
        """
        headers: list[bytes] = []
        is_whole = True
        while is_whole and (block := reader.read(_BLOCK_BYTES)):
            if not block.strip(b"\0"):
                continue  # the end of an archive; another one may follow
            if not is_tar(block):
                self._add_problem(name, _UnreadableError(_DAMAGED))
                rest = chain([block], reader.take(MAX_FILE_BYTES))
                yield from self._look(name, rest, depth + 1)
                break
            info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            headers += (block[part].strip(b"\0") for part in _TAR_TEXTS)
            more = block[482:483].strip(b"\0") if info.type == tarfile.GNUTYPE_SPARSE else b""
            while more:
                more = reader.read(_BLOCK_BYTES)[504:505].strip(b"\0")
            size = 0 if info.type in _WITHOUT_DATA else info.size
            data = reader.take(size)
            if info.type in _TAR_EXTENSIONS:
                yield Part(name, b"", data)
            elif size or info.isreg():
                yield from self._look_into_member(name, info.name, data, depth)
            for _ in data:
                continue
            headers.append(reader.read(-size % _BLOCK_BYTES).strip(b"\0"))
            is_whole = not reader.is_short
        yield Part(name, b"", iter([b"\n".join(headers)]))
        if not is_whole:
            raise _UnreadableError("it is incomplete")


class _Reader:
    """Read a stream in pieces of given sizes.

    Args:
        chunks: the stream.

    Attributes:
        is_short: whether the stream has ended before the last byte of a piece.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""
        self.is_short = False

    def take(self, size: int) -> Iterator[bytes]:
        """Yield the next `size` bytes, or all that are left."""
        while size > 0:
            chunk = self._rest or next(self._chunks, b"")
            if not chunk:
                self.is_short = True
                return
            self._rest = chunk[size:]
            size -= len(chunk) - len(self._rest)
            yield chunk[: len(chunk) - len(self._rest)]

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, or all that are left."""
        return b"".join(self.take(size))


class _Limited:
    """A file of which `zipfile` cannot read a directory of any size into memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        limit = MAX_DIRECTORY_BYTES + 1
        data = self._file.read(limit if size < 0 else min(size, limit))
        if len(data) == limit:
            raise _UnreadableError(f"it contains more than {MAX_FILES:,} files")
        return data


class _TextCheck:
    """Whether bytes are a text, in UTF-8 or another superset of ASCII, or in UTF-16."""

    def __init__(self) -> None:
        self._is_plain = True
        # Each possible encoding, and whether a space or the end of a line occurred in it.
        self._wide = {
            codecs.getincrementaldecoder(f"utf-16-{end}")(): False for end in ("le", "be")
        }

    def add(self, chunk: bytes) -> None:
        """Check the next bytes."""
        self._is_plain = self._is_plain and not chunk.translate(None, _TEXT_BYTES)
        for decoder in list(self._wide):
            try:
                text = decoder.decode(chunk)
            except UnicodeDecodeError:
                del self._wide[decoder]
                continue
            self._wide[decoder] |= " " in text or "\n" in text
            if not text.translate(_BREAKS).isprintable():
                del self._wide[decoder]

    @property
    def is_text(self) -> bool:
        """Whether all bytes so far are a text."""
        return self._is_plain or any(self._wide.values())


def span(file: IO[bytes], begin: int = 0, end: int = MAX_FILE_BYTES) -> Iterator[bytes]:
    """Yield the bytes of a file between two places, while others may read it, too."""
    while begin < end:
        file.seek(begin)
        chunk = file.read(min(_CHUNK_BYTES, end - begin))
        if chunk is None:
            raise _UnreadableError("reading it would wait for another process")
        if not chunk:
            return
        begin += len(chunk)
        yield chunk


def expanded(
    chunks: Iterator[bytes], codec: tuple[_Factory, type[Exception]] | None
) -> Iterator[bytes]:
    """Yield the content of a compressed stream; without a codec, of one in zstd."""
    report = FileReport()
    if codec is None:
        yield from compression.decompress(chunks, report, compression.ZSTD)
    else:
        yield from compression.expand(chunks, report, *codec)
    if report.stopped:
        raise _UnreadableError(report.stopped)


def gzip_names(first: bytes) -> bytes:
    """Return the name and the comment in the header of a gzip stream (RFC 1952)."""
    if not first.startswith(b"\x1f\x8b") or len(first) < 12:
        return b""
    flags, at = first[3], 10
    if flags & 4:
        at += 2 + int.from_bytes(first[10:12], "little")
    count = bool(flags & 8) + bool(flags & 16)
    return b"\n".join([first[10:at], *first[at:].split(b"\0", count)[:count]]).strip(b"\n")


def is_tar(block: bytes) -> bool:
    """Whether bytes begin with a header of a tar archive, by its checksum."""
    try:
        tarfile.TarInfo.frombuf(block[:_BLOCK_BYTES], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def zip_chunks(
    archive: zipfile.ZipFile, info: zipfile.ZipInfo, packed: Iterator[bytes]
) -> Iterator[bytes]:
    """Yield the content of one file of a ZIP archive.

    `zipfile` expands all that it has read of a bzip2 or LZMA stream, so it reads only the others.

    Args:
        archive: the archive.
        info: the entry of the file in its directory.
        packed: the compressed bytes.
    """
    if info.flag_bits & 1:
        raise _UnreadableError("it is encrypted")
    if info.compress_type == zipfile.ZIP_BZIP2:
        yield from expanded(packed, _CODECS[b"BZh"])
    elif info.compress_type == zipfile.ZIP_LZMA:
        # The header has the version, and the size of the five bytes of properties.
        reader = _Reader(packed)
        properties = reader.read(9)[4:]
        size = (1 << 64) - 1 if info.flag_bits & 2 else info.file_size
        head = properties + size.to_bytes(8, "little")
        yield from expanded(chain([head], reader.take(info.compress_size)), _CODECS[b"]\0\0"])
    else:
        with archive.open(info) as member:
            while chunk := member.read(_CHUNK_BYTES):
                yield chunk


def sqlite_rows(path: str, data: bytes | None) -> Iterator[bytes]:
    """Yield the rows of all tables of a SQLite database as lines.

    Args:
        path: the file.
        data: its bytes, if it is inside an archive.
    """
    quoted = "".join(f"%{byte:02x}" for byte in os.fsencode(os.path.abspath(path)))
    place = ":memory:" if data is not None else f"file:{quoted}?mode=ro&immutable=1"
    connection = sqlite3.connect(place, uri=True)
    try:
        if data is not None:
            connection.deserialize(data)
        connection.text_factory = bytes
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _SQLITE_VALUE_BYTES)
        connection.execute("PRAGMA trusted_schema=OFF")
        tables = connection.execute(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0"
        )
        for (table,) in tables.fetchall():
            named = table.decode().replace('"', '""')
            yield from as_lines(connection.execute(f'SELECT * FROM "{named}"'))
    finally:
        connection.close()


def as_lines(rows: Iterable[Iterable[Any]]) -> Iterator[bytes]:
    """Yield rows as lines, with a tab between two values."""
    for row in rows:
        values = (v if isinstance(v, bytes) else str(v).encode("utf-8", "replace") for v in row)
        yield b"\t".join(values) + b"\n"
