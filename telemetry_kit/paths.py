"""The paths of an app's files in one project, from a directory and the environment.

Nothing here creates a file. Every program loads this module, so it imports nothing of ours.
"""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# The folders of this name have all files outside of projects, apart from the host's files.
OURS = "telemetry-kit"
_APP_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")
NO_APP = "this program has no name: it has to call configure(app=...)"


class ProjectPaths:
    """The paths of one app in one project.

    Args:
        app: the app's name.
        root: real path of the project root, whose `.<app>/` has the events.
        config: the app's folder in the user's config directory.
        state: the app's folder in the user's state directory.
        checkout: the folder with the project's own files; the root by default. In a linked
            worktree of git it is the worktree, and the root is in the main one.
        directory: name of the folder with the events, `.<app>` by default.

    In user scope, the root is the folder `user` of the state directory.
    """

    __slots__ = ("app", "checkout", "config", "directory", "folder", "log", "root", "state")

    def __init__(
        self,
        app: str,
        root: str,
        config: str,
        state: str,
        checkout: str = "",
        directory: str = "",
    ) -> None:
        self.app = app
        self.root = root
        self.config = config
        self.state = state
        self.checkout = checkout or root
        self.directory = directory or f".{app}"
        self.folder = root if self.is_user_scope else f"{_base(root)}/{self.directory}"
        self.log = f"{self.folder}/telemetry.jsonl"

    @property
    def is_user_scope(self) -> bool:
        """Whether all events of the user are in one log, which belongs to no project."""
        return self.root == user_root(self.state)

    @property
    def parent(self) -> str:
        """The directory that contains the folder of the events: the root, except in user scope."""
        return os.path.dirname(self.folder)

    @property
    def scope(self) -> str:
        """What a decision is about: this project, or in user scope all folders."""
        return "all folders" if self.is_user_scope else "this project"

    @property
    def shown(self) -> str:
        """The project as messages name it: its root, or in user scope all folders."""
        return self.scope if self.is_user_scope else self.root

    def of_root(self, root: str) -> "ProjectPaths":
        """The paths of another root of the same app."""
        return ProjectPaths(self.app, root, self.config, self.state, directory=self.directory)

    @property
    def lock(self) -> str:
        """The lock that a process holds while it seals, compresses or deletes events."""
        return f"{self.folder}/.telemetry.lock"

    @property
    def ignore(self) -> str:
        """The ignore file that keeps events out of version control."""
        return f"{self.folder}/.gitignore"

    @property
    def repository_files(self) -> tuple[tuple[str, bytes], ...]:
        """The project's own files that may deny, each with the marker of our section."""
        return repository_files(self.directory, self.checkout)

    @property
    def user_file(self) -> str:
        """The user's own configuration: names, and `enabled = false`."""
        return f"{self.config}/telemetry.toml"

    @property
    def naming_files(self) -> tuple[str, str]:
        """The configuration files that may declare names: the project's and the user's."""
        return self.repository_files[0][0], self.user_file

    @property
    def directory_key(self) -> str:
        """The key that makes the names of the projects' directories."""
        return f"{self.state}/place.key"

    @property
    def system_file(self) -> str:
        """The administrator's file, which may deny."""
        if sys.platform == "darwin":
            return f"/Library/Application Support/{OURS}/{self.app}.conf"
        return f"/etc/{OURS}/{self.app}.conf"


