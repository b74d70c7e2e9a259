"""Helpers for the tests of the context."""

from telemetry_kit import (
    RoleEvent,
    current,
)

AGENT = RoleEvent.AGENT_INVOKED


def role() -> str | None:
    """Return the current role."""
    inside = current()
    return inside.role if inside is not None else None
