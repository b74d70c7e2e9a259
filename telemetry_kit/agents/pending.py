"""What is running now: one small file for each command and sub-agent that has started.

The file gives the end of each its duration, and makes that it ends once. It is in the project's
directory in the user's state directory, and is deleted at the end or after a day. Its name has the
pseudonyms of session and span. Its content is a reading of the system's monotonic clock and the
names as they are stored in events.
"""

from __future__ import annotations

import fcntl
import os

from telemetry_kit._runtime import runtime
from telemetry_kit.errors import Refused, TelemetryError
from telemetry_kit.files import private
from telemetry_kit.privacy.projects import PENDING, pending_names

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Fields of events, each as it is stored.
    Fields = dict[str, str]

DAY_SECONDS = 86_400
_MAX_BYTES = 4_096


class Entry:
    """One command or sub-agent that is running.

    Args:
        folder: the project's directory in the user's state directory.
        name: the name of the file.
    """

    __slots__ = ("_fd", "_path", "kind", "name", "session", "span")

    def __init__(self, folder: str, name: str) -> None:
        self.name = name
        self._path = f"{folder}/{name}"
        # Locked while this process records the end.
        self._fd = -1
        self.kind, _, ids = name.removeprefix(PENDING).partition("-")
        self.session, _, self.span = ids.partition("-")

    def start(self, fields: Fields) -> bool:
        """Write the file; returns False if it exists.

        Args:
            fields: what its events share, each as it is stored.
        """
        pairs = (f"{field}={value}" for field, value in fields.items())
        data = "\n".join((f"{_now_ms()}", *pairs))
        try:
            fd = private.open_own(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return False
        try:
            os.write(fd, data.encode("utf-8", "surrogatepass"))
        finally:
            os.close(fd)
        return True

    def read(self) -> tuple[int | None, Fields]:
        """Read how many milliseconds ago it started, None if unknown, and the fields."""
        try:
            data = private.read(self._path, _MAX_BYTES) or b""
            started, *lines = data.decode("utf-8", "surrogatepass").split("\n")
            elapsed = _now_ms() - int(started)
        except (TelemetryError, ValueError):
            # A process was killed before it wrote the file.
            return None, {"session_id": self.session, "span_id": self.span}
        pairs = (line.partition("=") for line in lines)
        fields = {field: value for field, _, value in pairs if value}
        # Another boot of the system started its clock anew.
        return (elapsed if 0 <= elapsed <= DAY_SECONDS * 1_000 else None), fields

    def lock(self) -> bool:
        """Lock the file until `end()` or `unlock()`; returns False if it is gone.

        Raises:
            Refused: another process records the end.
        """
        try:
            self._fd = private.open_own(self._path, os.O_RDWR)
        except OSError:
            return False
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in private.NO_LOCKS:
                self.unlock()
                raise Refused("another process records the end") from None
        if os.fstat(self._fd).st_nlink:
            return True
        self.unlock()
        return False

    def unlock(self) -> None:
        """Let other processes lock the file."""
        if self._fd >= 0:
            private.close(self._fd)
            self._fd = -1

    def end(self) -> None:
        """Delete the file."""
        try:
            private.remove(self._path)
        except OSError:
            return  # it is deleted after a day
        finally:
            self.unlock()

    def changed(self) -> float:
        """Return the time of the last change of the file, 0 if there is none."""
        try:
            return os.lstat(self._path).st_mtime
        except OSError:
            return 0.0


def _now_ms() -> int:
    return int(runtime.clock() * 1_000)


def entry(folder: str, kind: str, fields: Fields) -> Entry:
    """Make the entry of a command or sub-agent, without a file so far.

    Args:
        folder: the project's directory in the user's state directory.
        kind: `command` or `agent`.
        fields: `session_id`, which may be empty, and `span_id`.
    """
    return Entry(folder, f"{PENDING}{kind}-{fields['session_id']}-{fields['span_id']}")


def entries(folder: str) -> list[Entry]:
    """List what is running, oldest first. What is a day old is deleted.

    Args:
        folder: the project's directory in the user's state directory.
    """
    found, oldest = [], runtime.now() - DAY_SECONDS
    for name in pending_names(folder):
        one = Entry(folder, name)
        changed = one.changed()
        if changed >= oldest:
            found.append((changed, name, one))
        else:
            one.end()
    return [one for _, _, one in sorted(found)]


def sweep(state: str) -> None:
    """Delete what is a day old, of every project of an app.

    Args:
        state: the app's folder in the user's state directory.
    """
    try:
        projects = os.listdir(f"{state}/projects")
    except OSError:
        return
    for project in projects:
        entries(f"{state}/projects/{project}")
