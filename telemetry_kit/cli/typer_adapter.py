"""The commands as a Typer app, made from the same table as our own command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from telemetry_kit.cli.invocation import CONTEXT_SETTINGS, Command, mounted
from telemetry_kit.cli.options import FLAG, TEXTS, Argument, Option
from telemetry_kit.cli.registry import GLOBAL_OPTIONS, HELP


def build(app: str | None) -> typer.Typer:
    """Make the Typer app.

    Args:
        app: the tool whose events are meant; None for the configured one.
    """
    made = typer.Typer(
        name="telemetry",
        help=HELP,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=CONTEXT_SETTINGS,
    )

    def target(context: typer.Context, **given: Any) -> None:
        context.obj = (app if given["app"] is None else given["app"], given["project"])

    made.callback()(_signed(target, [_global(name) for name in GLOBAL_OPTIONS]))
    for command in mounted():
        for name in command.names:
            made.command(
                name,
                help=command.help,
                hidden=name != command.names[0],
                context_settings=CONTEXT_SETTINGS,
            )(_function(command))
    return made


def _function(command: Command) -> Callable[..., None]:
    def run(context: typer.Context, **values: Any) -> None:
        raise typer.Exit(command.run(context.obj, values))

    return _signed(run, [_parameter(parameter) for parameter in command.parameters])


_KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD


def _signed(
    function: Callable[..., None], parameters: list[inspect.Parameter]
) -> Callable[..., None]:
    """A function with named parameters instead of `**`: Typer reads them from its signature."""
    context = inspect.Parameter("context", _KEYWORD, annotation=typer.Context)
    function.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in (context, *parameters)}
    return function


def _global(name: str) -> inspect.Parameter:
    metavar, text = GLOBAL_OPTIONS[name]
    option = typer.Option(name, metavar=metavar, help=text)
    key = name.removeprefix("--")
    return inspect.Parameter(key, _KEYWORD, default=None, annotation=Annotated[str | None, option])


def _parameter(parameter: Option | Argument) -> inspect.Parameter:
    kind: Any
    default: Any
    if isinstance(parameter, Argument):
        made = typer.Argument(metavar=parameter.metavar, help=parameter.help, show_default=False)
        kind, default = (
            (list[str] | None, None) if parameter.many else (str, inspect.Parameter.empty)
        )
    else:
        made = typer.Option(
            *parameter.names, help=parameter.help, metavar=parameter.metavar, show_default=False
        )
        # A count is text here, so that every parser's mistake is told in the same words.
        kind, default = str | None, parameter.default and str(parameter.default)
        if parameter.kind == FLAG:
            kind, default = bool, False
        elif parameter.kind == TEXTS:
            kind = list[str] | None
    return inspect.Parameter(
        parameter.key, _KEYWORD, default=default, annotation=Annotated[kind, made]
    )
