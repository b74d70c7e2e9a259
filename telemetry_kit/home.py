"""Where telemetry lives: paths worked out from an app name, a directory and the environment.

A value that creates nothing and opens nothing. Loaded by every program, so it imports nothing.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Home:
    """The places of one app in one project.

    Args:
        app: the app's name.
        root: real path of the project root.
        config: the app's folder in the user's config directory.
        state: the app's folder in the user's state directory.
        inner: the root of a repository that lies below the project root and holds the directory
            it was found for; empty when there is none.
    """

    __slots__ = ("app", "config", "folder", "inner", "log", "root", "state")

    def __init__(self, app: str, root: str, config: str, state: str, inner: str = "") -> None:
        self.app = app
        self.root = root
        self.config = config
        self.state = state
        self.inner = inner
        self.folder = f"{root}/.{app}" if root != "/" else f"/.{app}"
        self.log = f"{self.folder}/telemetry.jsonl"

    @property
    def lock(self) -> str:
        """The maintenance lock: held by whoever seals, archives or clears; never deleted."""
        return f"{self.folder}/.telemetry.lock"

    @property
    def ignore(self) -> str:
        """The ignore file that keeps events out of version control."""
        return f"{self.folder}/.gitignore"

    @property
    def repository_files(self) -> tuple[tuple[str, bytes], ...]:
        """The project's own files that may deny, each with the bytes that make it speak to us."""
        return repository_files(self.app, self.root)

    @property
    def user_file(self) -> str:
        """The user's own configuration: names and a switch that may deny."""
        return f"{self.config}/telemetry.toml"

    @property
    def naming_files(self) -> tuple[str, str]:
        """The configuration files that may declare names: the project's and the user's."""
        return self.repository_files[0][0], self.user_file

    @property
    def place_key(self) -> str:
        """The key by which project paths become folder names, so that none stands in clear."""
        return f"{self.state}/place.key"

    @property
    def system_file(self) -> str:
        """The administrator's file, which may deny."""
        if sys.platform == "darwin":
            return f"/Library/Application Support/{self.app}/telemetry.conf"
        if sys.platform == "win32":
            base = os.environ.get("PROGRAMDATA", r"C:\ProgramData")
            return rf"{base}\{self.app}\telemetry.conf"
        return f"/etc/{self.app}/telemetry.conf"


def find(app: str, start: "str | None", environ: "Mapping[str, str]") -> "Home":
    """The home of `app` for a directory.

    Args:
        app: the app's name.
        start: a directory; None for the working directory.
        environ: where HOME and the XDG variables are looked up.

    Raises:
        Refused: there is no such directory, or no home directory to keep a decision in.
    """
    from telemetry_kit.errors import Refused  # deferred: an undecided program needs no errors

    try:
        here = os.getcwd() if start is None else os.path.realpath(start)
        root, inner = roots(app, here, _user(environ))
    except FileNotFoundError:
        raise Refused("the working directory no longer exists") from None
    except (OSError, ValueError) as error:
        raise Refused(f"the working directory cannot be used ({type(error).__name__})") from None
    folders = user_folders(app, environ)
    if folders is None:
        raise Refused("there is no home directory to keep a decision in")
    return Home(app, root, *folders, inner)


def repository_files(app: str, root: str) -> "tuple[tuple[str, bytes], ...]":
    """The files of a root that may deny, each with the bytes that make it speak to us."""
    base = "" if root == "/" else root
    return (
        (f"{base}/.{app}/telemetry.toml", b""),
        (f"{base}/pyproject.toml", b"telemetry_kit"),
    )


def roots(app: str, here: str, user: str) -> "tuple[str, str]":
    """The project root of a directory, and the root of a nearer repository or an empty text.

    It is the nearest ancestor with `.<app>/`, else with `.git`, else the directory itself. Above
    a repository the user's home directory and what lies above that are none: many tools keep a
    folder of their own there, and it must not take over every repository.

    Args:
        app: the app's name.
        here: the real path of the directory.
        user: the user's home directory; empty when it is unknown.
    """
    repository = ""
    at = here
    while True:
        base = "" if at == "/" else at
        if os.path.isdir(f"{base}/.{app}"):
            if not repository:
                return at, ""
            if not user or not f"{os.path.realpath(user)}/".startswith(f"{base}/"):
                return at, repository
            return repository, ""
        if not repository and os.path.exists(f"{base}/.git"):
            repository = at
        above = os.path.dirname(at)
        if above == at:
            return repository or here, ""
        at = above


def around(root: str) -> str:
    """The root of the repository that a folder lies in, when it is not one itself; else empty."""
    base = "" if root == "/" else root
    while not os.path.exists(f"{base}/.git"):
        if not base:
            return ""
        base = os.path.dirname(base).rstrip("/")
    found = base or "/"
    return found if found != root else ""


def main_worktree(root: str) -> str:
    """Where a worktree of git belongs to: the root of the main one; empty when it is none."""
    path = f"{root}/.git"
    try:
        if os.stat(path).st_mode & 0o170000 != 0o100000:
            return ""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            text = os.fsdecode(os.read(fd, 4_096))
        finally:
            os.close(fd)
    except (OSError, ValueError):
        return ""
    mark, _, folder = text.partition("gitdir:")
    head, between, name = os.path.join(root, folder.strip()).rpartition("/.git/worktrees/")
    return os.path.realpath(head) if not mark and between and "/" not in name else ""


def user_folders(app: str, environ: "Mapping[str, str]") -> "tuple[str, str] | None":
    """The user's config and state folders for `app`, by the rules that platformdirs follows.

    None when the home directory is unknown, so that a decision could not be kept.
    """
    user = _user(environ)
    if not user or not os.path.isabs(user) or user == "/":
        return None
    if sys.platform == "darwin":
        both = f"{user}/Library/Application Support/{app}"
        return both, both
    return (
        f"{_xdg(environ, 'XDG_CONFIG_HOME') or user + '/.config'}/{app}",
        f"{_xdg(environ, 'XDG_STATE_HOME') or user + '/.local/state'}/{app}",
    )


def _user(environ: "Mapping[str, str]") -> str:
    return environ["HOME"] if "HOME" in environ else os.path.expanduser("~")


def _xdg(environ: "Mapping[str, str]", name: str) -> str:
    # The specification: a relative path must be ignored.
    path = environ.get(name, "").strip()
    return path.rstrip("/") if os.path.isabs(path) else ""
