"""The flag that Click and Typer share: it decides after the command line is parsed.

This module imports neither of the two.
"""

from __future__ import annotations

from typing import Any  # Typer evaluates the annotations of `remember`

HELP = "Keep a private usage log on this computer (remembered)."


def remember(context: Any, parameter: Any, value: bool | None) -> bool | None:
    """Let the option decide when its command is about to run.

    By then, all other options and arguments are valid, and `--help` was not given. A group runs
    before the arguments of its subcommand are parsed.

    Args:
        context: the context of Click or Typer.
        parameter: the option.
        value: the value of the option; None if it was not given.

    Returns:
        The same value.
    """
    # Completion parses the line so far. Pressing Tab decides nothing.
    if value is None or context.resilient_parsing:
        return value
    source = context.get_parameter_source(parameter.name)
    # Compared by name, because Typer has its own copy of Click.
    typed = source is not None and source.name == "COMMANDLINE"
    invoke = context.invoke

    def decide_and_invoke(*args: Any, **kwargs: Any) -> Any:
        from telemetry_kit.integrations.flag import decide  # deferred: only if it was typed

        del vars(context)["invoke"]
        decide(value, typed=typed)
        return invoke(*args, **kwargs)

    vars(context)["invoke"] = decide_and_invoke
    return value
