"""Helpers for the tests of coroutines."""

from telemetry_kit import (
    RoleEvent,
)
from telemetry_kit.testing import Captured

AGENT = RoleEvent.AGENT_INVOKED


def ends(captured: Captured) -> list[tuple[str, str | None]]:
    """Return the type and the outcome of each recorded event."""
    return [(e["event_type"], e.get("outcome")) for e in captured.events]


PAIR = [("agent.invoked", None), ("agent.completed", "ok")]


FAILED = [("agent.invoked", None), ("agent.failed", "error")]


CLOSED = [("agent.invoked", None), ("agent.completed", "closed")]


class Custom(Exception):  # noqa: N818 - it is used like a signal
    """An exception class of the host."""
