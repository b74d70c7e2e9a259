"""`install()`: the parts that Click, Typer and argparse have in common.

A program loads this module at each start, so it loads nothing that asks or records.
"""

from __future__ import annotations

import os
import sys

from telemetry_kit import settings
from telemetry_kit._runtime import SUPPORTED, load, may_grant, runtime
from telemetry_kit.paths import is_app_name, user_folders

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from telemetry_kit.instrumentation.tracks import ActiveSpan

    RoleSource = str | Callable[[], str | None]
    Role = RoleSource | list[RoleSource] | tuple[RoleSource, ...] | None
    # The value of an option of the program, by its name; None if it was not given.
    OptionValue = Callable[[str], object]

# The name of the group with the commands of this library.
GROUP = "telemetry"
# Its line in the help of an argparse program, as in `cli.registry`, which a start does not load.
GROUP_HELP = "Show how you use a tool."


class Program:
    """A program whose commands are counted.

    Args:
        name: its app name.
        source: the `source` of its events, one of `catalog.SOURCES`.
        roles: where its role comes from, in this order.
    """

    __slots__ = ("is_asked", "name", "roles", "source")

    def __init__(self, name: str, source: str, roles: tuple[RoleSource, ...]) -> None:
        self.name = name
        self.source = source
        self.roles = roles
        # The question is asked once in a process, also if the answer was `later`.
        self.is_asked = False

    def ask(self, declare_all: Callable[[], None]) -> None:
        """Ask for consent where a person can answer; the question names the declared commands.

        Args:
            declare_all: declares each command of the program, if the question is asked.

        Raises:
            KeyboardInterrupt: the user pressed Ctrl-C at the question.
        """
        if self.is_asked or not SUPPORTED or runtime.is_vetoed() or not is_terminal():
            return
        self.is_asked = True
        folders = user_folders(self.name, runtime.environ)
        record = "" if folders is None else f"{folders[0]}/telemetry.enabled"
        if folders is None or (os.path.lexists(record) and not may_grant(record)):
            return  # there is no home, or the answer was `never`
        prompt = load("telemetry_kit.consent.prompt")  # deferred: only at a terminal
        if prompt is not None:
            prompt.ask_undecided(prepare=declare_all)

    def open_command(self, name: str, is_declared: bool, option: OptionValue) -> ActiveSpan | None:
        """Record the start of a command; None if nothing is recorded. It raises nothing.

        Args:
            name: the registered names of the command, joined by blanks.
            is_declared: whether the program registered it, so that it is no text of the user.
            option: returns the value of an option.
        """
        if runtime.is_off():
            return None
        if is_declared:
            declare(name)
        # deferred: only where the user may have granted consent
        tracks = load("telemetry_kit.instrumentation.tracks")
        spans = tracks and (runtime.spans or tracks.load_spans())
        if spans is None:
            return None
        found: ActiveSpan | None
        if not self.roles:
            found = spans.open_span("command.executed", {"command": name}, self.source)
            return found
        roles = load("telemetry_kit.integrations.roles")  # deferred: only a program with roles
        found = roles and roles.open_command(self, name, option)
        return found


def declare(name: str) -> None:
    """Let a registered command be stored in plain text; one that cannot be is a pseudonym."""
    if runtime.declare("command", name):
        return
    try:
        settings.allow_name("command", name)
    except Exception:
        return


def is_ours(words: list[str]) -> bool:
    """Whether the words of a command line name a command of this library."""
    if len(words) < 2 or words[0] != GROUP:
        return False
    from telemetry_kit.cli.registry import COMMANDS, GLOBAL_OPTIONS  # deferred: nearly never

    names = {name for row in COMMANDS for name in row[0]}
    return words[1] in names or words[1] in ("--help", "-h", *GLOBAL_OPTIONS)


def is_terminal() -> bool:
    """Whether stdin and stderr are terminals."""
    try:
        return sys.stdin.isatty() and sys.stderr.isatty()
    except (AttributeError, ValueError):
        return False


def install(name: str, prog: str | None, role: Role, source: str) -> Program:
    """Name the app and the commands that its users are told.

    Args:
        name: the app name.
        prog: the words that users type before a command of this library; by default those of
            `configure()`, else `<name> telemetry`.
        role: where the role comes from.
        source: the `source` of the events.

    Raises:
        ConfigurationError: a value cannot be used, or the process has another app.
    """
    if not is_app_name(name):
        raise mistake(
            f"name={name!r} is no file name: use 1 to 40 lower-case letters, digits, '-' and '_', "
            "beginning with a letter or digit"
        )
    now = settings.current()
    if now.app not in ("", name):
        raise mistake(
            f"name={name!r}: this process is the app {now.app!r} already, and a process is one app"
        )
    roles = role if isinstance(role, list | tuple) else () if role is None else (role,)
    for one in roles:
        if not (callable(one) or is_role_setting(one)):
            raise mistake(
                f"role={one!r}: write an option ('--role'), a variable ('$ACME_ROLE'), a key of a "
                "TOML or JSON file ('acme.toml:tool.role'), or give a function"
            )
    settings.configure(app=name, prog=prog or now.prog or f"{name} {GROUP}")
    return Program(name, source, tuple(roles))


def is_role_setting(text: object) -> bool:
    """Whether a text names an option, a variable, or a key of a file."""
    if not isinstance(text, str):
        return False
    path, colon, key = text.rpartition(":")
    is_file = bool(path and colon and key) and path.endswith((".toml", ".json"))
    return is_file or (text[:1] in ("-", "$") and len(text.strip("-$")) > 0)


def mistake(message: str) -> Exception:
    """The error for a mistake of the program's author."""
    from telemetry_kit.errors import ConfigurationError  # deferred: only for a mistake

    return ConfigurationError(f"install(): {message}")


def own_command(name: str) -> Exception:
    """The error for a program that has a command of this name already."""
    return mistake(
        f"the program {name!r} has a command {GROUP!r} already, and the commands of telemetry_kit "
        "are mounted under this name: rename it, or remove the line that mounts them"
    )
