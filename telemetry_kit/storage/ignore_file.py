"""Make sure that git ignores a folder before anything is written into it.

`storage.version_control` has the part of the commands.
"""

from __future__ import annotations

import os
import stat
from errno import ENOSPC

from telemetry_kit.errors import Refused
from telemetry_kit.paths import common_folder, enclosing_repositories, git_folder, text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from telemetry_kit.paths import ProjectPaths

IGNORE = b"""\
# usage events stay out of version control
/telemetry*
/.telemetry*
!/telemetry.toml
/.gitignore
"""

# Bound here because nothing can be looked up while the interpreter shuts down.
_write = os.write


def ignore(folder: int, home: ProjectPaths) -> bool:
    """Make sure that git takes nothing of ours from an open folder, before anything is in it.

    In a folder that only we use by a file of our own, else by the lines that a command has put
    into `info/exclude` of the repository.

    Args:
        folder: the open folder.
        home: whose folder it is.

    Returns:
        Whether our file was made now.

    Raises:
        Refused: git would take the events.
        OSError: our file cannot be made.
    """
    found = _ignore_file(folder)
    if found == IGNORE:
        return False
    if not found and _is_ours_alone(folder):
        return _write_ignore_file(folder, found)
    repository, exclude = exclude_around(home.root)
    if exclude and exclude_lines(home, repository) not in text_of(exclude, 1 << 20):
        raise Refused(
            f"git would take the events from {home.folder}, which is not ours alone: the next "
            "telemetry command in this project sees to that"
        )
    return False


def has_own_ignore_file(folder: int) -> bool:
    """Whether the ignore file of an open folder is the one that we write."""
    return _ignore_file(folder) == IGNORE


def _ignore_file(folder: int) -> bytes | None:
    """What our ignore file says; None when there is none, something else where it is not ours."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(".gitignore", flags, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError:
        return b"!"
    try:
        st = os.fstat(fd)
        own = stat.S_ISREG(st.st_mode) and st.st_uid == os.geteuid() and st.st_nlink == 1
        return os.read(fd, len(IGNORE) + 1) if own else b"!"
    finally:
        os.close(fd)


def _is_ours_alone(folder: int) -> bool:
    """Whether nothing is in a folder that is not ours."""
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return all(name.startswith(("telemetry", ".telemetry", ".gitignore")) for name in names)


def _write_ignore_file(folder: int, found: bytes | None) -> bool:
    flags = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    if found is None:
        # With one name, and in one step, however often we are killed.
        flags |= os.O_CREAT | os.O_EXCL
    try:
        fd = os.open(".gitignore", flags, 0o644, dir_fd=folder)
    except FileExistsError:
        return False  # another process has just made it
    try:
        os.fchmod(fd, 0o644)
        if _write(fd, IGNORE) != len(IGNORE):
            os.ftruncate(fd, 0)
            raise OSError(ENOSPC, "short write")
    finally:
        os.close(fd)
    return found is None


def exclude_around(folder: str) -> tuple[str, str]:
    """The repository around a folder, and the file in which git keeps what one user ignores.

    All worktrees share the one of the common directory: git reads none of a linked worktree.

    Args:
        folder: the real path of a folder.

    Returns:
        Both, or empty texts where git finds no repository.
    """
    repository = next(iter(enclosing_repositories(folder)), "")
    git = git_folder(repository) if repository else None
    return ("", "") if git is None else (repository, f"{common_folder(git)}/info/exclude")


def exclude_lines(home: ProjectPaths, repository: str) -> str:
    """The lines by which git ignores the events of a project.

    Args:
        home: the project's places.
        repository: the folder with `.git` around it.
    """
    below = pattern(os.path.relpath(home.folder, repository))
    return (
        f"# usage events of {home.app} (telemetry-kit)\n"
        f"/{below}/telemetry*\n/{below}/.telemetry*\n!/{below}/telemetry.toml\n"
    )


def pattern(path: str) -> str:
    """A path as a pattern of gitignore(5) that means just this path."""
    return "".join(f"\\{c}" if c in "\\*?[]!# " else c for c in path)
