"""The ledger of exports: what left the journal, when, in which form, and where it went.

One JSON line each, in the user's own state folder, readable by this user only. Each entry ends
with its own SHA-256 and names that of the line before; how many there are, and the last one's
SHA-256, stand in a file beside it. No path of a home directory is in it: a destination is told
relative to the project, or by its name alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Iterator, Sequence
from fcntl import LOCK_EX, flock
from typing import Any, BinaryIO

from telemetry_kit import catalog, private, projects
from telemetry_kit.errors import ConsentError, TelemetryError
from telemetry_kit.home import Home
from telemetry_kit.mac import Mac

NAME = "exports.jsonl"
# Every field that there is, and what the seed's original also had.
FIELDS = (*catalog.ORDER, "metadata")
_ALL = f"all of {catalog.SCHEMA_VERSION}"
_SEAL = ', "entry_sha256": "{}"}}'
_MAX_LINE_BYTES = 1 << 16
_MAX_HEAD_BYTES = 1 << 10
_KEY_BYTES = 32
_MAX_TOLD = 10


# -- where -------------------------------------------------------------------------------------


def path_of(home: Home) -> str:
    """Where the next entry of a project goes.

    Raises:
        ConsentError: a key by which the place is named cannot be used.
        OSError: there is none, and it could not be made.
    """
    place = projects.place_of(home)
    return _before(home, make=True) if place is None else _path(home, place)


def _paths(home: Home) -> list[str]:
    """Where entries of a project may be: from before the first decision, and from after it."""
    place = projects.place_of(home)
    found = [_before(home), "" if place is None else _path(home, place)]
    return [path for path in found if path]


def _path(home: Home, place: str) -> str:
    return f"{home.state}/projects/{place}/{NAME}"


def _before(home: Home, make: bool = False) -> str:
    """The ledger of a project from before any decision; empty where nothing was exported then.

    It has a key of its own: the one that names a project's folders is made by a decision only.
    """
    path = f"{home.state}/{NAME}.key"
    try:
        if make:
            private.create(path, os.urandom(_KEY_BYTES))
        key = private.read(path, _KEY_BYTES)
    except private.NotPrivateError as error:
        raise ConsentError(str(error)) from None
    if key is None:
        return ""
    if len(key) != _KEY_BYTES or not any(key):
        raise ConsentError(f"{path} is not a key")
    code = Mac(key).hex(b"exports\0" + os.fsencode(home.root), 16)
    return f"{home.state}/{NAME}-{code}"


def forget(home: Home) -> None:
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


def destination_of(home: Home, path: str | None) -> str:
    """How a destination is told: relative to the project, else its name; `-` for stdout."""
    if path is None:
        return "-"
    full = os.path.realpath(path)
    root = home.root.rstrip("/") + "/"
    return full.removeprefix(root) if full.startswith(root) else os.path.basename(full)


# -- writing -----------------------------------------------------------------------------------


def note(
    home: Home,
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
    fd = private.open_for_writing(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        os.fchmod(fd, 0o600)
        # Two exports at once: each entry names the one that is really before it.
        try:
            flock(fd, LOCK_EX)
        except OSError as error:
            if error.errno not in private.NO_LOCKS:
                raise
        last = _last_line(fd)
        head = _next_head(path, fd, last)
        entry = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now)),
            "command": command,
            "fields": _ALL if tuple(fields) == FIELDS else list(fields),
            "rows": rows,
            "sha256": sha256,
            "destination": destination,
            **({"incomplete": True} if incomplete else {}),
            # Of what was written, should that have been altered since.
            "previous": head.pop("previous"),
        }
        begin = b"" if last.endswith(b"\n") or not last else b"\n"
        line = _sealed(entry)
        if os.write(fd, begin + line + b"\n") != len(begin + line) + 1:
            raise OSError("short write")
        private.replace(f"{path}.head", json.dumps({**head, "sha256": _code(line)}).encode())
    finally:
        os.close(fd)


def _next_head(path: str, fd: int, last: bytes) -> dict[str, Any]:
    """How many entries there are with the next one, and the code of the one before it.

    What was counted once stays counted: an entry that is gone is missed for ever.
    """
    head = _head(path)
    if head is None:
        with open(os.dup(fd), "rb") as file:
            file.seek(0)
            count = sum(1 for _ in _lines(file))
        # Without a count nobody can tell whether all of those before are there.
        return {"entries": count + 1, "uncounted": count, "previous": _code(last)}
    # Killed between the two writes: one entry is not counted yet.
    late = head["sha256"] != _code(last) and _says(last, "previous") == head["sha256"]
    previous = _code(last) if late else head["sha256"]
    return {**head, "entries": head["entries"] + 1 + late, "previous": previous}


def _head(path: str) -> dict[str, Any] | None:
    try:
        found = json.loads(private.read(f"{path}.head", _MAX_HEAD_BYTES) or b"")
        if type(found["entries"]) is int and type(found["sha256"]) is str:
            return {"uncounted": 0, **found}
    except (TelemetryError, ValueError, TypeError, KeyError, RecursionError):
        pass
    return None


def _sealed(entry: dict[str, Any]) -> bytes:
    body = json.dumps(entry)
    return f"{body[:-1]}{_SEAL.format(_code(body.encode('ascii')))}".encode("ascii")


def _is_sealed(line: bytes) -> bool:
    body = line[: -len(_SEAL.format("0" * 64))] + b"}"
    return line == body[:-1] + _SEAL.format(_code(body)).encode()


# -- reading -----------------------------------------------------------------------------------


def read(home: Home) -> list[dict[str, Any]]:
    """The entries, oldest first; lines that cannot be read are left out.

    Args:
        home: the project's places.

    Raises:
        ConsentError: the ledger cannot be read at all.
    """
    return list(walk(home, []))


def broken(home: Home) -> list[str]:
    """What is wrong with the ledger, one sentence each.

    Args:
        home: the project's places.

    Raises:
        ConsentError: the ledger cannot be read at all.
    """
    wrong: list[str] = []
    for _ in walk(home, wrong):
        continue
    return wrong


def walk(home: Home, wrong: list[str]) -> Iterator[dict[str, Any]]:
    """The entries, oldest first, one at a time; lines that cannot be read are left out.

    Args:
        home: the project's places.
        wrong: filled with what is wrong, one sentence each.

    Raises:
        ConsentError: the ledger cannot be read at all.
    """
    number = 0
    for path in _paths(home):
        before, first, doubted, told = b"", number, False, 0
        for line in _stored(path):
            number += 1
            entry = _entry(line)
            is_whole = entry is not None and _is_sealed(line)
            follows = doubted or (entry or {}).get("previous") == _code(before)
            if not is_whole or not follows:
                told += 1
                if told <= _MAX_TOLD:
                    gone = ", or one before it is gone" if is_whole else ""
                    wrong.append(f"entry {number} of the exports is not as it was written{gone}")
            before, doubted = line, not is_whole
            if entry is not None:
                yield entry
        if told > _MAX_TOLD:
            wrong.append(f"so are {told - _MAX_TOLD:,} more of them")
        wrong += _miscounted(path, number - first, before)


def _miscounted(path: str, count: int, last: bytes) -> list[str]:
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
    late = head["sha256"] != _code(last) and _says(last, "previous") == head["sha256"]
    gone = head["entries"] + late - count
    if gone > 0:
        them = "entry of the exports is" if gone == 1 else "entries of the exports are"
        wrong.append(f"{gone:,} {them} gone")
    elif gone < 0 or (head["sha256"] != _code(last) and not late):
        wrong.append("the last entry of the exports is not the one that was written")
    return wrong


def _stored(path: str) -> Iterator[bytes]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unreadable(path, f"cannot be opened ({private.name_of(error)})") from None
    st = os.fstat(fd)
    if not stat.S_ISREG(st.st_mode) or st.st_uid != os.geteuid():
        os.close(fd)
        raise _unreadable(path, "is not a plain file of yours")
    with open(fd, "rb") as file:
        if st.st_mode & 0o077:
            raise _unreadable(path, f"is open to others (mode {st.st_mode & 0o777:04o})")
        try:
            yield from _lines(file)
        except OSError as error:
            raise _unreadable(path, f"cannot be read ({private.name_of(error)})") from None


def _unreadable(path: str, why: str) -> ConsentError:
    return ConsentError(f"the ledger of exports cannot be read: {path} {why}")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines without their ends; of one that is too long only the first bytes."""
    whole = True
    while piece := file.readline(_MAX_LINE_BYTES):
        if whole:
            yield piece.removesuffix(b"\n")
        whole = piece.endswith(b"\n")


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    if entry.get("fields") == _ALL:
        entry["fields"] = list(FIELDS)
    return entry


def _says(line: bytes, key: str) -> Any:
    return (_entry(line) or {}).get(key)


def _last_line(fd: int) -> bytes:
    """The last line, with its end where it has one."""
    size = os.fstat(fd).st_size
    end = os.pread(fd, _MAX_LINE_BYTES, max(size - _MAX_LINE_BYTES, 0))
    return b"".join(end.splitlines(keepends=True)[-1:])


def _code(line: bytes) -> str:
    return hashlib.sha256(line.rstrip(b"\n")).hexdigest() if line else ""
