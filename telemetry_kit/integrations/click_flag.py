"""The flag that Click and Typer share: it decides once the command line is valid.

Neither of the two is imported here.
"""

from __future__ import annotations

from typing import Any

from telemetry_kit.integrations.flag import decide


def remember(context: Any, parameter: Any, value: bool | None) -> bool | None:
    """The callback of the option: decide when the command is about to run.

    By then every other option and argument was accepted, and `--help` was not asked for. A group
    runs before the words of its subcommand are looked at.

    Args:
        context: Click's or Typer's context.
        parameter: the option.
        value: what was given; None when nothing was.

    Returns:
        The same value.
    """
    # Completion parses what was typed so far; pressing Tab decides nothing.
    if value is not None and not context.resilient_parsing:
        _before_running(context, value, _is_typed(context, parameter))
    return value


def _is_typed(context: Any, parameter: Any) -> bool:
    # By name: Typer brings a Click of its own, whose sources are no members of Click's.
    source = context.get_parameter_source(parameter.name)
    return source is not None and source.name == "COMMANDLINE"


def _before_running(context: Any, value: bool, typed: bool) -> None:
    invoke = context.invoke

    def deciding(*args: Any, **kwargs: Any) -> Any:
        del vars(context)["invoke"]
        decide(value, typed=typed)
        return invoke(*args, **kwargs)

    vars(context)["invoke"] = deciding
