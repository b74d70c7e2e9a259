"""Install the hooks of coding agents as files of our own, and take them away again.

A file of another author is never changed. A file is ours if all its hooks are, whatever its name.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import sysconfig

from telemetry_kit._runtime import PROGRAM, runtime
from telemetry_kit._version import __version__
from telemetry_kit.agents.hook_files import AGENTS, COMMAND, HooksError
from telemetry_kit.files import atomic, leftovers, private
from telemetry_kit.paths import OURS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from telemetry_kit.agents.hook_files import Agent, Document

MAX_BYTES = 1 << 20
# The states of the hooks of an agent. `PASTED` are ours in a file of the user.
MISSING, INSTALLED, PASTED, IN_THE_WAY = "missing", "installed", "pasted", "in the way"
_DESCRIPTION = "Opt-in, local usage telemetry: no prompts, no answers, no paths."


def program_of_hooks() -> tuple[str, str]:
    """The program that a hook runs, and further words before its options.

    It is `telemetry-kit` beside the running interpreter. A frozen program runs itself.

    Raises:
        HooksError: there is no such program, or its path is not UTF-8.
    """
    if getattr(sys, "frozen", False) and runtime.prog:
        words = runtime.prog.partition(" --app ")[0].partition(" ")[2]
        found = os.path.abspath(sys.executable)
    else:
        folders = [
            os.path.dirname(os.path.abspath(sys.executable)),
            sysconfig.get_path("scripts", f"{os.name}_user"),
        ]
        scripts = [os.path.join(folder, PROGRAM) for folder in folders]
        found, words = next((s for s in scripts if os.access(s, os.X_OK)), ""), ""
        if not found:
            raise HooksError(f"there is no program {scripts[0]}: install {PROGRAM} with pip")
    try:
        found.encode()
    except UnicodeEncodeError:
        raise HooksError(f"the path of the program is not UTF-8: {found!a}") from None
    return found, words


# -- what is on disk -----------------------------------------------------------------------------


class Found:
    """What lies at the place of an agent's hooks.

    Attributes:
        state: `MISSING`, `INSTALLED`, `PASTED` or `IN_THE_WAY`.
        path: the file with the hooks, or what is in the way.
        what: what is in the way, in words.
        apps: the apps whose events our hooks record.
        script: the program that they run.
    """

    __slots__ = ("apps", "path", "script", "state", "what")

    def __init__(self, state: str, path: str, what: str = "", commands: Sequence[str] = ()) -> None:
        self.state = state
        self.path = path
        self.what = what
        found = next(filter(None, map(COMMAND.fullmatch, commands)), None)
        self.apps = tuple(found["apps"].split()[1::2]) if found else ()
        self.script = found["script"][1:-1].replace("'\\''", "'") if found else ""

    @property
    def is_broken(self) -> bool:
        """Whether the program of the hooks is missing, so that they do nothing."""
        return bool(self.script) and not os.access(self.script, os.X_OK)


def find(agent: Agent, environ: Mapping[str, str]) -> Found:
    """Find the hooks of an agent.

    Raises:
        HooksError: there is no home directory.
    """
    folder = agent.settings_folder(environ)
    path = os.path.join(folder, agent.hooks)
    top = _top(agent, folder)
    # Any folder on the way may be a file, or a link of the user. Inside of ours, none may.
    for at in _folders_to(agent, folder):
        kind = _kind(at)
        is_ours = bool(top) and f"{at}/".startswith(f"{top}/")
        if kind and (is_ours or not os.path.isdir(at)):
            return Found(IN_THE_WAY, at, kind)
    commands = _commands(path)
    ours = [command for command in commands if COMMAND.fullmatch(command)]
    kind = _kind(path, is_file=True)
    if ours and ours == commands and not kind:
        return Found(INSTALLED, path, "", commands)
    if ours:
        return Found(PASTED, path, kind or "a file with other hooks", commands)
    if kind or os.path.lexists(path):
        what = "a file with other hooks" if commands else "a file without hooks of ours"
        return Found(IN_THE_WAY, path, kind or what)
    if top and _is_foreign(agent, folder, top):
        return Found(IN_THE_WAY, top, "a folder with other files")
    return Found(MISSING, path)


def _top(agent: Agent, folder: str) -> str:
    """The folder that is ours as a whole; empty if only a file is."""
    return os.path.join(folder, *agent.hooks.split("/")[:2]) if agent.manifest else ""


def _folders_to(agent: Agent, folder: str) -> Iterator[str]:
    """The folder of an agent, and those between it and each of our files, from the top down."""
    yield folder
    for name in filter(None, (agent.hooks, agent.manifest)):
        at = folder
        for part in name.split("/")[:-1]:
            at = os.path.join(at, part)
            yield at


def _kind(path: str, is_file: bool = False) -> str:
    """What a path is, in words; empty if it is missing or as expected."""
    try:
        mode = os.lstat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        return f"unreadable: {private.explain(error)}"
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    if stat.S_ISDIR(mode):
        return "a folder" if is_file else ""
    if stat.S_ISREG(mode):
        return "" if is_file else "a file"
    return "no plain file"


def _is_foreign(agent: Agent, folder: str, top: str) -> bool:
    """Whether a folder without hooks has anything that an installation does not create."""
    ours = {os.path.join(folder, name) for name in (agent.hooks, agent.manifest)}
    ours |= {os.path.dirname(path) for path in ours}
    for above, folders, files in os.walk(top):
        paths = {os.path.join(above, name) for name in [*folders, *files]}
        if any(p not in ours and not leftovers.target_of(os.path.basename(p)) for p in paths):
            return True
    manifest = os.path.join(folder, agent.manifest)
    return os.path.lexists(manifest) and not _is_manifest(manifest)


def _is_manifest(path: str) -> bool:
    """Whether a file is our manifest, of any version."""
    found = _read(path)
    return (found.get("name"), found.get("description")) == (OURS, _DESCRIPTION)


def _read(path: str) -> Document:
    """The JSON object in a file; empty if there is none."""
    try:
        found = json.loads(private.read_regular(path, MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _commands(path: str) -> list[str]:
    """The commands of all hooks in a file, of any agent; an empty string for another hook."""
    events = _read(path).get("hooks")
    found: list[str] = []
    for entries in events.values() if isinstance(events, dict) else ():
        for entry in entries if isinstance(entries, list) else [entries]:
            inner = entry.get("hooks", [entry]) if isinstance(entry, dict) else [entry]
            for hook in inner if isinstance(inner, list) else [inner]:
                command = hook.get("command") if isinstance(hook, dict) else None
                found.append(command if isinstance(command, str) else "")
    return found


# -- install and uninstall -----------------------------------------------------------------------


def content(agent: Agent, apps: Sequence[str]) -> str:
    """The file with the hooks of an agent, for the user to read or to paste.

    Raises:
        HooksError: the program of the hooks cannot be found.
    """
    return json.dumps(agent.document(*program_of_hooks(), apps), indent=2) + "\n"


def install(agent: Agent, app: str, environ: Mapping[str, str]) -> tuple[Found, bool]:
    """Install the hooks of an agent for an app, beside those for other apps.

    Args:
        agent: the agent.
        app: the app.
        environ: the environment variables.

    Returns:
        What is there now, and whether anything was changed. Nothing is if a file of another author
        is in the way.

    Raises:
        HooksError: there is no home directory, or the program of the hooks cannot be found.
        OSError: the files could not be written.
    """
    found = find(agent, environ)
    if found.state in (PASTED, IN_THE_WAY):
        return found, False
    apps = found.apps if app in found.apps else (*found.apps, app)
    is_changed = _write(agent, apps, environ)
    return find(agent, environ), is_changed


def _write(agent: Agent, apps: Sequence[str], environ: Mapping[str, str]) -> bool:
    """Write the files of an agent, and return whether one of them changed."""
    folder = agent.settings_folder(environ)
    files = {agent.hooks: content(agent, apps).encode()}
    if agent.manifest:
        manifest = {"name": OURS, "version": __version__, "description": _DESCRIPTION}
        # Without hooks the manifest does nothing, so it is first.
        files = {agent.manifest: (json.dumps(manifest, indent=2) + "\n").encode(), **files}
    changed = False
    for name, data in files.items():
        path = os.path.join(folder, name)
        if _bytes_of(path) == data:
            continue
        if os.path.lexists(path):
            atomic.replace(path, data)
        else:
            atomic.create(path, data)
        changed = True
    return changed


def _bytes_of(path: str) -> bytes:
    try:
        return private.read_regular(path, MAX_BYTES, follow=False)
    except OSError:
        return b""


def uninstall(agent: Agent, app: str, environ: Mapping[str, str]) -> tuple[Found, bool]:
    """Take away the hooks of an agent for an app; the last app takes the files away.

    Args:
        agent: the agent.
        app: the app.
        environ: the environment variables.

    Returns:
        What was there, and whether anything was changed.

    Raises:
        HooksError: there is no home directory, or the program for other apps cannot be found.
        OSError: a file could not be deleted.
    """
    found = find(agent, environ)
    if found.state != INSTALLED or app not in found.apps:
        return found, False
    rest = [other for other in found.apps if other != app]
    if rest:
        return found, _write(agent, rest, environ)
    folder = agent.settings_folder(environ)
    for name in filter(None, (agent.hooks, agent.manifest)):
        path = os.path.join(folder, name)
        if name == agent.hooks or _is_manifest(path):
            private.remove(path)
        leftovers.sweep(os.path.dirname(path))
        if agent.manifest:
            _remove_if_empty(os.path.dirname(path))
    if agent.manifest:
        _remove_if_empty(_top(agent, folder))
    return found, True


def uninstall_all(
    app: str, environ: Mapping[str, str], agents: Sequence[Agent] = AGENTS
) -> tuple[list[str], list[str]]:
    """Take away the hooks of several agents for an app.

    Returns:
        The files that were deleted or changed, and a sentence for each one that remains.
    """
    deleted: list[str] = []
    failures: list[str] = []
    for agent in agents:
        try:
            found, is_changed = uninstall(agent, app, environ)
        except (HooksError, OSError) as error:
            failures.append(f"the hooks of {agent.title} ({reason(error)})")
            continue
        if is_changed:
            deleted.append(found.path)
        elif app in found.apps:
            what = f"{found.path} is {found.what}"
            failures.append(f"{what}: delete the hooks with --app {app} there yourself")
    return deleted, failures


def reason(error: HooksError | OSError) -> str:
    """Why an installation failed."""
    if isinstance(error, HooksError):
        return str(error)
    return (
        f"{error.filename}: {private.explain(error)}" if error.filename else private.explain(error)
    )


def _remove_if_empty(folder: str) -> None:
    try:
        os.rmdir(folder)
    except OSError:
        return  # the user has files in it
