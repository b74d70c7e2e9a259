"""Projects: the directories of each one, and the index of their log files.

The index is in the user's state directory, one file for each project. Only the index contains
paths.
"""

from __future__ import annotations

import os

from telemetry_kit._runtime import load
from telemetry_kit.errors import ConsentError
from telemetry_kit.files import private
from telemetry_kit.files.private import UnsafeFileError
from telemetry_kit.privacy.hmac_sha256 import Mac

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from telemetry_kit.paths import ProjectPaths

# File names in the directories of a project.
INDEX_ENTRY = "path"
NAMES = "names"
PROGRAM = "program"
LAST_ROLE = "role"
# The names of the files about what coding agents are running begin with it.
PENDING = "running-"
_MADE = "made"
_MAX_BYTES = 65_536
_REMEDY = "reset --all-projects deletes it, with every decision"


class ProjectDirs:
    """The directories of one project in the user's config and state directories.

    Their name is an HMAC of the project's real path, so no path is stored in plain text.

    Args:
        paths: the paths of any project of the app.
        mac: makes the HMAC, with the key that all projects of the app share.
        root: the project root; by default the one of `paths`.

    Attributes:
        config: the directory with the consent record and its history.
        state: the directory with the key, the declared names and the entry in the index.
    """

    __slots__ = ("_paths", "config", "mac", "name", "state")

    def __init__(self, paths: ProjectPaths, mac: Mac, root: str = "") -> None:
        self._paths = paths
        self.mac = mac
        self.name = mac.hex(b"place\0" + os.fsencode(root or paths.root), 16)
        self.config = f"{paths.config}/projects/{self.name}"
        self.state = f"{paths.state}/projects/{self.name}"

    @classmethod
    def of(cls, paths: ProjectPaths, root: str = "") -> ProjectDirs | None:
        """Find the directories of a project. None before the user's first decision.

        Args:
            paths: the project's paths.
            root: the root of another project; by default the one of `paths`.

        Raises:
            ConsentError: the key that makes the name exists but cannot be used.
        """
        try:
            key = private.read(paths.directory_key, 32)
        except UnsafeFileError as error:
            remedy = private.remedy(paths.directory_key) or _REMEDY
            raise ConsentError(f"{error}: {remedy}") from None
        if key is None:
            return None
        if len(key) != 32 or not any(key):
            raise ConsentError(f"{paths.directory_key} is not a key: {_REMEDY}")
        return cls(paths, Mac(key), root)

    def of_root(self, root: str) -> ProjectDirs:
        """The directories of another project of the same app."""
        return ProjectDirs(self._paths, self.mac, root)

    def of_app(self) -> ProjectDirs:
        """The directories for what belongs to the app, and to none of its projects."""
        return self.of_root(self._paths.state)

    @property
    def program(self) -> str:
        """The file with the facts that the program declares, in the directories of the app."""
        return f"{self.state}/{PROGRAM}"

    @property
    def key(self) -> str:
        """The file with the key that makes the project's pseudonyms."""
        return f"{self.state}/key"

    @property
    def names(self) -> str:
        """The file with the declared names."""
        return f"{self.state}/{NAMES}"

    @property
    def last_error(self) -> str:
        """The file with the name of the last error of a recording program."""
        return f"{self.state}/last-error"

    @property
    def last_role(self) -> str:
        """The file with the declared role of the last run."""
        return f"{self.state}/{LAST_ROLE}"

    @property
    def index_entry(self) -> str:
        """The file with the path of the project root."""
        return f"{self.state}/{INDEX_ENTRY}"


def load_atomic() -> Any:
    """Load the module that writes whole files; a process that only reads keys does without.

    Raises:
        OSError: it cannot be loaded now.
    """
    atomic = load("telemetry_kit.files.atomic")  # deferred: only a new key needs it
    if atomic is None:
        raise OSError("files cannot be written now")
    return atomic


def register(paths: ProjectPaths, dirs: ProjectDirs, *, sync: bool = True) -> None:
    """Add a project to the index; with `sync`, wait until the entry is on disk.

    Raises:
        OSError: the entry could not be written.
    """
    path, root = dirs.index_entry, os.fsencode(paths.root)
    if _read_root(path) != paths.root:
        atomic = load_atomic()
        if not atomic.create(path, root, sync=sync):
            atomic.replace(path, root, sync=sync)


def unregister(paths: ProjectPaths, dirs: ProjectDirs) -> None:
    """Delete the key and the index entry of a project, and the directories that are then empty.

    Raises:
        OSError: they could not be deleted.
    """
    for path in (dirs.key, dirs.index_entry):
        private.remove(path)
    for path in (dirs.state, f"{paths.state}/projects", paths.state):
        if not remove_if_empty(path):
            return
    remove_own_folder(os.path.dirname(paths.state))


def is_registered(dirs: ProjectDirs) -> bool:
    """Whether a project is in the index: a command or the recorder has prepared it."""
    return os.path.lexists(dirs.index_entry)


def roots(state: str) -> list[str]:
    """List the roots of all projects in the index, in the app's state directory."""
    folder = f"{state}/projects"
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    found = (_read_root(f"{folder}/{name}/{INDEX_ENTRY}") for name in names)
    return sorted(set(filter(None, found)))


def _read_root(path: str) -> str:
    try:
        root = os.fsdecode(private.read(path, _MAX_BYTES) or b"")
    except UnsafeFileError:
        return ""
    return root if os.path.isabs(root) else ""


# -- our own folders ---------------------------------------------------------------------------


def make_own_folders(paths: ProjectPaths) -> None:
    """Make our folders in the user's directories, and list the parent folders that are new.

    Raises:
        OSError: a folder could not be made.
    """
    ours = dict.fromkeys(os.path.dirname(folder) for folder in (paths.state, paths.config))
    new: dict[bytes, None] = {}
    for folder in ours:
        parent = os.path.dirname(folder)
        while not os.path.lexists(parent):
            new[os.fsencode(parent)] = None
            parent = os.path.dirname(parent)
    for folder in ours:
        private.make_folder(folder)
    if new:
        note = f"{os.path.dirname(paths.state)}/{_MADE}"
        load_atomic().create(note, b"\0".join(new))


def remove_own_folder(folder: str) -> None:
    """Delete our folder for all apps if only our notes are left, and the parents made for it."""
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
    # The deepest folder first.
    for path in sorted(filter(None, map(os.fsdecode, made.split(b"\0"))), key=len, reverse=True):
        remove_if_empty(path)


def remove_if_empty(folder: str) -> bool:
    """Delete a folder if it is empty; returns whether it does not exist any more."""
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    private.sync_folder(os.path.dirname(folder))
    return True


def pending_names(state: str) -> list[str]:
    """The names of the files about what coding agents are running in a project.

    Args:
        state: the project's directory in the user's state directory.
    """
    try:
        return [name for name in os.listdir(state) if name.startswith(PENDING)]
    except OSError:
        return []
