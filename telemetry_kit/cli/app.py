"""The interactive commands as a Typer app, for our own command line and for a host's.

Each command is one file with one function of its name; this one only gathers them.
"""

from __future__ import annotations

import functools
from importlib import import_module
from typing import Annotated, Any

import typer

from telemetry_kit.cli import COLD, COMMANDS, command_at
from telemetry_kit.cli.maintenance import look_after
from telemetry_kit.cli.naming import name_app
from telemetry_kit.cli.terminal import (
    FAILED,
    INTERRUPTED,
    USAGE,
    Problem,
    flush,
    no_folder,
    refused,
    say,
    stop_output,
)
from telemetry_kit.errors import TelemetryError
from telemetry_kit.latch import SUPPORTED, UNSUPPORTED

# Where no command works, no argument is wrong.
_ANYTHING = {"ignore_unknown_options": True, "allow_extra_args": True}


def _unsupported(context: typer.Context) -> None:
    say(f"telemetry-kit: {UNSUPPORTED}.")
    raise typer.Exit(FAILED)


class Place:
    """Which app and project a command is about; commands get it as `context.obj`.

    Args:
        app: the app's name; None for the one that the host configured, or that fits.
        project: a folder inside the project; None for the working directory.
    """

    __slots__ = ("app", "project")

    def __init__(self, app: str | None, project: str | None) -> None:
        self.app = app
        self.project = project


def build(app: str | None = None, only: str | None = None) -> typer.Typer:
    """A Typer app with the interactive commands.

    Args:
        app: the app whose events are meant; None for the configured one.
        only: load just this command, to start faster.
    """
    made = typer.Typer(
        name="telemetry",
        help="See how you use this tool: local, opt-in, and nothing leaves this machine.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    made.callback()(_global(app))
    for names, room, text in COMMANDS:
        if names[0] in COLD or (only is not None and only not in names):
            continue
        if not SUPPORTED:
            for name in names:
                made.command(name, help=text, hidden=name != names[0], context_settings=_ANYTHING)(
                    _unsupported
                )
            continue
        function = getattr(import_module(f"telemetry_kit.cli.{room}"), room)
        for name in names:
            speaking = _speaking(names[0], function)
            made.command(name, help=text, hidden=name != names[0])(speaking)
    return made


def run(args: list[str]) -> int:
    """Run one command of our own command line.

    Returns:
        The exit code.
    """
    at = command_at(args)
    try:
        code = build(only=None if at is None else args[at])(
            args, prog_name="telemetry-kit", standalone_mode=False
        )
    except typer.Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except Exception as error:
        shown = getattr(error, "format_message", None)
        if shown is None:
            raise
        say(f"telemetry-kit: {shown()}")
        return USAGE
    return code if isinstance(code, int) else 0


def _global(app: str | None) -> Any:
    def options(
        context: typer.Context,
        name: Annotated[
            str | None,
            typer.Option("--app", metavar="NAME", help="The tool whose events are meant."),
        ] = None,
        project: Annotated[
            str | None,
            typer.Option("--project", metavar="DIR", help="A folder inside the project."),
        ] = None,
    ) -> None:
        context.obj = Place(name if name is not None else app, project)

    return options


def _speaking(name: str, function: Any) -> Any:
    """The command, with its problems told in one sentence and their exit codes."""

    @functools.wraps(function)
    def command(*args: Any, **kwargs: Any) -> None:
        code = 0
        place = _place(args, kwargs)
        try:
            try:
                _begin(name, place)
                function(*args, **kwargs)
            except typer.Exit as done:
                code = done.exit_code
            flush()
        except Problem as problem:
            say(f"telemetry-kit: {problem}")
            raise typer.Exit(problem.code) from None
        except TelemetryError as error:
            say(f"telemetry-kit: {error}")
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            say()
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            stop_output()  # the reader has seen enough
        except OSError as error:
            stop_output()
            say(f"telemetry-kit: {refused(error)}")
            raise typer.Exit(FAILED) from None
        finally:
            look_after(None if place is None else place.project)
        if code:
            raise typer.Exit(code)

    return command


def _place(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Place | None:
    # By attribute: Typer brings a Click of its own, whose context is no `typer.Context`.
    found = [getattr(given, "obj", None) for given in (*args, *kwargs.values())]
    return next((obj for obj in found if isinstance(obj, Place)), None)


def _begin(name: str, place: Place | None) -> None:
    """Find the app and the project that a command is about.

    Raises:
        Problem: there is no such folder, several apps fit, or the name is none.
    """
    mistake = no_folder(None if place is None else place.project)
    if mistake:
        raise Problem(mistake, USAGE)
    name_app(name, *((None, None) if place is None else (place.app, place.project)))
