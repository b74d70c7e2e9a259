"""Hosts that use Typer: count their commands, or add `--telemetry / --no-telemetry`.

Example:
    >>> app = typer.Typer()
    >>> install(app, name="acme")
    >>> @app.callback()
    ... def main(telemetry: TelemetryOption = None) -> None: ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from telemetry_kit.integrations import click_commands, program
from telemetry_kit.integrations.click_flag import HELP, remember

TYPE_CHECKING = False
if TYPE_CHECKING:
    from telemetry_kit.integrations.program import Program, Role

TelemetryOption = Annotated[
    bool | None, typer.Option("--telemetry/--no-telemetry", help=HELP, callback=remember)
]
_PROGRAM = "_telemetry_kit_program"


def install(app: typer.Typer, *, name: str, prog: str | None = None, role: Role = None) -> None:
    """Count each command of a Typer program, and mount the commands of this library.

    Call it once, before the program runs; commands may be added later. Where the user has granted
    consent, each command that runs is recorded as `command.executed` and `command.completed` or
    `command.failed`, with its registered names (`db migrate`). Without a decision, the user is
    asked once the command line is accepted, before the command runs. `acme telemetry ...` has the
    commands of this library.

    Args:
        app: the app that the program calls.
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
    if not isinstance(app, typer.Typer):
        raise program.mistake(f"give the typer.Typer of the program, not {app!r:.60}")
    click_commands.check_not_running(TyperGroup)
    if program.GROUP in names_of(app):
        raise program.own_command(name)
    installed = program.install(name, prog, role, "click")
    if _PROGRAM in vars(app):
        return
    vars(app)[_PROGRAM] = installed
    follow_classes(app, installed)
    for method in ("command", "callback"):
        vars(app)[method] = then_follow(app, installed, getattr(app, method))


def names_of(app: typer.Typer) -> set[str | None]:
    """The names of the commands and groups that an app has."""
    commands = {
        info.name or (info.callback and info.callback.__name__.lower().replace("_", "-"))
        for info in app.registered_commands
    }
    groups = {
        one.name if isinstance(one.name, str) else one.typer_instance.info.name
        for one in app.registered_groups
        if one.typer_instance is not None
    }
    return {name for name in commands | groups if isinstance(name, str)}


def then_follow(
    app: typer.Typer, installed: Program, method: Callable[..., Any]
) -> Callable[..., Any]:
    """Wrap a method that registers a function, so that its class is replaced, too."""

    def register(*args: Any, **given: Any) -> Callable[..., Any]:
        decorator = method(*args, **given)

        def decorate(function: Any) -> Any:
            decorated = decorator(function)
            follow_classes(app, installed)
            return decorated

        return decorate

    return register


def follow_classes(app: typer.Typer, installed: Program) -> None:
    """Replace the classes of an app's group and of its first command.

    Typer makes its commands anew for each run: a group, or the only command of an app.
    """
    infos: list[tuple[Any, type]] = [(app.info, TyperGroup)]
    if app.registered_callback is not None:
        infos.append((app.registered_callback, TyperGroup))
    infos += [(info, TyperCommand) for info in app.registered_commands[:1]]
    for info, default in infos:
        # A class that was not given is None, or an object that stands for the default.
        given = info.cls if isinstance(info.cls, type) else None
        if given is None and info is app.registered_callback:
            continue  # the class of the app counts
        info.cls = followed_class(given or default, installed)


def followed_class(base: Any, installed: Program) -> Any:
    """A class of commands that follows each of its objects, as the root of a program."""
    if hasattr(base, _PROGRAM):
        return base

    def build(prepare: Callable[[Any], None]) -> Any:
        from telemetry_kit.cli import typer_adapter  # deferred: only these commands need it

        return typer.main.get_command(typer_adapter.build(installed.name, prepare))

    class Root(base):  # type: ignore[misc]
        def __init__(self, *args: Any, **given: Any) -> None:
            super().__init__(*args, **given)
            click_commands.follow_root(self, installed, build)

    Root.__name__ = base.__name__
    setattr(Root, _PROGRAM, installed)
    return Root
