"""For hosts written with Click: `--telemetry / --no-telemetry`, ready to mount."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from telemetry_kit.bridges.flag import decide

F = TypeVar("F", bound=Callable[..., Any])


def telemetry_option(function: F) -> F:
    """Add the option to a command; it is remembered, and not handed to the function."""
    made: F = click.option(
        "--telemetry/--no-telemetry",
        default=None,
        is_eager=True,
        expose_value=False,
        help="Keep a private usage log on this computer (remembered).",
        callback=_remember,
    )(function)
    return made


def _remember(
    context: click.Context, _parameter: click.Parameter, value: bool | None
) -> bool | None:
    # Completion parses what was typed so far; pressing Tab decides nothing.
    return value if context.resilient_parsing else decide(value)
