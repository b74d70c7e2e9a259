"""Shared by the tests of this module."""

from telemetry_kit import (
    RoleEvent,
    current,
)

AGENT = RoleEvent.AGENT_INVOKED


def role() -> str | None:
    """The role that is current here."""
    inside = current()
    return inside.role if inside is not None else None
