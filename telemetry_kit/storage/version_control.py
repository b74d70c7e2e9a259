"""Keep the events out of version control: the rules that a grant adds and a reset removes.

`storage.ignore_file` has the part that the recorder needs.
"""

from __future__ import annotations

import os

from telemetry_kit._runtime import runtime
from telemetry_kit.errors import ConsentError, Refused
from telemetry_kit.files import atomic, git, private
from telemetry_kit.files.private import UnsafeFileError, explain
from telemetry_kit.paths import OURS, ProjectPaths
from telemetry_kit.storage import ignore_file, rotation
from telemetry_kit.storage.ignore_file import exclude_around, exclude_lines

_MAX_BYTES = 1 << 20
_FILES = ("telemetry.jsonl", "telemetry-2026-01-01.jsonl.gz", ".telemetry.lock")


def ensure(paths: ProjectPaths) -> None:
    """Make sure that git ignores the events of a project.

    There are two rules: lines in `info/exclude` of the repository, and an ignore file in a folder
    that only this package uses. Each works without the other.

    Raises:
        ConsentError: git would take the events all the same; the lines were removed again.
    """
    why_no_file = write_own_file(paths)
    repository, exclude = exclude_around(paths.parent)
    if not exclude:
        return
    lines = exclude_lines(paths, repository)
    why_no_lines, added = "", False
    try:
        added = set_lines(exclude, lines, present=True)
    except (OSError, UnsafeFileError) as error:
        is_unsafe = isinstance(error, UnsafeFileError)
        why_no_lines = str(error) if is_unsafe else f"{exclude}: {explain(error)}"
    wrong = why_taken(paths, repository, why_no_file, why_no_lines)
    if wrong:
        if added:
            remove_lines(exclude, lines)
        raise ConsentError(f"git would take the events into version control: {wrong}")


def repair(paths: ProjectPaths) -> None:
    """Do the same if the ignore file is missing, or the folder has other files by now.

    Raises:
        ConsentError: git would take the events all the same.
    """
    if os.path.isdir(paths.folder) and write_own_file(paths):
        ensure(paths)


def ensure_for_keys(state: str) -> None:
    """Make sure that git ignores the state folder, given the folder of an app in it.

    Raises:
        OSError: the folder cannot be created.
    """
    folder = os.path.dirname(state)
    private.make_folder(folder)
    atomic.create(f"{folder}/.gitignore", b"*\n")
    folder = os.path.realpath(folder)
    repository, exclude = exclude_around(folder)
    if exclude:
        try:
            set_lines(exclude, key_lines(folder, repository), present=True)
        except (OSError, UnsafeFileError):
            return  # the ignore file is enough


def remove_rules(paths: ProjectPaths) -> None:
    """Remove our lines from `info/exclude`, our files, and the folder if it is empty then.

    Raises:
        JournalError: another process holds the lock, or the folder belongs to another user.
    """
    with rotation.maintenance(paths, rotation.WAIT_SECONDS) as folder:
        if folder is not None:
            try:
                os.unlink(rotation.LOCK, dir_fd=folder)
                if ignore_file.read_ignore_file(folder) == ignore_file.IGNORE:
                    os.unlink(".gitignore", dir_fd=folder)
                os.fsync(folder)
                os.rmdir(paths.folder)
                private.sync_folder(paths.parent)
            except OSError:
                pass  # the folder has files of others
    repository, exclude = exclude_around(paths.parent)
    if exclude:
        remove_lines(exclude, exclude_lines(paths, repository))


def remove_rules_for_keys(paths: ProjectPaths) -> None:
    """Remove the lines for the state folder, once it is empty."""
    folder = os.path.realpath(os.path.dirname(paths.state))
    repository, exclude = exclude_around(folder)
    if exclude:
        remove_lines(exclude, key_lines(folder, repository))


def key_lines(folder: str, repository: str) -> str:
    """Return the lines by which git ignores the state folder."""
    below = ignore_file.pattern(os.path.relpath(folder, repository))
    return f"# keys of {OURS}\n/{below}/\n"


def write_own_file(paths: ProjectPaths) -> str:
    """Write the ignore file if the folder is ours alone.

    Returns:
        Why git does not ignore the events by such a file; empty if it does.
    """
    try:
        folder = private.open_folder(paths.folder)
    except FileNotFoundError:
        return ""  # the recorder creates the folder, and the file before any other
    except OSError as error:
        return f"{paths.folder}: {explain(error)}"
    try:
        ignore_file.ignore(folder, paths)
    except Refused:
        return f"{paths.folder} is not ours alone"
    except OSError as error:
        return f"{paths.ignore}: {explain(error)}"
    finally:
        os.close(folder)
    return ""


def why_taken(paths: ProjectPaths, repository: str, why_no_file: str, why_no_lines: str) -> str:
    """Return why git would take the events, or an empty string if it ignores them.

    Args:
        repository: the folder that contains `.git`.
        why_no_file: why there is no ignore file of ours, which overrules all other rules.
        why_no_lines: why our lines are not in `info/exclude`.
    """
    environ = runtime.environ
    names = [f"{paths.folder}/{name}" for name in _FILES]
    literal = [f":(literal){path}" for path in names]
    tracked = git.run(repository, "ls-files", "--", *literal, environ=environ)
    if tracked is not None and tracked.returncode == 0 and tracked.stdout:
        name = os.fsdecode(tracked.stdout.splitlines()[0])
        return f"it tracks {name} already: take it out with `git rm --cached {name}`"
    if not why_no_file:
        return ""
    for path in names:
        answer = git.run(repository, "check-ignore", "-q", "--no-index", path, environ=environ)
        if answer is None or answer.returncode not in (0, 1):
            return why_no_lines or find_negation(paths, repository)
        if answer.returncode == 1:
            return why_no_lines or f"a .gitignore keeps {os.path.basename(path)}"
    return ""


def find_negation(paths: ProjectPaths, repository: str) -> str:
    """Without git, find the first ignore file with a `!`, which may include the events."""
    folder = paths.folder
    while len(folder) >= len(repository):
        path = f"{folder}/.gitignore"
        try:
            text = private.read_regular(path, _MAX_BYTES)
        except OSError:
            text = b""
        if text != ignore_file.IGNORE and any(line.startswith(b"!") for line in text.splitlines()):
            return f"{path} may keep them, and git cannot be asked"
        folder = os.path.dirname(folder)
    return ""


def set_lines(exclude: str, lines: str, present: bool) -> bool:
    """Add lines to an exclude file or remove them, and return whether the file was changed.

    Raises:
        OSError, UnsafeFileError: it cannot be read or written.
    """
    old = os.fsdecode(private.read(exclude, _MAX_BYTES, forbidden=0o002) or b"")
    if (lines in old) == present:
        return False
    if present:
        private.make_folder(os.path.dirname(exclude))
        newline = "" if not old or old.endswith("\n") else "\n"
        new = f"{old}{newline}{lines}"
    else:
        new = old.replace(lines, "")
    try:
        mode = os.stat(exclude).st_mode & 0o777
    except FileNotFoundError:
        mode = 0o644
    atomic.replace(exclude, os.fsencode(new))
    os.chmod(exclude, mode)
    return True


def remove_lines(exclude: str, lines: str) -> None:
    """Remove lines from an exclude file if it can be written."""
    try:
        set_lines(exclude, lines, present=False)
    except (OSError, UnsafeFileError):
        return  # lines that ignore nothing do no harm
