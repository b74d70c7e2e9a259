"""`--telemetry / --no-telemetry` for hosts that use Click."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from telemetry_kit.integrations.click_flag import remember
from telemetry_kit.integrations.flag import HELP

F = TypeVar("F", bound=Callable[..., Any])


def telemetry_option(function: F) -> F:
    """Add the option to a command. The decision is saved; the function does not receive it.

    Example:
        >>> @click.command()
        ... @telemetry_option
        ... def main() -> None: ...
    """
    made: F = click.option(
        "--telemetry/--no-telemetry",
        default=None,
        expose_value=False,
        help=HELP,
        callback=remember,
    )(function)
    return made
