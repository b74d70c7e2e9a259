"""The commands as a Click group, made from the same table as our own command line."""

from __future__ import annotations

from typing import Any

import click

from telemetry_kit.cli.invocation import CONTEXT_SETTINGS, Command, mounted
from telemetry_kit.cli.options import FLAG, TEXTS, Argument, Option
from telemetry_kit.cli.registry import GLOBAL_OPTIONS, HELP


class _Group(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of the table, as everywhere else


def build(app: str | None) -> click.Group:
    """Make the Click group.

    Args:
        app: the tool whose events are meant; None for the configured one.
    """

    @click.pass_context
    def target(context: click.Context, /, **given: Any) -> None:
        context.obj = (app if given["app"] is None else given["app"], given["project"])

    made = _Group(
        "telemetry",
        callback=target,
        params=[
            click.Option([name], metavar=metavar, help=text)
            for name, (metavar, text) in GLOBAL_OPTIONS.items()
        ],
        help=HELP,
        no_args_is_help=True,
        context_settings=CONTEXT_SETTINGS,
    )
    for command in mounted():
        for name in command.names:
            made.add_command(_command(command, name))
    return made


def _command(command: Command, name: str) -> click.Command:
    @click.pass_context
    def run(context: click.Context, /, **values: Any) -> None:
        context.exit(command.run(context.obj, values))

    # Click has no place of its own for the help of an argument.
    arguments = [f"{p.metavar}: {p.help}" for p in command.parameters if isinstance(p, Argument)]
    return click.Command(
        name,
        callback=run,
        params=[_parameter(parameter) for parameter in command.parameters],
        help="\n\n".join([command.help, *arguments]),
        hidden=name != command.names[0],
        context_settings=CONTEXT_SETTINGS,
    )


def _parameter(parameter: Option | Argument) -> click.Parameter:
    if isinstance(parameter, Argument):
        return click.Argument(
            [parameter.key],
            metavar=parameter.metavar,
            nargs=-1 if parameter.many else 1,
            required=not parameter.many,
        )
    return click.Option(
        [*parameter.names, parameter.key],
        help=parameter.help,
        metavar=parameter.metavar,
        is_flag=parameter.kind == FLAG,
        multiple=parameter.kind == TEXTS,
        # A count is text here, so that every parser's mistake is told in the same words.
        type=click.BOOL if parameter.kind == FLAG else click.STRING,
        default=False if parameter.kind == FLAG else parameter.default,
    )
