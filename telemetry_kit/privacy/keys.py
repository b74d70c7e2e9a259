"""Keys, and the keyed hash of a name.

Without a key no name is hashed, so no event is written. There is no unkeyed hash. Keys are in
the user's state directory, never in a project.
"""

from __future__ import annotations

import os
import time

from telemetry_kit import _runtime
from telemetry_kit.errors import KeyUnavailableError, Refused
from telemetry_kit.files import private
from telemetry_kit.files.private import UnsafeFileError
from telemetry_kit.privacy.hmac_sha256 import Mac
from telemetry_kit.schema.validation import is_day

TYPE_CHECKING = False
if TYPE_CHECKING:
    from telemetry_kit.privacy.projects import ProjectDirs

KEY_BYTES = 32
ROTATION_DAYS = 28
_CACHE = 1_024


class Key:
    """One key, ready to make pseudonyms.

    Args:
        secret: 32 random bytes.
        epoch: how many keys there were up to this one.
        born: the day it was made, as `YYYY-MM-DD`; empty for a key that lives in memory only.
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
        """The code of a value as it is stored: `h:` and 12 hex digits.

        Args:
            field: so that equal texts in two fields differ.
            value: the text; compared after NFKC normalisation.

        Raises:
            Refused: it cannot be normalised now.
        """
        known = self._known.get((field, value))
        if known is not None:
            return known
        found = "h:" + self._code(field, value)
        if len(self._known) < _CACHE:
            self._known[field, value] = found
        return found

    def digits(self, field: str, value: str) -> str:
        """The same without the mark: 12 hex digits."""
        return self.pseudonym(field, value)[2:]

    def outside_id(self, field: str, value: str) -> str:
        """The 12 hex digits that stand for an id that another program gave."""
        return self._code(field, value, b"\xffoutside\0")

    def signature(self, field: str, value: str) -> str:
        """The 12 hex digits by which a child process knows an id that this library gave it."""
        return self._code(field, value, b"\xffenvironment\0")

    def _code(self, field: str, value: str, domain: bytes = b"") -> str:
        # deferred: a megabyte, and most names are ASCII; `Mac` finds it loaded
        if not value.isascii() and _runtime.load("unicodedata") is None:
            raise Refused("the text cannot be normalised now")
        return self._mac.code(field, value, domain)


def load(path: str) -> Key:
    """The key in force.

    Raises:
        KeyUnavailableError: it is missing, short, all zero, a link, not ours or readable by
            others; the file is left as it is.
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
    """Load the key of a project, or return None if there is no usable one.

    Args:
        dirs: the project's directories; None before the user's first decision.
    """
    if dirs is None:
        return None
    try:
        return load(dirs.key)
    except KeyUnavailableError:
        return None


def parse(data: bytes) -> Key:
    """The key in the bytes of a key file: `v1 EPOCH DAY HEX` on one line.

    Raises:
        KeyUnavailableError: it is anything else.
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
    """The bytes of a fresh key file."""
    return f"v1 {epoch} {day} {os.urandom(KEY_BYTES).hex()}\n".encode("ascii")


def is_old(key: Key, now: float) -> bool:
    """Whether a key has served its 28 days.

    Args:
        key: the key in force.
        now: seconds since the epoch.
    """
    limit = time.strftime("%Y-%m-%d", time.gmtime(now - ROTATION_DAYS * 86_400))
    return key.born <= limit


def replace(path: str, now: float, sync: bool = True) -> Key:
    """Put a fresh random key in the place of the one in force, which is gone with that.

    Args:
        path: the key file; made, with its folders, when there is none.
        now: seconds since the epoch.
        sync: also write to disk that the old one is gone; the recorder does without.

    Raises:
        OSError: nothing was replaced.
    """
    try:
        epoch = load(path).epoch + 1
    except KeyUnavailableError:
        epoch = 1
    data = render(epoch, time.strftime("%Y-%m-%d", time.gmtime(now)))
    private.replace(path, data, sync)
    return parse(data)


def create(path: str, now: float, sync: bool = True) -> bool:
    """Make the first key, unless there is one.

    Args:
        path: the key file; made with its folders.
        now: seconds since the epoch.
        sync: also write to disk that it is there; the recorder does without.

    Returns:
        Whether it was made now.

    Raises:
        OSError: none was made.
    """
    day = time.strftime("%Y-%m-%d", time.gmtime(now))
    return private.create(path, render(1, day), sync)


def renew_if_old(path: str, key: Key, now: float) -> Key:
    """The key to use from now on: a fresh one when `key` has served its 28 days.

    Two processes never make two keys of one epoch, where files can be locked: a process that does
    not get the lock keeps the old key.
    """
    if not is_old(key, now):
        return key
    import fcntl  # deferred: once in four weeks

    try:
        fd = os.open(
            os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
        )
    except OSError:
        return key
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Where files cannot be locked, a key that is never replaced would be worse.
            if error.errno not in private.NO_LOCKS:
                raise
        found = load(path)
        return replace(path, now, sync=False) if is_old(found, now) else found
    except OSError:
        return key
    finally:
        os.close(fd)