def is_app_name(name: object) -> bool:
    """Whether an app may have this name: 1 to 40 lower-case letters, digits, `-` and `_`."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= 40
        and _APP_CHARS.issuperset(name)
        and name[0].isalnum()
    )


def find(
    app: str,
    start: "str | None",
    environ: "Mapping[str, str]",
    scope: str = "project",
    directory: str = "",
) -> "ProjectPaths":
    """Find the paths of an app for a directory.

    Args:
        app: the app's name.
        start: a directory; None for the working directory.
        environ: the environment variables.
        scope: `project` or `user`.
        directory: name of the folder with the events, `.<app>` by default.

    Raises:
        Refused: the program has no name, the directory does not exist, or there is no home
            directory for the decision.
    """
    from telemetry_kit.errors import Refused  # deferred: an undecided program needs no errors

    if not app:
        raise Refused(NO_APP)
    try:
        here = os.getcwd() if start is None else os.path.realpath(start)
        root, checkout = project_root(directory or f".{app}", here, user_home(environ))
    except FileNotFoundError:
        raise Refused("the working directory no longer exists") from None
    except (OSError, ValueError) as error:
        raise Refused(f"the working directory cannot be used ({type(error).__name__})") from None
    folders = user_folders(app, environ)
    if folders is None:
        raise Refused("there is no home directory to save a decision in")
    if scope == "user":
        root = user_root(folders[1])
    return ProjectPaths(app, root, *folders, checkout, directory)


def user_root(state: str) -> str:
    """The root of an app in user scope, from its folder in the state directory."""
    return f"{state}/user"


def repository_files(directory: str, root: str) -> "tuple[tuple[str, bytes], ...]":
    """The files of a root that may deny, each with the marker of our section."""
    base = _base(root)
    return (
        (f"{base}/{directory}/telemetry.toml", b""),
        (f"{base}/pyproject.toml", b"telemetry_kit"),
    )


def project_root(directory: str, here: str, user: str) -> "tuple[str, str]":
    """Find the project root of a directory, and the checkout.

    Both are the nearest ancestor with the folder of the events or `.git`, else the directory
    itself. Such a folder in the user's home directory does not count, because many tools have one
    there. In a linked worktree of git, the root is in the main worktree.

    Args:
        directory: name of the folder with the events.
        here: the real path of the directory.
        user: the user's home directory; empty when it is unknown.
    """
    marked = ""
    for at in upward(here):
        if not marked and is_marked(directory, at, user):
            marked = at
        if os.path.lexists(f"{_base(at)}/.git"):
            main = repository_root(at)
            if main == at:
                return marked or at, marked or at
            if marked in ("", at):
                return main, at
            # A project inside a linked worktree belongs to the same folder of the main one.
            counterpart = f"{_base(main)}{marked[len(_base(at)) :]}"
            return (counterpart if is_marked(directory, counterpart, user) else main), marked
    return marked or here, marked or here


def is_marked(directory: str, folder: str, user: str) -> bool:
    """Whether a folder has one for the events and is not the user's home directory."""
    if not os.path.isdir(f"{_base(folder)}/{directory}"):
        return False
    try:
        return not user or os.stat(folder)[1:3] != os.stat(user)[1:3]
    except (OSError, ValueError):
        return True


def enclosing_roots(
    paths: "ProjectPaths", environ: "Mapping[str, str]", repositories: "Sequence[str]"
) -> "list[str]":
    """The projects that enclose this one or its checkout: each may deny.

    They are all enclosing repositories, and in the same repository the folders with one for the
    events.

    Args:
        paths: the project's paths.
        environ: the environment variables.
        repositories: the result of `enclosing_repositories()` for the checkout.
    """
    user = user_home(environ)
    found: dict[str, None] = {}
    starts = (paths.checkout,) if paths.is_user_scope else (paths.checkout, paths.root)
    for start in dict.fromkeys(starts):
        enclosing = repositories if start == paths.checkout else enclosing_repositories(start)
        is_inside = True
        for at in upward(start):
            if at in enclosing:
                found[at] = found[repository_root(at)] = None
                is_inside = False
            elif is_inside and is_marked(paths.directory, at, user):
                found[at] = None
    found.pop(paths.root, None)
    return list(found)


def enclosing_repositories(folder: str) -> "list[str]":
    """The folders with `.git` that are or enclose a folder, nearest first."""
    return [at for at in upward(folder) if os.path.lexists(f"{_base(at)}/.git")]


def upward(folder: str) -> "Iterator[str]":
    """A folder and its parents, up to `/`."""
    yield folder
    while (above := os.path.dirname(folder)) != folder:
        yield above
        folder = above


def _base(folder: str) -> str:
    """A folder without the slash that `/` ends with, so that `/name` can follow."""
    return "" if folder == "/" else folder


# -- git ---------------------------------------------------------------------------------------


