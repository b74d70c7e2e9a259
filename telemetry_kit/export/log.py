"""The export log: which events were exported, when, in which format, and to which destination.

It is a hash chain in the user's own state folder, readable by this user only. A file beside it
holds the number of entries and the SHA-256 of the last one. It holds no path of a home
directory: a destination is relative to the project, or a name alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from fcntl import LOCK_EX, flock
from itertools import islice
from typing import Any, BinaryIO

from telemetry_kit.errors import ConsentError, TelemetryError
from telemetry_kit.files import atomic, hash_chain, private
from telemetry_kit.files.hash_chain import Link
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.privacy import projects
from telemetry_kit.privacy.hmac_sha256 import Mac
from telemetry_kit.schema import catalog

NAME = "exports.jsonl"
# Every field that there is, and what the seed's original also had.
FIELDS = (*catalog.ORDER, "metadata")
_ALL = f"all of {catalog.SCHEMA_VERSION}"
# Keys of the former form, and of entries as they are shown.
_PREVIOUS, _SHA256 = "previous", "entry_sha256"
_MAX_LINE_BYTES = 1 << 16
_MAX_HEAD_BYTES = 1 << 10
_KEY_BYTES = 32
_MAX_TOLD = 10


# -- where -------------------------------------------------------------------------------------


def path_of(home: ProjectPaths) -> str:
    """Where the next entry of a project goes.

    Raises:
        ConsentError: a key by which the place is named cannot be used.
        OSError: there is none, and it could not be made.
    """
    dirs = projects.ProjectDirs.of(home)
    return _before(home, make=True) if dirs is None else f"{dirs.state}/{NAME}"


def _paths(home: ProjectPaths) -> list[str]:
    """Where entries of a project may be: from before the first decision, and from after it."""
    dirs = projects.ProjectDirs.of(home)
    found = [_before(home), "" if dirs is None else f"{dirs.state}/{NAME}"]
    return [path for path in found if path]


def _before(home: ProjectPaths, make: bool = False) -> str:
    """The ledger of a project from before any decision; empty where nothing was exported then.

    It has a key of its own: the one that names a project's folders is made by a decision only.
    """
    path = f"{home.state}/{NAME}.key"
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
    code = Mac(key).hex(b"exports\0" + os.fsencode(home.root), 16)
    return f"{home.state}/{NAME}-{code}"


def forget(home: ProjectPaths) -> None:
    """Delete what was noted before the first decision; the rest goes with the decisions.

    Raises:
        ConsentError: the key by which the place is named cannot be used.
        OSError: it could not be deleted.
    """
    path = _before(home)
    if path:
        gone = [private.remove(name) for name in (path, f"{path}.head")]
        if any(gone):
            private.sync_folder(os.path.dirname(path))


def destination_of(home: ProjectPaths, path: str | None) -> str:
    """How a destination is told: relative to the project, else its name; `-` for stdout."""
    if path is None:
        return "-"
    full = os.path.realpath(path)
    root = home.root.rstrip("/") + "/"
    return full.removeprefix(root) if full.startswith(root) else os.path.basename(full)


# -- writing -----------------------------------------------------------------------------------


def note(
    home: ProjectPaths,
    now: float,
    command: str,
    fields: Sequence[str],
    rows: int,
    sha256: str,
    destination: str,
    incomplete: bool = False,
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
        incomplete: whether it was cut short.

    Raises:
        OSError: it could not be written.
        ConsentError: a key by which the place is named cannot be used.
    """
    path = path_of(home)
    private.make_folder(os.path.dirname(path))
    entry = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
        "command": command,
        "fields": _ALL if tuple(fields) == FIELDS else list(fields),
        "rows": rows,
        "sha256": sha256,
        "destination": destination,
        **({"incomplete": True} if incomplete else {}),
    }
    fd = _opened(path)
    try:
        last = _last_line(fd)
        head = _next_head(path, fd, last)
        # Of what was written, should that have been altered since.
        line = hash_chain.render(entry, head.pop("previous"))
        begin = b"" if last.endswith(b"\n") or not last else b"\n"
        if os.write(fd, begin + line + b"\n") != len(begin + line) + 1:
            raise OSError("short write")
        head["sha256"] = hash_chain.parse(line).sha256
        atomic.replace(f"{path}.head", json.dumps(head).encode())
    finally:
        os.close(fd)


