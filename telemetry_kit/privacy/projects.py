"""Projects: the name of each one's folders, and the index of their log files.

The index is in the user's state directory, one file for each project, and alone holds paths.
"""

from __future__ import annotations

import os

from telemetry_kit._runtime import load
from telemetry_kit.errors import ConsentError, Refused
from telemetry_kit.files import private
from telemetry_kit.files.private import UnsafeFileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from telemetry_kit.paths import ProjectPaths

NAME = "path"
_MADE = "made"
_MAX_BYTES = 65_536
_WAY_OUT = "reset --all-projects takes it away, with every decision"


def note(home: ProjectPaths, place: str, *, sync: bool = True) -> None:
    """Put a project into the index.

    Args:
        home: the project's places.
        place: the name of its folders in the user's directories.
        sync: whether it has to survive a power failure; the recorder never waits for the disk.

    Raises:
        OSError: it could not be written.
    """
    path = f"{home.state}/projects/{place}/{NAME}"
    root = os.fsencode(home.root)
    if _root(path) != home.root and not private.create(path, root, sync=sync):
        private.replace(path, root, sync=sync)


def take_away(home: ProjectPaths, place: str) -> None:
    """Delete the key and the entry of a project, with the folders in which nothing else is.

    Args:
        home: the project's places.
        place: the name of its folders in the user's directories.

    Raises:
        OSError: they could not be deleted.
    """
    folder = f"{home.state}/projects/{place}"
    for name in ("key", NAME):
        private.remove(f"{folder}/{name}")
    for path in (folder, f"{home.state}/projects", home.state):
        if not remove_if_empty(path):
            return
    remove_own_folder(os.path.dirname(home.state))


def is_known(home: ProjectPaths, place: str) -> bool:
    """Whether a project is in the index: a command, or the recorder, has prepared it.

    Args:
        home: the project's places.
        place: the name of its folders in the user's directories.
    """
    return os.path.lexists(f"{home.state}/projects/{place}/{NAME}")


def roots(state: str) -> dict[str, str]:
    """Every project in the index: the name of its folders, and its root.

    Args:
        state: the app's folder in the user's state directory.
    """
    folder = f"{state}/projects"
    try:
        places = sorted(os.listdir(folder))
    except OSError:
        return {}
    found = {place: _root(f"{folder}/{place}/{NAME}") for place in places}
    return {place: root for place, root in found.items() if root}


# -- our own folders ---------------------------------------------------------------------------


def make_own_folders(home: ProjectPaths) -> None:
    """Make our folders in the user's directories, and note which folders above them are new.

    Args:
        home: the places of any project.

    Raises:
        OSError: they cannot be made.
    """
    ours = dict.fromkeys(os.path.dirname(folder) for folder in (home.state, home.config))
    new = [path for folder in ours for path in _missing_above(folder)]
    for folder in ours:
        private.make_folder(folder)
    if new:
        note = f"{os.path.dirname(home.state)}/{_MADE}"
        private.create(note, b"\0".join(map(os.fsencode, dict.fromkeys(new))))


def remove_own_folder(folder: str) -> None:
    """Delete our folder for all apps where nothing but our notes is left, and what we made for it.

    Args:
        folder: the one in the user's config directory, or in the state directory.
    """
    try:
        names = set(os.listdir(folder))
    except OSError:
        return
    if not names <= {_MADE, ".gitignore"}:
        return
    made = private.read(f"{folder}/{_MADE}", _MAX_BYTES) or b""
    for name in names:
        private.remove(f"{folder}/{name}")
    remove_if_empty(folder)
    # Deepest first; one in which something else has come since stays.
    for path in sorted(filter(None, map(os.fsdecode, made.split(b"\0"))), key=len, reverse=True):
        remove_if_empty(path)


def remove_if_empty(folder: str) -> bool:
    """Delete a folder if it is empty; whether it is not there any more."""
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False  # something is in it
    private.sync_folder(os.path.dirname(folder))
    return True


def _missing_above(folder: str) -> list[str]:
    found = []
    while not os.path.lexists(folder := os.path.dirname(folder)):
        found.append(folder)
    return found


def _root(path: str) -> str:
    try:
        root = os.fsdecode(private.read(path, _MAX_BYTES) or b"")
    except UnsafeFileError:
        return ""
    return root if os.path.isabs(root) else ""


def place_of(home: ProjectPaths, root: str = "") -> str | None:
    """The name of a project's folders in the user's directories, or None before any decision.

    It is a keyed code of the real path, so that no path stands in clear.

    Args:
        home: the project's places.
        root: the root of another project; this one's by default.

    Raises:
        ConsentError: the place key is there but cannot be used.
        Refused: a moment later it can.
    """
    try:
        key = private.read(home.place_key, 32)
    except UnsafeFileError as error:
        raise ConsentError(f"{error}: {private.remedy(home.place_key) or _WAY_OUT}") from None
    if key is None:
        return None
    if len(key) != 32 or not any(key):
        raise ConsentError(f"{home.place_key} is not a key: {_WAY_OUT}")
    # deferred: an undecided program has no key to use
    mac = load("telemetry_kit.privacy.hmac_sha256")
    if mac is None:
        raise Refused("what reads the record is being loaded")
    place: str = mac.Mac(key).hex(b"place\0" + os.fsencode(root or home.root), 16)
    return place