def repository_root(checkout: str) -> str:
    """The project root of a checkout of git, by the rules of gitrepository-layout(5).

    A linked worktree belongs to its main worktree. If git cannot name a main worktree (a bare
    repository, a separate git directory), the project root is the git directory.

    Args:
        checkout: the real path of a folder with `.git`.
    """
    pointer = f"{_base(checkout)}/.git"
    if os.path.isdir(pointer) and not os.path.islink(pointer):
        return checkout
    git = git_folder(checkout)
    if git is None:
        return checkout
    common = common_folder(git)
    if common != git:
        registered = text_of(f"{git}/gitdir").strip()
        if not registered or os.path.realpath(registered) != os.path.realpath(pointer):
            # The worktree was moved, or another program wrote the pointer.
            return checkout
    main = _main_worktree(common)
    return checkout if common == git and main not in ("", checkout) else main or common


def git_folder(checkout: str) -> "str | None":
    """The git directory that `.git` of a checkout is or names; None if there is none."""
    pointer = f"{_base(checkout)}/.git"
    if not os.path.isdir(pointer):
        mark, _, named = text_of(pointer).partition("gitdir:")
        if mark or not named.strip():
            return None
        pointer = os.path.join(checkout, named.strip())
    found = os.path.realpath(pointer)
    return found if os.path.isdir(found) else None


def common_folder(git: str) -> str:
    """The git directory that all worktrees of a repository share."""
    named = text_of(f"{git}/commondir").strip()
    return os.path.realpath(os.path.join(git, named)) if named else git


def _main_worktree(common: str) -> str:
    """The main worktree of a git directory; empty if git cannot name one."""
    above, name = os.path.split(common)
    if name == ".git":
        return above
    named = _core_worktree(text_of(f"{common}/config", 65_536))
    if not named:
        return ""
    main = os.path.realpath(os.path.join(common, named))
    return main if git_folder(main) == common else ""


def _core_worktree(config: str) -> str:
    """The value of `core.worktree` in the text of a git configuration file."""
    section, found = "", ""
    for line in config.splitlines():
        line = line.strip()  # noqa: PLW2901
        if line.startswith("["):
            section = line.partition("]")[0].strip("[ ").casefold()
            continue
        key, _, value = line.partition("=")
        if section == "core" and key.strip().casefold() == "worktree":
            found = value.strip().strip('"').replace("\\\\", "\\").replace('\\"', '"')
    return found


def text_of(path: str, limit: int = 4_096) -> str:
    """The text of a small regular file; empty if there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            if os.fstat(fd).st_mode & 0o170000 != 0o100000:
                return ""
            return os.fsdecode(os.read(fd, limit))
        finally:
            os.close(fd)
    except (OSError, ValueError):
        return ""


# -- the user's folders ------------------------------------------------------------------------


def user_folders(app: str, environ: "Mapping[str, str]") -> "tuple[str, str] | None":
    """The app's folders in the user's config and state directories; None without a home."""
    folders = own_folders(environ)
    return None if folders is None else (f"{folders[0]}/{app}", f"{folders[1]}/{app}")


def own_folders(environ: "Mapping[str, str]") -> "tuple[str, str] | None":
    """Our own folders in the user's config and state directories, by the rules of platformdirs."""
    user = user_home(environ)
    if not user or not os.path.isabs(user) or user == "/":
        return None
    if sys.platform == "darwin":
        both = f"{user}/Library/Application Support/{OURS}"
        return both, both
    return (
        f"{_xdg(environ, 'XDG_CONFIG_HOME') or user + '/.config'}/{OURS}",
        f"{_xdg(environ, 'XDG_STATE_HOME') or user + '/.local/state'}/{OURS}",
    )


def user_home(environ: "Mapping[str, str]") -> str:
    """The user's home directory; `~` or empty if it is unknown."""
    return environ["HOME"] if "HOME" in environ else os.path.expanduser("~")


def _xdg(environ: "Mapping[str, str]", name: str) -> str:
    # The specification requires that a relative path is ignored.
    path = environ.get(name, "").strip()
    return path.rstrip("/") if os.path.isabs(path) else ""
