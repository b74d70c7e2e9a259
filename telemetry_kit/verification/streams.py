"""Bytes of files, in bounded pieces: lines of any length, archives of any size.

The caller parses the bytes.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

from telemetry_kit.files import private
from telemetry_kit.storage import compression
from telemetry_kit.storage.segments import FileReport

BATCH_BYTES = 1 << 20
OVERLAP_BYTES = 4_096
_CHUNK_BYTES = 1 << 16
_MARKS = {b"\x1f\x8b": compression.GZIP, b"\x28\xb5\x2f\xfd": compression.ZSTD}


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without their ends, cut where one is longer than a batch."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > BATCH_BYTES:
            yield rest
            rest = rest[-OVERLAP_BYTES:]
    if rest:
        yield rest


def digested(chunks: Iterable[bytes], digest: Any) -> Iterator[bytes]:
    """The chunks, each told to the digest as it passes."""
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def chunks(file: Any) -> Iterator[bytes]:
    """An open file, piece by piece."""
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def again(first: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks, with the one in front that was looked at before."""
    yield first
    yield from chunks


def unpacked(chunks: Iterator[bytes], report: FileReport) -> Iterator[bytes]:
    """The content of a gzip or zstd file as far as it can be unpacked; anything else as it is.

    Args:
        chunks: its bytes.
        report: filled with the reason when not all of it can be unpacked.
    """
    first = next(chunks, b"")
    for mark, suffix in _MARKS.items():
        if first.startswith(mark):
            yield from compression.decompress(again(first, chunks), report, suffix)
            return
    yield from again(first, chunks)


def size(path: str) -> int:
    """The size of a file in bytes; 0 where there is none."""
    try:
        return os.lstat(path).st_size
    except OSError:
        return 0


def sha256(path: str) -> str:
    """SHA-256 of a file as it is on disk; empty where it cannot be read."""
    digest = hashlib.sha256()
    try:
        with open(private.open_regular(path, follow=False), "rb") as file:
            for chunk in chunks(file):
                digest.update(chunk)
    except OSError:
        return ""
    return digest.hexdigest()
