"""Make sure that git ignores a folder before anything is written into it.

`storage.version_control` has the part that only commands need.
"""

from __future__ import annotations

import os
from errno import ENOSPC

from telemetry_kit.errors import Refused
from telemetry_kit.files.private import open_own
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

# Bound here, because nothing can be looked up while the interpreter shuts down.
_write = os.write


def ignore(folder: int, paths: ProjectPaths) -> bool:
    """Make sure that git ignores our files in an open folder, before one is created.

    A folder that only this package uses gets an ignore file. In any other folder, a command must
    have added lines to `info/exclude` of the repository.

    Returns:
        Whether the ignore file was created now.

    Raises:
        Refused: git would take the events.
        OSError: the ignore file cannot be created.
    """
    found = read_ignore_file(folder)
    if found == IGNORE:
        return False
    if not found:
        try:
            names = os.listdir(folder)
        except OSError:
            names = ["?"]
        if all(name.startswith(("telemetry", ".telemetry", ".gitignore")) for name in names):
            return write_ignore_file(folder, found is None)
    repository, exclude = exclude_around(paths.parent)
    if exclude and exclude_lines(paths, repository) not in text_of(exclude, 1 << 20):
        raise Refused(
            f"git would take the events from {paths.folder}, which is not ours alone: the next "
            "telemetry command in this project adds the rule"
        )
    return False


def read_ignore_file(folder: int) -> bytes | None:
    """Return the ignore file; None if there is none, and other bytes if it is not ours."""
    try:
        fd = open_own(".gitignore", os.O_RDONLY, dir_fd=folder)
    except FileNotFoundError:
        return None
    except OSError:
        return b"!"
    try:
        return os.read(fd, len(IGNORE) + 1)
    finally:
        os.close(fd)


def write_ignore_file(folder: int, is_new: bool) -> bool:
    """Write the ignore file, and return whether it was created now."""
    flags = os.O_WRONLY | (os.O_CREAT | os.O_EXCL) * is_new
    try:
        fd = open_own(".gitignore", flags, dir_fd=folder)
    except FileExistsError:
        return False  # another process has just created it
    try:
        os.fchmod(fd, 0o644)
        if _write(fd, IGNORE) != len(IGNORE):
            os.ftruncate(fd, 0)
            raise OSError(ENOSPC, "short write")
    finally:
        os.close(fd)
    return is_new


def exclude_around(folder: str) -> tuple[str, str]:
    """Return the repository around a real path, and the file with git's rules for one user.

    All worktrees share the file of the common directory: git reads none of a linked worktree.

    Returns:
        Both paths, or empty strings if git finds no repository.
    """
    repository = next(iter(enclosing_repositories(folder)), "")
    git = git_folder(repository) if repository else None
    return ("", "") if git is None else (repository, f"{common_folder(git)}/info/exclude")


def exclude_lines(paths: ProjectPaths, repository: str) -> str:
    """Return the lines by which git ignores the events of a project in a repository."""
    below = pattern(os.path.relpath(paths.folder, repository))
    return (
        f"# usage events of {paths.app} (telemetry-kit)\n"
        f"/{below}/telemetry*\n/{below}/.telemetry*\n!/{below}/telemetry.toml\n"
    )


def pattern(path: str) -> str:
    """Return a path as a pattern of gitignore(5) that matches only this path."""
    return "".join(f"\\{c}" if c in "\\*?[]!# " else c for c in path)
