"""Declared names: the names of a project stored in plain text, each with an HMAC of ours.

A name is written before the first line that contains it. So `verify` can distinguish a declared
name without asking the program that declared it. Each line is `[kind,name,code]`. The code is
an HMAC under a key of the user's state directory, and a line without a valid one is ignored.
Values are never read here.
"""

from __future__ import annotations

import os

from telemetry_kit.files import private
from telemetry_kit.privacy import projects
from telemetry_kit.privacy.hmac_sha256 import Mac

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from telemetry_kit.paths import ProjectPaths

# Where this is reached, further names are stored as pseudonyms.
MAX_BYTES = 1 << 20
# Several processes that append at once may pass the limit by a line each.
_READ_BYTES = 2 * MAX_BYTES
NAME = "names"
CODE_CHARS = 16
_KEY_BYTES = 32


class DeclaredNames:
    """The ledger of one project, as the recorder uses it.

    Args:
        path: the file; None keeps nothing.
        quote: makes a JSON string of a text.
        key_path: the file with the key of the codes.
    """

    __slots__ = ("_full", "_key_path", "_mac", "_noted", "_path", "_quote")

    def __init__(self, path: str | None, quote: Callable[[str], str], key_path: str = "") -> None:
        self._path = path
        self._quote = quote
        self._key_path = key_path
        self._mac: Mac | None = None
        self._noted: set[bytes] = set()
        self._full = False

    def add(self, kind: str, name: str) -> None:
        """Make sure that a name is in the ledger.

        Args:
            kind: a vocabulary, `errors`, `context`, or `context.KEY` for a token of that key.
            name: the name.

        Raises:
            OSError, UnsafeFileError: it is not, and cannot be put there.
        """
        if self._path is None:
            return
        if self._mac is None:
            mac = _mac(self._key_path)
            data = private.read(self._path, _READ_BYTES) or b""
            self._noted, self._mac = set(data.split(b"\n")), mac
        body = f"[{self._quote(kind)},{self._quote(name)}".encode("ascii")
        line = body + _end_of(self._mac, self._path, body)
        if line not in self._noted:
            if self._full or not _append(self._path, line + b"\n"):
                self._full = True
                raise OSError("the list of names is full")
            self._noted.add(line)


def _mac(key_path: str) -> Mac:
    key = private.read(key_path, _KEY_BYTES)
    if key is None or len(key) != _KEY_BYTES or not any(key):
        raise private.UnsafeFileError(f"{key_path} is not a key")
    return Mac(key)


def _end_of(mac: Mac, path: str, body: bytes) -> bytes:
    """What follows kind and name in a line: the code that ties both to the key and the project."""
    place = os.path.basename(os.path.dirname(path))
    message = b"declared\0" + os.fsencode(place) + b"\0" + body
    return f',"{mac.hex(message, CODE_CHARS)}"]'.encode("ascii")


def _append(path: str, line: bytes) -> bool:
    """Add a line; False where the list has no space for it."""
    fd = private.open_for_writing(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        st = os.fstat(fd)
        if st.st_size + len(line) >= MAX_BYTES:
            return False
        if st.st_mode & 0o777 != 0o600:
            os.fchmod(fd, 0o600)
        if st.st_size and os.pread(fd, 1, st.st_size - 1) != b"\n":
            # A short write left a fragment, which must not take this line along.
            line = b"\n" + line
        if os.write(fd, line) != len(line):
            raise OSError("short write")
    finally:
        os.close(fd)
    return True


def path_of(home: ProjectPaths, place: str) -> str:
    """Where the ledger of a project is."""
    return f"{home.state}/projects/{place}/{NAME}"


def read(home: ProjectPaths) -> dict[str, frozenset[str]]:
    """The names in the ledger, by kind; lines without a valid code are left out.

    Args:
        home: the project's places.

    Raises:
        UnsafeFileError: the file cannot be trusted.
        ConsentError: the place key cannot be used.
    """
    place = projects.place_of(home)
    if place is None:
        return {}
    found: dict[str, set[str]] = {}
    data = private.read(path_of(home, place), _READ_BYTES) or b""
    for _, _, entry in entries(home, place, data):
        if entry is not None:
            found.setdefault(entry[0], set()).add(entry[1])
    return {kind: frozenset(names) for kind, names in found.items()}


def entries(
    home: ProjectPaths, place: str, data: bytes
) -> Iterator[tuple[int, bytes, tuple[str, str] | None]]:
    """The lines of a ledger: number, bytes, and kind and name where the code is valid.

    A line that was appended to the fragment of another one comes apart from it.

    Args:
        home: the project's places.
        place: the name of the project's folder.
        data: the bytes of the ledger.

    Raises:
        UnsafeFileError: the place key cannot be used.
    """
    import json  # deferred: only commands read a ledger
    import re  # deferred: as above

    mac, path = _mac(home.place_key), path_of(home, place)
    # The quotes of these beginnings are escaped inside every name.
    begins = re.compile(rb'(?=\["(?:roles|agents|commands|workflows|errors|context)["\.])')
    for number, whole in enumerate(data.split(b"\n"), 1):
        for line in filter(None, begins.split(whole)):
            body, end = line[: -CODE_CHARS - 4], line[-CODE_CHARS - 4 :]
            entry = None
            if end == _end_of(mac, path, body):
                kind, name = json.loads(body + b"]")
                entry = (kind, name)
            yield number, line, entry
