"""Declared names: the names of a project stored in plain text, each with an HMAC of ours.

A name is written before the first line that contains it. So `verify` can distinguish a declared
name without asking the program that declared it. Each line is `[kind,name,code]`. The code is
an HMAC under a key of the user's state directory, and a line without a valid one is ignored.
Values are never read here.
"""

from __future__ import annotations

import os

from telemetry_kit import settings
from telemetry_kit.errors import TelemetryError
from telemetry_kit.files import private
from telemetry_kit.privacy.projects import ProjectDirs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from telemetry_kit.paths import ProjectPaths

# Once the file is as long as this, further names are stored as pseudonyms.
MAX_BYTES = 1 << 20
# Several processes that append at once may exceed the limit by a line each.
_READ_BYTES = 2 * MAX_BYTES
CODE_CHARS = 16


class DeclaredNames:
    """The declared names of one project, or of a program in all projects, for the recorder.

    Args:
        dirs: the directories of the project or the app; None stores nothing.
        quote: makes a JSON string of a text.
        of_app: whether the directory may be missing, as that of an app is at first.
    """

    __slots__ = ("_dirs", "_is_full", "_lines", "_of_app", "_quote")

    def __init__(
        self, dirs: ProjectDirs | None, quote: Callable[[str], str], of_app: bool = False
    ) -> None:
        self._dirs = dirs
        self._quote = quote
        self._of_app = of_app
        self._lines: set[bytes] | None = None
        self._is_full = False

    def add(self, kind: str, name: str) -> None:
        """Write a name to the file, unless it is there.

        Args:
            kind: a vocabulary, `errors`, `versions`, `context`, or `context.KEY` for a token of
                that key.
            name: the name.

        Raises:
            OSError, UnsafeFileError: the name could not be written.
        """
        if self._dirs is None:
            return
        line = self._line(self._dirs, kind, name)
        if line not in self._known(self._dirs):
            if self._of_app:
                private.make_last_folder(self._dirs.state)
            if self._is_full or not _append(self._dirs.names, line + b"\n"):
                self._is_full = True
                raise OSError("the list of names is full")
            self._known(self._dirs).add(line)

    def has(self, kind: str, name: str) -> bool:
        """Whether the file contains a name.

        Raises:
            OSError, UnsafeFileError: the file could not be read.
        """
        dirs = self._dirs
        return dirs is not None and self._line(dirs, kind, name) in self._known(dirs)

    def _known(self, dirs: ProjectDirs) -> set[bytes]:
        if self._lines is None:
            self._lines = set((private.read(dirs.names, _READ_BYTES) or b"").split(b"\n"))
        return self._lines

    def _line(self, dirs: ProjectDirs, kind: str, name: str) -> bytes:
        body = f"[{self._quote(kind)},{self._quote(name)}".encode("ascii")
        return body + _end_of(dirs, body)


def _end_of(dirs: ProjectDirs, body: bytes) -> bytes:
    """The rest of a line after kind and name: the HMAC of both and of the project."""
    message = b"declared\0" + os.fsencode(dirs.name) + b"\0" + body
    return f',"{dirs.mac.hex(message, CODE_CHARS)}"]'.encode("ascii")


def _append(path: str, line: bytes) -> bool:
    """Append a line; returns False if the file has no space for it."""
    fd = private.open_own(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
    try:
        st = os.fstat(fd)
        if st.st_size + len(line) >= MAX_BYTES:
            return False
        if st.st_mode & 0o777 != 0o600:
            os.fchmod(fd, 0o600)
        if st.st_size and os.pread(fd, 1, st.st_size - 1) != b"\n":
            # End the fragment that a short write left, or this line would be part of it.
            line = b"\n" + line
        if os.write(fd, line) != len(line):
            raise OSError("short write")
    finally:
        os.close(fd)
    return True


def read(paths: ProjectPaths) -> dict[str, frozenset[str]]:
    """Read the declared names, by kind. Lines without a valid code are left out.

    Raises:
        UnsafeFileError: the file cannot be trusted.
        ConsentError: the directory key cannot be used.
    """
    dirs = ProjectDirs.of(paths)
    return {} if dirs is None else read_of(dirs)


def read_of(dirs: ProjectDirs) -> dict[str, frozenset[str]]:
    """The same for the directories of a project or of an app.

    Raises:
        UnsafeFileError: the file cannot be trusted.
    """
    found: dict[str, set[str]] = {}
    for _, _, entry in entries(dirs, private.read(dirs.names, _READ_BYTES) or b""):
        if entry is not None:
            found.setdefault(entry[0], set()).add(entry[1])
    return {kind: frozenset(names) for kind, names in found.items()}


def all_declared(paths: ProjectPaths, vocabulary: str) -> frozenset[str]:
    """Return the names that are built in, declared by program, project or user, or were once.

    Args:
        paths: the project's paths.
        vocabulary: one of `catalog.VOCABULARIES`.
    """
    found = set(settings.names_from_files(paths.naming_files)[vocabulary])
    try:
        found |= read(paths).get(vocabulary, frozenset())
    except TelemetryError:
        pass  # `verify` and `doctor` report it; the numbers can be shown without these names
    return settings.vocabulary(vocabulary, found)


def entries(dirs: ProjectDirs, data: bytes) -> Iterator[tuple[int, bytes, tuple[str, str] | None]]:
    """Split the file into lines: number, bytes, and kind and name if the code is valid.

    If a line was appended to the fragment of another one, both are returned.
    """
    import json  # deferred: only commands read the names
    import re  # deferred: as above

    # The quotation marks of these beginnings are escaped inside every name.
    begins = re.compile(rb'(?=\["(?:roles|agents|commands|workflows|errors|versions|context)["\.])')
    for number, joined in enumerate(data.split(b"\n"), 1):
        for line in filter(None, begins.split(joined)):
            body, end = line[: -CODE_CHARS - 4], line[-CODE_CHARS - 4 :]
            entry = None
            if end == _end_of(dirs, body):
                kind, name = json.loads(body + b"]")
                entry = (kind, name)
            yield number, line, entry
