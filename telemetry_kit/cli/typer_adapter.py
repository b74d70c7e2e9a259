"""The commands as a Typer app, made from the same table as our own command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
import typer.core

from telemetry_kit.cli.invocation import CONTEXT_SETTINGS, MOUNTED, Row, parameters_of, run_command
from telemetry_kit.cli.options import FLAG, GLOBALS, TEXTS, Parameters
from telemetry_kit.cli.output import guarded, guarded_help
from telemetry_kit.cli.registry import HELP


class Command(typer.core.TyperCommand):
    """A Typer command whose help is no error where it cannot be printed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the command."""
        return guarded_help(lambda: super(Command, self).parse_args(ctx, args), ctx.exit)


class Group(typer.core.TyperGroup):
    """A Typer group whose help is no error where it cannot be printed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the group."""
        return guarded_help(lambda: super(Group, self).parse_args(ctx, args), ctx.exit)


def build(app: str | None) -> typer.Typer:
    """Make the Typer app.

    Args:
        app: the tool that recorded the events; None for the configured one.
    """
    made = typer.Typer(
        name="telemetry",
        cls=Group,
        help=HELP,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=CONTEXT_SETTINGS,
    )

    def target(context: typer.Context, **given: Any) -> None:
        context.obj = (app if given["app"] is None else given["app"], given["project"])

    made.callback()(with_parameters(target, GLOBALS))
    for row in MOUNTED:
        for name in row[0]:
            made.command(
                name,
                cls=Command,
                help=row[2],
                hidden=name != row[0][0],
                context_settings=CONTEXT_SETTINGS,
            )(function_of(row))
    return made


def function_of(row: Row) -> Callable[..., None]:
    """Make the function that Typer calls for a command."""

    def run(context: typer.Context, **values: Any) -> None:
        raise typer.Exit(guarded(lambda: run_command(row, values, *context.obj)))

    return with_parameters(run, parameters_of(row))


def with_parameters(function: Callable[..., None], parameters: Parameters) -> Callable[..., None]:
    """Replace the `**` of a function by named parameters: Typer reads them from its signature."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    made = [inspect.Parameter("context", kind, annotation=typer.Context)]
    for parameter in parameters:
        annotation: Any
        default: Any
        if parameter.is_argument:
            info = typer.Argument(
                metavar=parameter.metavar, help=parameter.help, show_default=False
            )
            annotation, default = str, inspect.Parameter.empty
            if parameter.kind == TEXTS:
                annotation, default = list[str] | None, None
        else:
            info = typer.Option(
                *parameter.names, help=parameter.help, metavar=parameter.metavar, show_default=False
            )
            # A count is text here, so that its errors read the same with every parser.
            annotation, default = str | None, parameter.default and str(parameter.default)
            if parameter.kind == FLAG:
                annotation, default = bool, False
            elif parameter.kind == TEXTS:
                annotation = list[str] | None
        made.append(
            inspect.Parameter(
                parameter.key, kind, default=default, annotation=Annotated[annotation, info]
            )
        )
    function.__signature__ = inspect.Signature(made)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in made}
    return function
