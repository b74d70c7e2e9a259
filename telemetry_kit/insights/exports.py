"""The ledger of exports: what left the journal, when, in which form, and where it went.

One JSON line each, in the user's own state folder, readable by this user only, and each with the
SHA-256 of the line before it. No path of a home directory is in it: a destination is told relative
to the project, or by its name alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from fcntl import LOCK_EX, flock
from typing import Any

from telemetry_kit import consent, private
from telemetry_kit.errors import ConsentError
from telemetry_kit.home import Home

NAME = "exports.jsonl"
MAX_BYTES = 16 << 20
_MAX_LINE_BYTES = 1 << 16


def path_of(home: Home) -> str:
    """Where the ledger of a project is.

    Raises:
        ConsentError: the place key cannot be used.
    """
    place = consent.place_of(home)
    folder = home.state if place is None else f"{home.state}/projects/{place}"
    return f"{folder}/{NAME}"


def destination_of(home: Home, path: str | None) -> str:
    """How a destination is told: relative to the project, else its name; `-` for stdout."""
    if path is None:
        return "-"
    full = os.path.realpath(path)
    root = home.root.rstrip("/") + "/"
    return full.removeprefix(root) if full.startswith(root) else os.path.basename(full)


def note(
    home: Home,
    now: float,
    command: str,
    fields: Sequence[str],
    rows: int,
    sha256: str,
    destination: str,
) -> None:
    """Add an entry.

    Args:
        home: the project's places.
        now: seconds since the epoch.
        command: what was run, without paths.
        fields: those that the rows may have.
        rows: how many events.
        sha256: of what was written.
        destination: what `destination_of()` made of it.

    Raises:
        OSError: it could not be written.
        ConsentError: the place key cannot be used.
    """
    path = path_of(home)
    private.make_folder(os.path.dirname(path))
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, 0o600)
    try:
        os.fchmod(fd, 0o600)
        # Two exports at once: each entry names the one that is really before it.
        flock(fd, LOCK_EX)
        last = _last_line(fd)
        entry = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
            "command": command,
            "fields": fields,
            "rows": rows,
            "sha256": sha256,
            "destination": destination,
            "previous": _code(last),
        }
        begin = b"" if last.endswith(b"\n") or not last else b"\n"
        line = begin + json.dumps(entry).encode("ascii") + b"\n"
        if os.write(fd, line) != len(line):
            raise OSError("short write")
    finally:
        os.close(fd)


def read(home: Home) -> list[dict[str, Any]]:
    """The entries, oldest first; lines that cannot be read are left out.

    Args:
        home: the project's places.

    Raises:
        ConsentError: the ledger cannot be read at all.
    """
    return [entry for _, entry in _entries(home) if entry is not None]


def broken(home: Home) -> list[int]:
    """The numbers, from 1, of entries that are not as they were written, or come after a gap.

    Args:
        home: the project's places.

    Raises:
        ConsentError: the ledger cannot be read at all.
    """
    found, before = [], b""
    for number, (line, entry) in enumerate(_entries(home), 1):
        if entry is None or entry.get("previous") != _code(before):
            found.append(number)
        before = line
    return found


def _entries(home: Home) -> list[tuple[bytes, dict[str, Any] | None]]:
    try:
        data = private.read(path_of(home), MAX_BYTES) or b""
    except private.NotPrivateError as error:
        raise ConsentError(f"the ledger of exports cannot be read: {error}") from None
    return [(line, _entry(line)) for line in data.splitlines()]


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _last_line(fd: int) -> bytes:
    """The last line, with its end where it has one."""
    size = os.fstat(fd).st_size
    end = os.pread(fd, _MAX_LINE_BYTES, max(size - _MAX_LINE_BYTES, 0))
    return b"".join(end.splitlines(keepends=True)[-1:])


def _code(line: bytes) -> str:
    return hashlib.sha256(line.rstrip(b"\n")).hexdigest() if line else ""
