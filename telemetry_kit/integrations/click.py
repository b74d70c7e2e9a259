"""For hosts written with Click: `--telemetry / --no-telemetry`, ready to mount."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from telemetry_kit.integrations.click_flag import remember

F = TypeVar("F", bound=Callable[..., Any])


def telemetry_option(function: F) -> F:
    """Add the option to a command; it is remembered, and not handed to the function."""
    made: F = click.option(
        "--telemetry/--no-telemetry",
        default=None,
        expose_value=False,
        help="Keep a private usage log on this computer (remembered).",
        callback=remember,
    )(function)
    return made
