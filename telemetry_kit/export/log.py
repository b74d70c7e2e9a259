"""The export log: which events were exported, when, in which format, and to which destination.

The log is a hash chain in the state directory of the user, and only this user can read it. Its
head, a file beside it, holds the number of entries and the SHA-256 of the last one. A destination
is a path relative to the project, or the name of a file.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator
from fcntl import LOCK_EX, flock
from itertools import islice
from typing import Any, BinaryIO

from telemetry_kit._units import counted
from telemetry_kit.errors import ConsentError, TelemetryError
from telemetry_kit.files import atomic, hash_chain, private
from telemetry_kit.files.hash_chain import Link
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy import projects
from telemetry_kit.privacy.hmac_sha256 import Mac
from telemetry_kit.schema import catalog

NAME = "exports.jsonl"
# The fields of every export: those of events, and one of files of the original format.
FIELDS = (*catalog.ORDER, "metadata")
_ALL = f"all of {catalog.SCHEMA_VERSION}"
# Keys of the former format, and of entries as `audit` shows them.
_PREVIOUS, _SHA256 = "previous", "entry_sha256"
_MAX_LINE_BYTES = 1 << 16
_MAX_HEAD_BYTES = 1 << 10
_KEY_BYTES = 32
_MAX_LISTED = 10


def path_of(paths: ProjectPaths) -> str:
    """Return the log that takes the next entry of a project.

    Raises:
        ConsentError: the key that names the log cannot be used.
        OSError: the key is missing and cannot be made.
    """
    dirs = projects.ProjectDirs.of(paths)
    return early_path(paths, make=True) if dirs is None else f"{dirs.state}/{NAME}"


def early_path(paths: ProjectPaths, make: bool = False) -> str:
    """Return the log of exports before the first decision; empty if there were none.

    Only a decision makes the key that names the project directory, so this log has its own key.

    Args:
        paths: the paths of the project.
        make: make the key if it is missing.

    Raises:
        ConsentError: the key cannot be used.
        OSError: the key cannot be made.
    """
    path = f"{paths.state}/{NAME}.key"
    try:
        if make:
            atomic.create(path, os.urandom(_KEY_BYTES))
        key = private.read(path, _KEY_BYTES)
    except private.UnsafeFileError as error:
        raise ConsentError(str(error)) from None
    if key is None:
        return ""
    if len(key) != _KEY_BYTES or not any(key):
        raise ConsentError(f"{path} is not a key")
    code = Mac(key).hex(b"exports\0" + os.fsencode(paths.root), 16)
    return f"{paths.state}/{NAME}-{code}"


def delete_early(paths: ProjectPaths) -> None:
    """Delete the log of exports before the first decision; `reset` deletes the other one.

    Raises:
        ConsentError: the key that names the log cannot be used.
        OSError: the log cannot be deleted.
    """
    path = early_path(paths)
    if path and any([private.remove(path), private.remove(f"{path}.head")]):
        private.sync_folder(os.path.dirname(path))


def destination_of(paths: ProjectPaths, path: str | None) -> str:
    """Return a destination relative to the project, else its name; `-` for stdout."""
    if path is None:
        return "-"
    full = os.path.realpath(path)
    root = paths.root.rstrip("/") + "/"
    return full.removeprefix(root) if full.startswith(root) else os.path.basename(full)


def append(
    paths: ProjectPaths,
    now: float,
    command: str,
    rows: int,
    sha256: str,
    destination: str,
    incomplete: bool = False,
) -> None:
    """Add an entry.

    Args:
        paths: the paths of the project.
        now: seconds since the epoch.
        command: the command, without paths.
        rows: the number of events.
        sha256: the SHA-256 of the export.
        destination: the result of `destination_of()`.
        incomplete: whether the export was interrupted.

    Raises:
        OSError: the entry cannot be written.
        ConsentError: the key that names the log cannot be used.
    """
    path = path_of(paths)
    private.make_folder(os.path.dirname(path))
    entry = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "command": command,
        "fields": _ALL,
        "rows": rows,
        "sha256": sha256,
        "destination": destination,
        **({"incomplete": True} if incomplete else {}),
    }
    fd = open_locked(path)
    try:
        size = os.fstat(fd).st_size
        end = os.pread(fd, _MAX_LINE_BYTES, max(size - _MAX_LINE_BYTES, 0))
        last = b"".join(end.splitlines(keepends=True)[-1:])
        head = next_head(path, fd, last)
        line = hash_chain.render(entry, head.pop("previous")) + b"\n"
        written = line if last.endswith(b"\n") or not last else b"\n" + line
        if os.write(fd, written) != len(written):
            raise OSError("short write")
        head["sha256"] = hash_chain.parse(line[:-1]).sha256
        atomic.replace(f"{path}.head", json.dumps(head).encode())
    finally:
        os.close(fd)


def open_locked(path: str) -> int:
    """Open the log and lock it, so that each of two exports at once names the one before.

    A log of the former format is rewritten.
    """
    while True:
        fd = private.open_own(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        try:
            os.fchmod(fd, 0o600)
            try:
                flock(fd, LOCK_EX)
            except OSError as error:
                if error.errno not in private.NO_LOCKS:
                    raise
            if os.path.samestat(os.fstat(fd), os.lstat(path)):
                with open(os.dup(fd), "rb") as file:
                    file.seek(0)
                    first = list(islice(lines_of(file), 1))
                    if first == list(hash_chain.upgraded(first, _PREVIOUS, _SHA256)):
                        return fd
                    file.seek(0)
                    atomic.replace(path, b"".join(b"%b\n" % line for line in upgraded(file)))
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def next_head(path: str, fd: int, last: bytes) -> dict[str, Any]:
    """Return the number of entries including the next one, and the SHA-256 that it must name.

    The number never decreases, so `audit` reports a deleted entry ever after.
    """
    link = hash_chain.parse(last.rstrip(b"\n")) if last else None
    previous = None if link is None else link.sha256
    head = read_head(path)
    if head is None:
        with open(os.dup(fd), "rb") as file:
            file.seek(0)
            count = sum(1 for _ in lines_of(file))
        # Without a head, earlier entries may be missing.
        return {"entries": count + 1, "uncounted": count, "previous": previous}
    uncounted = entries_after(head, link)
    if uncounted is None:
        uncounted, previous = 0, head["sha256"]
    return {**head, "entries": head["entries"] + 1 + uncounted, "previous": previous}


def read_head(path: str) -> dict[str, Any] | None:
    """Return the head of a log; None if it is missing or cannot be used."""
    try:
        found = json.loads(private.read(f"{path}.head", _MAX_HEAD_BYTES) or b"")
        if type(found["entries"]) is int and type(found["sha256"]) is str:
            return {"uncounted": 0, **found}
    except (TelemetryError, ValueError, TypeError, KeyError, RecursionError):
        pass
    return None


def entries_after(head: dict[str, Any], last: Link | None) -> int | None:
    """Return the number of entries after the one that the head names, in either format.

    Returns:
        0; 1 if the program was killed before it wrote the head; None if the head names neither
        the last entry nor the one before.
    """
    if last is None or last.entry is None:
        return None
    former = hashlib.sha256(json.dumps(last.entry).encode("ascii")).hexdigest()
    if head["sha256"] in (last.sha256, former):
        return 0
    return 1 if head["sha256"] in (last.previous, last.entry.get(_PREVIOUS)) else None


class ExportLog:
    """The entries of a project, oldest first; an iteration reads one at a time.

    After the iteration `count` is the number of entries, and `problems` has one sentence for
    each thing that is wrong.

    Args:
        paths: the paths of the project.
    """

    def __init__(self, paths: ProjectPaths) -> None:
        self.count = 0
        self.problems: list[str] = []
        self._paths = paths

    def __iter__(self) -> Iterator[dict[str, Any]]:
        try:
            # The project has a log from before the first decision, and one from after it.
            logs = [early_path(self._paths)]
            if projects.ProjectDirs.of(self._paths) is not None:
                logs.append(path_of(self._paths))
            for path in filter(None, logs):
                yield from self.entries_of(path)
        except TelemetryError as error:
            self.problems.append(f"the export log cannot be read: {error}")

    def entries_of(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the entries of one file; lines that cannot be read are left out."""
        last, first, damaged = None, self.count, 0
        for last, follows in hash_chain.follow(stored_lines(path)):
            self.count += 1
            if not last.is_intact or not follows:
                damaged += 1
                if damaged <= _MAX_LISTED:
                    missing = ", or one before it is missing" if last.is_intact else ""
                    self.problems.append(
                        f"entry {self.count} of the export log is not as it was written{missing}"
                    )
            if last.entry is not None:
                entry = dict(last.entry)
                entry.setdefault(_PREVIOUS, last.previous or "")
                entry.setdefault(_SHA256, last.sha256)
                if entry.get("fields") == _ALL:
                    entry["fields"] = list(FIELDS)
                yield entry
        if damaged > _MAX_LISTED:
            more = damaged - _MAX_LISTED
            is_or_are = "is" if more == 1 else "are"
            self.problems.append(f"so {is_or_are} {counted(more, 'more entry', 'more entries')}")
        self.problems += count_problems(path, self.count - first, last)


