"""What `--telemetry` and `--no-telemetry` mean in every host."""

from __future__ import annotations

from telemetry_kit import control
from telemetry_kit.errors import TelemetryError, swallow


def decide(value: bool | None) -> bool | None:
    """Write down the answer that a flag gave; the host goes on whatever comes of it.

    Args:
        value: True for `--telemetry`, False for `--no-telemetry`, None when neither was given.

    Returns:
        The same value.
    """
    try:
        if value is True:
            # What the tool declares is known here, so the yes covers just that.
            control.enable_telemetry(method="flag")
        elif value is False:
            control.disable_telemetry(method="flag")
    except TelemetryError:
        # The answer could not be kept, so nothing is recorded; `status` says why.
        return value
    except Exception as error:
        swallow(error)
    return value
