"""The hooks of each coding agent: the file in which they lie, and the content of that file."""

from __future__ import annotations

import os
import re

from telemetry_kit.agents import formats
from telemetry_kit.errors import TelemetryError
from telemetry_kit.paths import OURS, user_home

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    Document = dict[str, Any]

TIMEOUT_SECONDS = 5
# A word in single quotes, as a shell reads it.
_QUOTED = r"'(?:[^']|'\\'')*'"
# A command of ours.
COMMAND = re.compile(
    rf"\[ -x (?P<script>{_QUOTED}) \] && exec (?P=script)(?: [\w./:+@%=-]+)*?"
    r"(?P<apps>(?: --app [a-z0-9][a-z0-9_-]*)+) hook [a-z]+ [A-Za-z]+; exit 0",
)


class HooksError(TelemetryError):
    """The hooks of an agent cannot be installed or taken away; the message says why."""


class Agent:
    """One coding agent: where its hooks lie, and which ones are installed.

    Args:
        name: its name on the command line, and that of its program.
        title: its name in messages.
        variable: the environment variable that names another folder of its settings, or
            `VARIABLE/FOLDER` if the folder lies in the one of the variable; empty if there is none.
        hooks: the file with the hooks in that folder.
        manifest: the file that makes a plugin of the folder around both; empty if there is none.
        remark: what the user must do after the installation; empty for nothing.
    """

    __slots__ = ("hooks", "manifest", "name", "remark", "title", "variable")

    def __init__(
        self,
        name: str,
        title: str,
        variable: str,
        hooks: str,
        manifest: str = "",
        remark: str = "",
    ) -> None:
        self.name = name
        self.title = title
        self.variable = variable
        self.hooks = hooks
        self.manifest = manifest
        self.remark = remark

    @property
    def invoker(self) -> str:
        """Its name in the field `invoker` of events."""
        return formats.INVOKERS.get(self.name, self.name)

    @property
    def events(self) -> dict[str, str]:
        """The events that are read, each with the matcher of its hook, or an empty string."""
        hooks = formats.HOOKS[self.name]
        return {event: "|".join(hook.tools) for event, hook in hooks.items()}

    @property
    def is_shared(self) -> bool:
        """Whether the hooks of the user lie in the same file, so it is only written if missing."""
        return not self.manifest and OURS not in self.hooks

    def settings_folder(self, environ: Mapping[str, str]) -> str:
        """The folder of its settings.

        Raises:
            HooksError: there is no home directory.
        """
        variable, _, inside = self.variable.partition("/")
        given = environ.get(variable, "") if variable else ""
        if given:
            return os.path.abspath(os.path.join(given, inside)).rstrip("/")
        home = user_home(environ)
        if not os.path.isabs(home):
            raise HooksError("there is no home directory")
        return os.path.join(home, f".{self.name}")

    def is_present(self, environ: Mapping[str, str]) -> bool:
        """Whether the user has this agent: its folder or its program is there."""
        from shutil import which  # deferred: only an installation for all agents needs it

        folder = self.settings_folder(environ)
        return os.path.isdir(folder) or which(self.name, path=environ.get("PATH")) is not None

    def document(self, script: str, words: str, apps: Sequence[str]) -> Document:
        """Make the content of the file with the hooks.

        Args:
            script: the absolute path of the program.
            words: further words before the options; empty for our own program.
            apps: the apps whose events are recorded.
        """
        hooks: Document = {}
        for event, matcher in self.events.items():
            command = command_of(script, words, apps, self.name, event)
            hooks[event] = [_entry(self.name, event, command, matcher)]
        version = {"version": 1} if self.name in ("copilot", "cursor") else {}
        return {**version, "hooks": hooks}


def _entry(agent: str, event: str, command: str, matcher: str) -> Document:
    """Make one hook. An empty matcher is left out: Copilot refuses a file that has one."""
    if agent == "cursor":
        return {"command": command, "timeout": TIMEOUT_SECONDS}
    hook: Document = {"type": "command", "command": command}
    if agent == "copilot":
        return {**hook, "timeoutSec": TIMEOUT_SECONDS}
    if agent == "gemini":
        hook = {"name": OURS, **hook, "timeout": TIMEOUT_SECONDS * 1_000}
    else:
        hook["timeout"] = TIMEOUT_SECONDS
    if agent == "claude" and event != "Stop":
        # `claude -p` exits after this event, and ends a hook that it does not wait for.
        hook["async"] = True
    return {**({"matcher": matcher} if matcher else {}), "hooks": [hook]}


AGENTS = (
    Agent(
        "claude",
        "Claude Code",
        "CLAUDE_CONFIG_DIR",
        f"skills/{OURS}/hooks/hooks.json",
        f"skills/{OURS}/.claude-plugin/plugin.json",
    ),
    Agent("copilot", "Copilot CLI and VS Code", "COPILOT_HOME", f"hooks/{OURS}.json"),
    Agent(
        "codex",
        "Codex",
        "CODEX_HOME",
        "hooks.json",
        remark="Codex runs a hook only after you trust it: type /hooks in Codex.",
    ),
    Agent(
        "gemini",
        "Gemini CLI",
        "GEMINI_CLI_HOME/.gemini",
        f"extensions/{OURS}/hooks/hooks.json",
        f"extensions/{OURS}/gemini-extension.json",
    ),
    Agent("cursor", "Cursor", "", "hooks.json"),
)
NAMES = tuple(agent.name for agent in AGENTS)


def command_of(script: str, words: str, apps: Sequence[str], agent: str, event: str) -> str:
    """The command of a hook, as one string: Copilot drops separate arguments.

    If the program was uninstalled, the command does nothing and succeeds.
    """
    quoted = quote(script)
    options = " ".join(f"--app {app}" for app in apps)
    before = f" {words}" if words else ""
    return f"[ -x {quoted} ] && exec {quoted}{before} {options} hook {agent} {event}; exit 0"


def quote(text: str) -> str:
    """Write a text as one word of a shell, always in single quotes."""
    return "'" + text.replace("'", "'\\''") + "'"
