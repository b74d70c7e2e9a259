"""The names ledger: which names of a project have been kept in clear, in the user's own folder.

Written before the first line that holds such a name, so that `verify` can tell a declared name
from anything else without asking the program that declared it. Values are never looked at here.
"""

from __future__ import annotations

import os

from telemetry_kit import private

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from telemetry_kit.home import Home

MAX_BYTES = 4 << 20
NAME = "names"


class Ledger:
    """The ledger of one project, as the recorder uses it.

    Args:
        path: the file; None keeps nothing.
        quote: makes a JSON string of a text.
    """

    __slots__ = ("_noted", "_path", "_quote")

    def __init__(self, path: str | None, quote: Callable[[str], str]) -> None:
        self._path = path
        self._quote = quote
        self._noted: set[str] | None = None if path is not None else set()

    def note(self, kind: str, name: str) -> None:
        """Make sure that a name is in the ledger.

        Args:
            kind: a vocabulary, `errors`, `context`, or `context.KEY` for a token of that key.
            name: the name.

        Raises:
            OSError, NotPrivateError: it is not, and cannot be put there.
        """
        if self._path is None:
            return
        line = f"[{self._quote(kind)},{self._quote(name)}]"
        noted = self._noted
        if noted is None:
            data = private.read(self._path, MAX_BYTES) or b""
            noted = self._noted = set(data.decode("ascii", "replace").splitlines())
        if line not in noted:
            _append(self._path, f"{line}\n".encode("ascii"))
            noted.add(line)


def _append(path: str, line: bytes) -> None:
    fd = private.open_for_writing(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        if os.fstat(fd).st_mode & 0o777 != 0o600:
            os.fchmod(fd, 0o600)
        if os.write(fd, line) != len(line):
            raise OSError("short write")
    finally:
        os.close(fd)


def path_of(home: Home, place: str) -> str:
    """Where the ledger of a project is."""
    return f"{home.state}/projects/{place}/{NAME}"


def read(home: Home) -> dict[str, frozenset[str]]:
    """The names in the ledger, by kind; lines that cannot be read are left out.

    Args:
        home: the project's places.

    Raises:
        NotPrivateError: the file cannot be trusted.
        ConsentError: the place key cannot be used.
    """
    import json  # deferred: only commands read it as a whole

    from telemetry_kit import consent  # deferred: as above

    place = consent.place_of(home)
    if place is None:
        return {}
    found: dict[str, set[str]] = {}
    for line in (private.read(path_of(home, place), MAX_BYTES) or b"").splitlines():
        try:
            kind, name = json.loads(line)
            found.setdefault(str(kind), set()).add(str(name))
        except (ValueError, TypeError, RecursionError):
            continue
    return {kind: frozenset(names) for kind, names in found.items()}
