"""The commands as a Click group, made from the same table as our own command line."""

from __future__ import annotations

from typing import Any

import click

from telemetry_kit.cli.invocation import CONTEXT_SETTINGS, MOUNTED, Row, parameters_of, run_command
from telemetry_kit.cli.options import FLAG, GLOBALS, TEXTS, Parameter
from telemetry_kit.cli.output import guarded, guarded_help
from telemetry_kit.cli.registry import HELP


class Command(click.Command):
    """A Click command whose help is no error where it cannot be printed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words after the command."""
        return guarded_help(lambda: super(Command, self).parse_args(ctx, args), ctx.exit)


class Group(click.Group):
    """A Click group that lists its commands in the order of the table."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words after the group."""
        return guarded_help(lambda: super(Group, self).parse_args(ctx, args), ctx.exit)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands."""
        return list(self.commands)


def build(app: str | None) -> click.Group:
    """Make the Click group.

    Args:
        app: the tool that recorded the events; None for the configured one.
    """

    @click.pass_context
    def target(context: click.Context, /, **given: Any) -> None:
        context.obj = (app if given["app"] is None else given["app"], given["project"])

    made = Group(
        "telemetry",
        callback=target,
        params=[parameter_of(option) for option in GLOBALS],
        help=HELP,
        no_args_is_help=True,
        context_settings=CONTEXT_SETTINGS,
    )
    for row in MOUNTED:
        for name in row[0]:
            made.add_command(command_of(row, name))
    return made


def command_of(row: Row, name: str) -> click.Command:
    """Make the Click command for one name of a command."""

    @click.pass_context
    def run(context: click.Context, /, **values: Any) -> None:
        context.exit(guarded(lambda: run_command(row, values, *context.obj)))

    parameters = parameters_of(row)
    # Click shows no help for an argument, so the help of the command contains it.
    arguments = [f"{p.metavar}: {p.help}" for p in parameters if p.is_argument]
    return Command(
        name,
        callback=run,
        params=[parameter_of(parameter) for parameter in parameters],
        help="\n\n".join([row[2], *arguments]),
        hidden=name != row[0][0],
        context_settings=CONTEXT_SETTINGS,
    )


def parameter_of(parameter: Parameter) -> click.Parameter:
    """Make the Click option or argument."""
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
