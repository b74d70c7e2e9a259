"""Hosts that use Click or rich-click: count their commands, or add `--telemetry / --no-telemetry`.

Example:
    >>> @click.group()
    ... def app() -> None: ...
    >>> install(app, name="acme")
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from telemetry_kit.integrations import click_commands, program
from telemetry_kit.integrations.click_flag import HELP, remember

TYPE_CHECKING = False
if TYPE_CHECKING:
    from telemetry_kit.integrations.program import Role

F = TypeVar("F", bound=Callable[..., Any])


def install(app: click.Command, *, name: str, prog: str | None = None, role: Role = None) -> None:
    """Count each command of a Click program, and mount the commands of this library.

    Call it once, before the program runs. Where the user has granted consent, each command that
    runs is recorded as `command.executed` and `command.completed` or `command.failed`, with its
    registered names (`db migrate`). Without a decision, the user is asked once the command line is
    accepted, before the command runs. `acme telemetry ...` has the commands of this library.

    Args:
        app: the group, or the command, that the program calls.
        name: the app name, as in `configure(app=...)`.
        prog: the words that users type before a command of this library; `<name> telemetry` by
            default.
        role: where the acting role comes from: an option (`"--role"`), a variable
            (`"$ACME_ROLE"`), a key of a TOML or JSON file (`"acme.toml:tool.role"`), a function
            without arguments, or a list of these. The first that has a value counts.

    Raises:
        ConfigurationError: a value cannot be used, the process has another app, the program has a
            command `telemetry`, or it runs already.
    """
    if not isinstance(app, click.Command):
        raise program.mistake(f"give the command or group of Click, not {app!r:.60}")
    click_commands.check_not_running(click.Command)
    if program.GROUP in getattr(app, "commands", {}):
        raise program.own_command(name)
    installed = program.install(name, prog, role, "click")

    def build(prepare: Callable[[Any], None]) -> Any:
        from telemetry_kit.cli import click_adapter  # deferred: only these commands need it

        return click_adapter.build(name, prepare)

    click_commands.follow_root(app, installed, build)


def telemetry_option(function: F) -> F:
    """Add the option to a command. The decision is saved; the function does not receive it.

    Example:
        >>> @click.command()
        ... @telemetry_option
        ... def main() -> None: ...
    """
    made: F = click.option(
        "--telemetry/--no-telemetry",
        default=None,
        expose_value=False,
        help=HELP,
        callback=remember,
    )(function)
    return made
