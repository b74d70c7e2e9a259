"""Keys, and the keyed hash of a name.

Without a key no name is hashed, so no event is written. There is no unkeyed hash. Keys are in
the user's state directory, never in a project.
"""

from __future__ import annotations

import os
import time

from telemetry_kit import _runtime
from telemetry_kit.errors import KeyUnavailableError, Refused, TelemetryError
from telemetry_kit.files import private
from telemetry_kit.files.private import UnsafeFileError
from telemetry_kit.privacy import projects
from telemetry_kit.privacy.hmac_sha256 import Mac
from telemetry_kit.schema.catalog import PSEUDONYM_PREFIX
from telemetry_kit.schema.validation import is_day

TYPE_CHECKING = False
if TYPE_CHECKING:
    from telemetry_kit.paths import ProjectPaths
    from telemetry_kit.privacy.projects import ProjectDirs

KEY_BYTES = 32
ROTATION_DAYS = 28
_CACHE = 1_024


class Key:
    """One key, ready to make pseudonyms.

    Args:
        secret: 32 random bytes.
        epoch: the number of this key; the first one is 1.
        born: the day when it was made, as `YYYY-MM-DD`; empty for a key in memory.
    """

    __slots__ = ("_known", "_mac", "_secret", "born", "epoch")

    def __init__(self, secret: bytes, epoch: int, born: str = "") -> None:
        self._secret = secret
        self._mac = Mac(secret)
        self._known: dict[tuple[str, str], str] = {}
        self.epoch = epoch
        self.born = born

    def equals(self, other: Key) -> bool:
        """Whether both make the same pseudonyms."""
        return self._secret == other._secret and self.epoch == other.epoch

    def pseudonym(self, field: str, value: str) -> str:
        """The pseudonym of a value: `h:` and 12 hex digits.

        Args:
            field: equal texts in two fields have different pseudonyms.
            value: the text, which is normalised (NFKC) first.

        Raises:
            Refused: it cannot be normalised at this moment.
        """
        known = self._known.get((field, value))
        if known is not None:
            return known
        found = "h:" + self._code(field, value)
        if len(self._known) < _CACHE:
            self._known[field, value] = found
        return found

    def project_id(self, paths: ProjectPaths) -> str | None:
        """The pseudonym of a project; None in user scope, where events belong to no project."""
        return None if paths.is_user_scope else self.pseudonym("project_id", paths.root)

    def digits(self, field: str, value: str) -> str:
        """The 12 hex digits of the pseudonym."""
        return self.pseudonym(field, value)[2:]

    def outside_id(self, field: str, value: str) -> str:
        """The 12 hex digits that replace an id of another program."""
        return self._code(field, value, b"\xffoutside\0")

    def signature(self, field: str, value: str) -> str:
        """The 12 hex digits that prove to a child process that an id is from this library."""
        return self._code(field, value, b"\xffenvironment\0")

    def _code(self, field: str, value: str, domain: bytes = b"") -> str:
        # deferred: a megabyte, and most names are ASCII; `Mac` finds it loaded
        if not value.isascii() and _runtime.load("unicodedata") is None:
            raise Refused("the text cannot be normalised now")
        return self._mac.code(field, value, domain)


def load(path: str) -> Key:
    """Load a key.

    Raises:
        KeyUnavailableError: the file is missing, short, all zero, a link, of another user or
            readable by others. It is not changed.
    """
    try:
        data = private.read(path, 512)
    except UnsafeFileError as error:
        remedy = private.remedy(path)
        raise KeyUnavailableError(f"{error}{': ' * bool(remedy)}{remedy}") from None
    if data is None:
        raise KeyUnavailableError("there is no key")
    return parse(data)


def current(dirs: ProjectDirs | None) -> Key | None:
    """Load the key of a project, or return None if there is no usable one."""
    try:
        return None if dirs is None else load(dirs.key)
    except KeyUnavailableError:
        return None


def stored_forms(paths: ProjectPaths, field: str, name: str) -> frozenset[str]:
    """Return the forms in which a name may be stored: plain text and the key's pseudonym.

    If an export of this project is imported, the pseudonym of a pseudonym is stored. Pseudonyms of
    deleted keys are unknown.

    Args:
        paths: the project's paths.
        field: one of `catalog.NAMES`.
        name: the name in plain text, or a pseudonym.
    """
    try:
        dirs = projects.ProjectDirs.of(paths)
        if dirs is None or name.startswith(PSEUDONYM_PREFIX):
            return frozenset((name,))
        key = load(dirs.key)
        code = key.pseudonym(field, name)
        return frozenset((name, code, key.pseudonym(field, code)))
    except (TelemetryError, UnicodeError):
        return frozenset((name,))


def parse(data: bytes) -> Key:
    """Parse the bytes of a key file: `v1 EPOCH DAY HEX` on one line.

    Raises:
        KeyUnavailableError: the bytes are anything else.
    """
    words = data.split()
    try:
        version, epoch, born, digits = words
        secret = bytes.fromhex(digits.decode("ascii"))
        number = int(epoch)
    except ValueError:
        raise KeyUnavailableError("the key file is damaged") from None
    day = born.decode("ascii", "replace")
    whole = len(secret) == KEY_BYTES and any(secret) and number >= 1 and is_day(day)
    if version != b"v1" or not whole:
        raise KeyUnavailableError("the key file is damaged")
    return Key(secret, number, day)


def render(epoch: int, day: str) -> bytes:
    """The bytes of a key file with a random key."""
    return f"v1 {epoch} {day} {os.urandom(KEY_BYTES).hex()}\n".encode("ascii")


def day_of(now: float) -> str:
    """The day of a time in seconds since the epoch, as `YYYY-MM-DD`."""
    return time.strftime("%Y-%m-%d", time.gmtime(now))


def is_old(key: Key, now: float) -> bool:
    """Whether a key is at least 28 days old."""
    return key.born <= day_of(now - ROTATION_DAYS * 86_400)


def replace(path: str, now: float, sync: bool = True) -> Key:
    """Replace a key with a random one; with `sync`, wait until the old one is deleted on disk.

    Raises:
        OSError: the key was not replaced.
    """
    try:
        epoch = load(path).epoch + 1
    except KeyUnavailableError:
        epoch = 1
    data = render(epoch, day_of(now))
    projects.load_atomic().replace(path, data, sync)
    return parse(data)


def create(path: str, now: float, sync: bool = True) -> bool:
    """Make the first key; with `sync`, wait until it is on disk.

    Returns:
        Whether it was made, and did not exist before.

    Raises:
        OSError: the key could not be made.
    """
    created: bool = projects.load_atomic().create(path, render(1, day_of(now)), sync)
    return created


def renew_if_old(path: str, key: Key, now: float) -> Key:
    """Return `key`, or replace it if it is 28 days old.

    If another process holds the lock, this one uses the old key. So two processes never make two
    keys of one epoch, if the file system supports locks.
    """
    if not is_old(key, now):
        return key
    import fcntl  # deferred: once in four weeks

    try:
        fd = private.open_folder(os.path.dirname(path))
    except OSError:
        return key
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Without locks, a key that is never replaced would be worse than two of one epoch.
            if error.errno not in private.NO_LOCKS:
                raise
        found = load(path)
        return replace(path, now, sync=False) if is_old(found, now) else found
    except OSError:
        return key
    finally:
        os.close(fd)
