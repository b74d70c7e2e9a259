"""The commands as a Typer app, made from the same table as our own command line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from telemetry_kit.cli.mounting import (
    CONTEXT_SETTINGS,
    Commands,
    run,
    run_unparsed,
    set_prog,
    target_of,
)
from telemetry_kit.cli.registry import COLD, GLOBAL_OPTIONS, HELP, SHORT_HELP, Row

TYPE_CHECKING = False
if TYPE_CHECKING:
    from telemetry_kit.cli.options import Parameter


class Command(TyperCommand):
    """A Typer command whose help is no error where it cannot be printed."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the command."""
        from telemetry_kit.cli.output import guarded_help  # deferred: a host only mounts it

        return guarded_help(lambda: super(Command, self).parse_args(ctx, args), ctx.exit)


class Group(TyperGroup):
    """A Typer group that makes each of its commands when it is used."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = Commands(command_of)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words after the group."""
        from telemetry_kit.cli.output import guarded_help  # deferred: as above

        return guarded_help(lambda: super(Group, self).parse_args(ctx, args), ctx.exit)


class Unparsed(TyperCommand):
    """A command that receives the words after its name as they are."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep the words for the command's function."""
        ctx.args = list(args)
        return list(args)


def build(app: str | None, prepare: Callable[[Any], None] | None = None) -> typer.Typer:
    """Make the Typer app. Each of its commands is made when it is used.

    Args:
        app: the tool that recorded the events; None for the configured one.
        prepare: called with the Typer context before a command.
    """
    set_prog(app)
    made = typer.Typer(
        name="telemetry",
        cls=Group,
        help=HELP,
        short_help=SHORT_HELP,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings=CONTEXT_SETTINGS,
    )

    def target(context: typer.Context, **given: Any) -> None:
        context.obj = target_of(app, given)
        if prepare is not None:
            prepare(context)

    options = {
        name.removeprefix("--"): (
            str | None,
            typer.Option(name, help=text, metavar=metavar, show_default=False),
            None,
        )
        for name, (metavar, text) in GLOBAL_OPTIONS.items()
    }
    made.callback()(with_parameters(target, options))
    return made


def command_of(row: Row, name: str) -> Any:
    """Make the command for one name of a command, as an app with this command alone."""
    made = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    function: Callable[..., None]
    if name in COLD:

        def unparsed(context: typer.Context) -> None:
            raise typer.Exit(run_unparsed(name, context.obj, context.args))

        function = with_parameters(unparsed, {})
    else:
        from telemetry_kit.cli.invocation import parameters_of  # deferred: the table of options

        def command(context: typer.Context, **values: Any) -> None:
            raise typer.Exit(run(row, values, context.obj))

        function = with_parameters(command, {p.key: of(p) for p in parameters_of(row)})
    made.command(
        name,
        cls=Unparsed if name in COLD else Command,
        help=row[2],
        hidden=name != row[0][0],
        context_settings=CONTEXT_SETTINGS,
    )(function)
    return typer.main.get_command(made)


def of(parameter: Parameter) -> tuple[Any, Any, Any]:
    """The type, the description and the default of an option or argument."""
    from telemetry_kit.cli.options import FLAG, TEXTS  # deferred: as above

    if parameter.is_argument:
        info = typer.Argument(metavar=parameter.metavar, help=parameter.help, show_default=False)
        return (list[str] | None, info, None) if parameter.kind == TEXTS else (str, info, ...)
    option = typer.Option(
        *parameter.names, help=parameter.help, metavar=parameter.metavar, show_default=False
    )
    if parameter.kind == FLAG:
        return bool, option, False
    # A count is text here, so that its errors read the same with every parser.
    kind: Any = list[str] | None if parameter.kind == TEXTS else str | None
    return kind, option, parameter.default and str(parameter.default)


def with_parameters(
    function: Callable[..., None], parameters: dict[str, tuple[Any, Any, Any]]
) -> Callable[..., None]:
    """Replace the `**` of a function by named parameters: Typer reads them from its signature."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    made = [inspect.Parameter("context", kind, annotation=typer.Context)]
    for key, (annotation, info, default) in parameters.items():
        value = inspect.Parameter.empty if default is ... else default
        made.append(
            inspect.Parameter(key, kind, default=value, annotation=Annotated[annotation, info])
        )
    function.__signature__ = inspect.Signature(made)  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in made}
    return function