def _opened(path: str) -> int:
    """The ledger, open and locked: two exports at once name each the one that is really before.

    One of the former form is written anew.
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
                upgraded = _upgraded(fd)
                if upgraded is None:
                    return fd
                atomic.replace(path, upgraded)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def _upgraded(fd: int) -> bytes | None:
    """All of a ledger of the former form as it is in this one; None of one that has it."""
    with open(os.dup(fd), "rb") as file:
        file.seek(0)
        first = list(islice(_lines(file), 1))
        file.seek(0)
        if first == list(hash_chain.upgraded(first, _PREVIOUS, _SHA256)):
            return None
        return b"".join(b"%b\n" % line for line in _current(file))


def _next_head(path: str, fd: int, last: bytes) -> dict[str, Any]:
    """How many entries there are with the next one, and the SHA-256 of the one before it.

    What was counted once stays counted: an entry that is gone is missed for ever.
    """
    link = hash_chain.parse(last.rstrip(b"\n")) if last else None
    previous = None if link is None else link.sha256
    head = _head(path)
    if head is None:
        with open(os.dup(fd), "rb") as file:
            file.seek(0)
            count = sum(1 for _ in _lines(file))
        # Without a count nobody can tell whether all of those before are there.
        return {"entries": count + 1, "uncounted": count, "previous": previous}
    behind = _behind(head, link)
    if behind is None:
        behind, previous = 0, head["sha256"]
    return {**head, "entries": head["entries"] + 1 + behind, "previous": previous}


def _head(path: str) -> dict[str, Any] | None:
    try:
        found = json.loads(private.read(f"{path}.head", _MAX_HEAD_BYTES) or b"")
        if type(found["entries"]) is int and type(found["sha256"]) is str:
            return {"uncounted": 0, **found}
    except (TelemetryError, ValueError, TypeError, KeyError, RecursionError):
        pass
    return None


def _behind(head: dict[str, Any], last: Link | None) -> int | None:
    """How many entries stand behind the one that is named beside the ledger, in either form.

    Returns:
        0; 1 where the program was killed before it counted the last one; None where neither that
        nor the one before it is named.
    """
    if last is None or last.entry is None:
        return None
    former = hashlib.sha256(json.dumps(last.entry).encode("ascii")).hexdigest()
    if head["sha256"] in (last.sha256, former):
        return 0
    return 1 if head["sha256"] in (last.previous, last.entry.get(_PREVIOUS)) else None


# -- reading -----------------------------------------------------------------------------------


def read(home: ProjectPaths, wrong: list[str]) -> Iterator[dict[str, Any]]:
    """The entries, oldest first, one at a time; lines that cannot be read are left out.

    Args:
        home: the project's places.
        wrong: filled with what is wrong, one sentence each.

    Raises:
        ConsentError: the ledger cannot be read at all.
    """
    number = 0
    for path in _paths(home):
        last, first, told = None, number, 0
        for last, follows in hash_chain.follow(_stored(path)):
            number += 1
            if not last.is_intact or not follows:
                told += 1
                if told <= _MAX_TOLD:
                    gone = ", or one before it is gone" if last.is_intact else ""
                    wrong.append(f"entry {number} of the exports is not as it was written{gone}")
            if last.entry is not None:
                yield _fields_of(last)
        if told > _MAX_TOLD:
            wrong.append(f"so are {told - _MAX_TOLD:,} more of them")
        wrong += _miscounted(path, number - first, last)


def _fields_of(link: Link) -> dict[str, Any]:
    """An entry with the SHA-256 of the one before and its own."""
    fields = dict(link.entry or {})
    fields.setdefault(_PREVIOUS, link.previous or "")
    fields.setdefault(_SHA256, link.sha256)
    if fields.get("fields") == _ALL:
        fields["fields"] = list(FIELDS)
    return fields


def _miscounted(path: str, count: int, last: Link | None) -> list[str]:
    """What the file beside a ledger says against it."""
    head = _head(path)
    if head is None:
        told = "how many exports there were cannot be told: the count beside the ledger is gone"
        return [told] if count else []
    wrong = []
    if head["uncounted"]:
        wrong.append(
            f"whether the first {head['uncounted']:,} entries of the exports are all there were "
            "cannot be told: the count beside the ledger was gone"
        )
    behind = _behind(head, last)
    gone = head["entries"] + (behind or 0) - count
    if gone > 0:
        them = "entry of the exports is" if gone == 1 else "entries of the exports are"
        wrong.append(f"{gone:,} {them} gone")
    elif gone < 0 or behind is None:
        wrong.append("the last entry of the exports is not the one that was written")
    return wrong


def _stored(path: str) -> Iterator[bytes]:
    try:
        fd = private.open_private(path)
        if fd is not None:
            with open(fd, "rb") as file:
                yield from _current(file)
    except private.UnsafeFileError as error:
        raise ConsentError(f"the ledger of exports cannot be read: {error}") from None
    except OSError as error:
        why = f"{path} cannot be read ({private.name_of(error)})"
        raise ConsentError(f"the ledger of exports cannot be read: {why}") from None


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines without their ends; of one that is too long only the first bytes."""
    whole = True
    while piece := file.readline(_MAX_LINE_BYTES):
        if whole:
            yield piece.removesuffix(b"\n")
        whole = piece.endswith(b"\n")


def _current(file: BinaryIO) -> Iterator[bytes]:
    """The same; those of the former form as they are in this one."""
    return hash_chain.upgraded(_lines(file), _PREVIOUS, _SHA256)


def _last_line(fd: int) -> bytes:
    """The last line, with its end where it has one."""
    size = os.fstat(fd).st_size
    end = os.pread(fd, _MAX_LINE_BYTES, max(size - _MAX_LINE_BYTES, 0))
    return b"".join(end.splitlines(keepends=True)[-1:])
