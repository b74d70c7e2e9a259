"""For hosts written with Typer: `--telemetry / --no-telemetry`, ready to mount.

    @app.callback()
    def main(telemetry: TelemetryOption = None) -> None: ...

`integrations.flag` defines its effect.
"""

from __future__ import annotations

from typing import Annotated

import typer

from telemetry_kit.integrations.click_flag import remember


def _remember(
    context: typer.Context, parameter: typer.CallbackParam, value: bool | None
) -> bool | None:
    return remember(context, parameter, value)


TelemetryOption = Annotated[
    bool | None,
    typer.Option(
        "--telemetry/--no-telemetry",
        help="Keep a private usage log on this computer (remembered).",
        callback=_remember,
    ),
]
