"""Keep the events out of version control: the rules that a grant adds and a reset removes.

`storage.ignore_file` is the recorder's part: it writes only where git ignores its files.
"""

from __future__ import annotations

import os

from telemetry_kit._runtime import runtime
from telemetry_kit.errors import ConsentError, Refused
from telemetry_kit.files import git, private
from telemetry_kit.files.private import UnsafeFileError, explain
from telemetry_kit.paths import OURS, ProjectPaths
from telemetry_kit.storage import ignore_file, rotation

_MAX_BYTES = 1 << 20
_FILES = ("telemetry.jsonl", "telemetry-2026-01-01.jsonl.gz", ".telemetry.lock")


def ensure(home: ProjectPaths) -> None:
    """Make sure that git ignores the events of a project.

    By lines in `info/exclude` of the repository, and by a file of our own in a folder that only
    we use: each also works where the other one is taken away.

    Args:
        home: the project's places.

    Raises:
        ConsentError: git would take the events all the same; nothing is left of what was tried.
    """
    own = _own_file(home)
    repository, exclude = ignore_file.exclude_around(home.root)
    if not exclude:
        return
    outer, added = "", False
    try:
        added = _add(exclude, ignore_file.exclude_lines(home, repository))
    except (OSError, UnsafeFileError) as error:
        outer = _why(exclude, error)
    wrong = _taken(home, repository, own, outer)
    if wrong:
        if added:
            _remove(exclude, ignore_file.exclude_lines(home, repository))
        raise ConsentError(f"git would take the events into version control: {wrong}")


def repair(home: ProjectPaths) -> None:
    """Make sure again where our ignore file is gone, or the folder is not ours alone any more.

    Raises:
        ConsentError: git would take the events all the same.
    """
    if os.path.isdir(home.folder) and _own_file(home):
        ensure(home)


def ensure_for_keys(state: str) -> None:
    """Make sure that git ignores our state folder, which holds the keys, wherever it is.

    Args:
        state: the folder of an app in it.

    Raises:
        OSError: the folder cannot be made.
    """
    folder = os.path.dirname(state)
    private.make_folder(folder)
    private.create(f"{folder}/.gitignore", b"*\n")
    repository, exclude = ignore_file.exclude_around(os.path.realpath(folder))
    if exclude:
        try:
            _add(exclude, _key_lines(os.path.realpath(folder), repository))
        except (OSError, UnsafeFileError):
            return  # the folder's own file ignores it


def take_back(home: ProjectPaths) -> None:
    """Take our lines out of `info/exclude` and our files away, and a folder that only we used.

    Raises:
        JournalError: another process holds the lock, or the folder belongs to somebody else.
    """
    with rotation.maintenance(home, rotation.WAIT_SECONDS) as folder:
        if folder is not None:
            _leave(home, folder)
    repository, exclude = ignore_file.exclude_around(home.root)
    if exclude:
        _remove(exclude, ignore_file.exclude_lines(home, repository))


def _leave(home: ProjectPaths, folder: int) -> None:
    try:
        os.unlink(rotation.LOCK, dir_fd=folder)
        if ignore_file.has_own_ignore_file(folder):
            os.unlink(".gitignore", dir_fd=folder)
        os.fsync(folder)
        os.rmdir(home.folder)
        private.sync_folder(home.root)
    except OSError:
        return  # the host keeps something there


def take_back_for_keys(home: ProjectPaths) -> None:
    """The same for our state folder, once nothing is left in it."""
    folder = os.path.realpath(os.path.dirname(home.state))
    repository, exclude = ignore_file.exclude_around(folder)
    if exclude:
        _remove(exclude, _key_lines(folder, repository))


def _key_lines(folder: str, repository: str) -> str:
    below = ignore_file.pattern(os.path.relpath(folder, repository))
    return f"# keys of {OURS}\n/{below}/\n"


def _own_file(home: ProjectPaths) -> str:
    """Put our ignore file into a folder of ours; why git would not obey one, or an empty text."""
    try:
        folder = os.open(home.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""  # the recorder makes the folder, and the file first
    except OSError as error:
        return f"{home.folder}: {explain(error)}"
    try:
        ignore_file.ignore(folder, home)
    except Refused:
        return f"{home.folder} is not ours alone"
    except OSError as error:
        return f"{home.ignore}: {explain(error)}"
    finally:
        os.close(folder)
    return ""


def _taken(home: ProjectPaths, repository: str, own: str, outer: str) -> str:
    """Why git would take the events; empty where it would not.

    Args:
        home: the project's places.
        repository: the folder with `.git` around it.
        own: why there is no ignore file of ours, which has the last word; empty where one is.
        outer: why our lines are not in `info/exclude`; empty where they are.
    """
    environ = runtime.environ
    paths = [f"{home.folder}/{name}" for name in _FILES]
    tracked = git.ask(repository, "ls-files", "--", *_literal(paths), environ=environ)
    if tracked is not None and tracked.code == 0 and tracked.output:
        name = os.fsdecode(tracked.output.splitlines()[0])
        return f"it tracks {name} already: take it out with `git rm --cached {name}`"
    if not own:
        return ""
    for path in paths:
        answer = git.ask(repository, "check-ignore", "-q", "--no-index", path, environ=environ)
        if answer is None or answer.code not in (0, 1):
            return outer or _kept_in(home, repository)
        if answer.code == 1:
            return outer or f"a .gitignore keeps {os.path.basename(path)}"
    return ""


def _literal(paths: list[str]) -> list[str]:
    return [f":(literal){path}" for path in paths]


def _kept_in(home: ProjectPaths, repository: str) -> str:
    """Without git: the first ignore file that may keep the events, by any line with a `!`."""
    folder = home.folder
    while len(folder) >= len(repository):
        path = f"{folder}/.gitignore"
        try:
            with open(path, "rb") as file:
                text = file.read(1 << 20)
        except OSError:
            text = b""
        if text != ignore_file.IGNORE and any(line.startswith(b"!") for line in text.splitlines()):
            return f"{path} may keep them, and git cannot be asked"
        folder = os.path.dirname(folder)
    return ""


def _add(exclude: str, lines: str) -> bool:
    """Put lines into an exclude file, unless they are there; whether they were put there now.

    Raises:
        OSError, UnsafeFileError: it cannot be written.
    """
    old = _text(exclude)
    if lines in old:
        return False
    private.make_folder(os.path.dirname(exclude))
    between = "" if not old or old.endswith("\n") else "\n"
    _write(exclude, f"{old}{between}{lines}")
    return True


def _remove(exclude: str, lines: str) -> None:
    try:
        old = _text(exclude)
        if lines in old:
            _write(exclude, old.replace(lines, ""))
    except (OSError, UnsafeFileError):
        return  # a line that ignores nothing does no harm


def _why(path: str, error: OSError | UnsafeFileError) -> str:
    return f"{path}: {explain(error)}" if isinstance(error, OSError) else str(error)


def _text(exclude: str) -> str:
    """The text of an exclude file; empty when there is none.

    Raises:
        UnsafeFileError: it is not a plain file of this user.
    """
    return os.fsdecode(private.read(exclude, _MAX_BYTES, forbidden=0o002) or b"")


def _write(exclude: str, text: str) -> None:
    try:
        mode = os.stat(exclude).st_mode & 0o777
    except FileNotFoundError:
        mode = 0o644
    private.replace(exclude, os.fsencode(text))
    os.chmod(exclude, mode)
