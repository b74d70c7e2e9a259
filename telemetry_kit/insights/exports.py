"""The ledger of exports: what left the journal, when, in which form, and where it went.

One JSON line each, in the user's own state folder, readable by this user only. No path of a home
directory is in it: a destination is told relative to the project, or by its name alone.
"""

from __future__ import annotations

import json
import os
import time
from typing import Any

from telemetry_kit import consent, private
from telemetry_kit.errors import ConsentError
from telemetry_kit.home import Home

NAME = "exports.jsonl"
MAX_BYTES = 16 << 20


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
    fields: tuple[str, ...],
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
    entry = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "command": command,
        "fields": fields,
        "rows": rows,
        "sha256": sha256,
        "destination": destination,
    }
    path = path_of(home)
    private.make_folder(os.path.dirname(path))
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(path, flags, 0o600)
    try:
        os.fchmod(fd, 0o600)
        line = json.dumps(entry).encode("ascii") + b"\n"
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
    try:
        data = private.read(path_of(home), MAX_BYTES) or b""
    except private.NotPrivateError as error:
        raise ConsentError(f"the ledger of exports cannot be read: {error}") from None
    found = []
    for line in data.splitlines():
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found
