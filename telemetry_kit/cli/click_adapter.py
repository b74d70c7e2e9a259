"""The commands as a Click group, made from the same table as our own command line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

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


class Command(click.Command):
    """A Click command whose help is no error where it cannot be printed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words after the command."""
        from telemetry_kit.cli.output import guarded_help  # deferred: a host only mounts it

        return guarded_help(lambda: super(Command, self).parse_args(ctx, args), ctx.exit)


class Group(click.Group):
    """A Click group that lists its commands in the order of the table."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words after the group."""
        from telemetry_kit.cli.output import guarded_help  # deferred: as above

        return guarded_help(lambda: super(Group, self).parse_args(ctx, args), ctx.exit)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands)


class Unparsed(click.Command):
    """A command that receives the words after its name as they are."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep the words for the command's function."""
        ctx.args = list(args)
        return ctx.args


def build(app: str | None, prepare: Callable[[Any], None] | None = None) -> click.Group:
    """Make the Click group. Each of its commands is made when it is used.

    Args:
        app: the tool that recorded the events; None for the configured one.
        prepare: called with the Click context before a command.
    """
    set_prog(app)

    @click.pass_context
    def target(context: click.Context, /, **given: Any) -> None:
        context.obj = target_of(app, given)
        if prepare is not None:
            prepare(context)

    made = Group(
        "telemetry",
        callback=target,
        params=[
            click.Option([name], help=text, metavar=metavar)
            for name, (metavar, text) in GLOBAL_OPTIONS.items()
        ],
        help=HELP,
        short_help=SHORT_HELP,
        no_args_is_help=True,
        context_settings=CONTEXT_SETTINGS,
    )
    made.commands = Commands(command_of)
    return made


def command_of(row: Row, name: str) -> click.Command:
    """Make the Click command for one name of a command."""
    if name in COLD:

        @click.pass_context
        def unparsed(context: click.Context, /) -> None:
            context.exit(run_unparsed(name, context.obj, context.args))

        return Unparsed(name, callback=unparsed, help=row[2])

    from telemetry_kit.cli.invocation import parameters_of  # deferred: the table of options

    @click.pass_context
    def command(context: click.Context, /, **values: Any) -> None:
        context.exit(run(row, values, context.obj))

    parameters = parameters_of(row)
    # Click shows no help for an argument, so the help of the command contains it.
    arguments = [f"{p.metavar}: {p.help}" for p in parameters if p.is_argument]
    return Command(
        name,
        callback=command,
        params=[parameter_of(parameter) for parameter in parameters],
        help="\n\n".join([row[2], *arguments]),
        hidden=name != row[0][0],
        context_settings=CONTEXT_SETTINGS,
    )


def parameter_of(parameter: Parameter) -> click.Parameter:
    """Make the Click option or argument."""
    from telemetry_kit.cli.options import FLAG, TEXTS  # deferred: as above

    if parameter.is_argument:
        return click.Argument(
            [parameter.key],
            metavar=parameter.metavar,
            nargs=-1 if parameter.kind == TEXTS else 1,
            required=parameter.kind != TEXTS,
        )
    return click.Option(
        [*parameter.names, parameter.key],
        help=parameter.help,
        metavar=parameter.metavar,
        is_flag=parameter.kind == FLAG,
        multiple=parameter.kind == TEXTS,
        # A count is text here, so that its errors read the same with every parser.
        type=click.BOOL if parameter.kind == FLAG else click.STRING,
        default=False if parameter.kind == FLAG else parameter.default,
    )
