"""`telemetry-kit export`: not yet."""


def export() -> None:
    """Not yet."""
