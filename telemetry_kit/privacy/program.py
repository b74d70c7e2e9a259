"""The facts that a program declares about itself, stored for commands that never load it.

The recorder writes them at its first event. `record` and the command line read them, so that they
find the same log and keep the same names in plain text. A file without a valid HMAC is ignored.
"""

from __future__ import annotations

import os

from telemetry_kit import settings
from telemetry_kit.errors import ConsentError
from telemetry_kit.files import private
from telemetry_kit.files.private import UnsafeFileError
from telemetry_kit.paths import ProjectPaths, find, user_folders
from telemetry_kit.privacy import declared_names
from telemetry_kit.privacy.declared_names import CODE_CHARS, DeclaredNames
from telemetry_kit.privacy.projects import ProjectDirs, load_atomic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from telemetry_kit.settings import Settings

_FACTS = ("scope", "directory", "version", "prog")
_DEFAULT = ("scope", "project")
_MAX_BYTES = 4_096


def save(dirs: ProjectDirs, now: Settings, names: DeclaredNames) -> None:
    """Store the facts and the declared names of a program, unless they are stored already.

    Args:
        dirs: the directories of any project of the app.
        now: the program's settings.
        names: the stored names of the app.

    Raises:
        OSError, UnsafeFileError: they could not be stored.
    """
    app = dirs.of_app()
    data = encoded(app, {name: getattr(now, name) for name in _FACTS})
    if data != (private.read(app.program, _MAX_BYTES) or encoded(app, {})):
        private.make_last_folder(app.state)
        load_atomic().replace(app.program, data, sync=False)
    for vocabulary in settings.VOCABULARIES:
        for name in sorted(now.names[vocabulary] | settings.decorated[vocabulary]):
            names.add(vocabulary, name)


def read(app: str, environ: Mapping[str, str], given: Mapping[str, str]) -> dict[str, Any]:
    """Read what a program declared, as arguments of `configure()`; empty if nothing is stored.

    Args:
        app: the app's name.
        environ: the environment variables.
        given: names by field; the result has those of them that the program declared.
    """
    dirs = app_dirs(app, environ)
    if dirs is None:
        return {}
    from telemetry_kit.schema.encoding import quote  # deferred: an undecided user has no such file

    names = DeclaredNames(dirs, quote)
    found: dict[str, Any] = facts_of(dirs)
    for field, name in given.items():
        vocabulary = settings.VOCABULARY_OF.get(field, "")
        try:
            if vocabulary and names.has(vocabulary, name):
                found.setdefault(vocabulary, set()).add(name)
        except UnsafeFileError:
            break  # the names become pseudonyms
    return found


def read_all(app: str, environ: Mapping[str, str]) -> dict[str, Any]:
    """Read everything that a program declared, as arguments of `configure()`.

    This needs a parser, so `record` does without it.

    Args:
        app: the app's name.
        environ: the environment variables.
    """
    dirs = app_dirs(app, environ)
    if dirs is None:
        return {}
    try:
        names = declared_names.read_of(dirs)
    except UnsafeFileError:
        names = {}  # `verify` and `doctor` report the file
    return {**facts_of(dirs), **{v: names.get(v, ()) for v in settings.VOCABULARIES}}


def paths_of(app: str, start: str | None, environ: Mapping[str, str]) -> ProjectPaths:
    """Find the paths of a program for a directory, by its stored facts.

    Raises:
        Refused: see `paths.find()`.
    """
    facts = read_facts(app, environ)
    scope, directory = facts.get("scope", "project"), facts.get("directory", "")
    return find(app, start, environ, scope, directory)


def read_facts(app: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Read the stored facts of a program without its names; empty if there are none."""
    dirs = app_dirs(app, environ)
    return {} if dirs is None else facts_of(dirs)


def app_dirs(app: str, environ: Mapping[str, str]) -> ProjectDirs | None:
    """The directories of an app; None if the user has decided nothing, or the key is damaged."""
    folders = user_folders(app, environ)
    if folders is None:
        return None
    try:
        return ProjectDirs.of(ProjectPaths(app, folders[1], *folders))
    except ConsentError:
        return None  # recording is off, and `status` says why


def facts_of(dirs: ProjectDirs) -> dict[str, str]:
    """The stored facts of an app; empty if there are no valid ones."""
    try:
        return decoded(dirs, private.read(dirs.program, _MAX_BYTES) or b"")
    except UnsafeFileError:
        return {}


def decoded(app: ProjectDirs, data: bytes) -> dict[str, str]:
    """Decode facts; empty if the HMAC is not valid."""
    pairs = (line.partition("=") for line in os.fsdecode(data).splitlines())
    facts = {name: value for name, _, value in pairs if name in _FACTS}
    return facts if data == encoded(app, facts) else {}


def encoded(app: ProjectDirs, facts: Mapping[str, str]) -> bytes:
    """Encode facts as lines, and the HMAC as the last one."""
    # What a program has by default is not stored.
    given = {name: facts.get(name, "") for name in _FACTS if (name, facts.get(name)) != _DEFAULT}
    text = os.fsencode("".join(f"{name}={value}\n" for name, value in given.items() if value))
    code = app.mac.hex(b"program\0" + text, CODE_CHARS)
    return text + f"code={code}\n".encode("ascii")
