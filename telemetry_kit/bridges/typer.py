"""For hosts written with Typer: `--telemetry / --no-telemetry`, ready to mount.

@app.callback()
def main(telemetry:

def _remember(context: typer.Context, value: bool | None) -> bool | None:
    # Completion parses what was typed so far; pressing Tab decides nothing.
    return value if context.resilient_parsing else decide(value)


TelemetryOption = None) -> None: ...
"""

from __future__ import annotations

from typing import Annotated

import typer

from telemetry_kit.bridges.flag import decide


def _remember(context: typer.Context, value: bool | None) -> bool | None:
    # Completion parses what was typed so far; pressing Tab decides nothing.
    return value if context.resilient_parsing else decide(value)


TelemetryOption = Annotated[
    bool | None,
    typer.Option(
        "--telemetry/--no-telemetry",
        help="Keep a private usage log on this computer (remembered).",
        is_eager=True,
        callback=_remember,
    ),
]