def count_problems(path: str, count: int, last: Link | None) -> list[str]:
    """Compare the entries of a file with its head, and return one sentence for each difference."""
    head = read_head(path)
    if head is None:
        return ["the export log may be incomplete: its entry count is missing"] if count else []
    problems = []
    if head["uncounted"]:
        problems.append(
            f"the first {counted(head['uncounted'], 'entry', 'entries')} of the export log may "
            "be incomplete: their count was missing"
        )
    uncounted = entries_after(head, last)
    missing = head["entries"] + (uncounted or 0) - count
    if missing > 0:
        entries = counted(missing, "entry of the export log is", "entries of the export log are")
        problems.append(f"{entries} missing")
    elif missing < 0 or uncounted is None:
        problems.append("the last entry of the export log is not the one that was written")
    return problems


def stored_lines(path: str) -> Iterator[bytes]:
    """Yield the lines of a file in the current format.

    Raises:
        TelemetryError: the file cannot be read.
    """
    fd = private.open_private(path)
    if fd is not None:
        with open(fd, "rb") as file:
            try:
                yield from upgraded(file)
            except OSError as error:
                why = private.name_of(error)
                raise ConsentError(f"{path} cannot be read ({why})") from None


def lines_of(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines without their ends; of a line that is too long only the first bytes."""
    is_start = True
    while piece := file.readline(_MAX_LINE_BYTES):
        if is_start:
            yield piece.removesuffix(b"\n")
        is_start = piece.endswith(b"\n")


def upgraded(file: BinaryIO) -> Iterator[bytes]:
    """Yield lines without their ends, those of the former format in the current one."""
    return hash_chain.upgraded(lines_of(file), _PREVIOUS, _SHA256)
