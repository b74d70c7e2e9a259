"""For hosts written with Typer: `--telemetry / --no-telemetry`, ready to mount.

@app.callback()
def main(telemetry: TelemetryOption = None) -> None: ...
"""

from __future__ import annotations

from typing import Annotated

import typer

from telemetry_kit.bridges.flag import decide

TelemetryOption = Annotated[
    bool | None,
    typer.Option(
        "--telemetry/--no-telemetry",
        help="Keep a private usage log on this computer (remembered).",
        is_eager=True,
        callback=decide,
    ),
]
