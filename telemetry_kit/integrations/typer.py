"""`--telemetry / --no-telemetry` for hosts that use Typer.

Example:
    >>> app = typer.Typer()
    >>> @app.callback()
    ... def main(telemetry: TelemetryOption = None) -> None: ...
"""

from __future__ import annotations

from typing import Annotated

import typer

from telemetry_kit.integrations.click_flag import remember
from telemetry_kit.integrations.flag import HELP

TelemetryOption = Annotated[
    bool | None, typer.Option("--telemetry/--no-telemetry", help=HELP, callback=remember)
]
