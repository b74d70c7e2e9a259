"""Shared by the tests of this module."""

from telemetry_kit import (
    RoleEvent,
)
from telemetry_kit.testing import Captured

AGENT = RoleEvent.AGENT_INVOKED


def ends(captured: Captured) -> list[tuple[str, str | None]]:
    """What was recorded: type and outcome."""
    return [(e["event_type"], e.get("outcome")) for e in captured.events]


PAIR = [("agent.invoked", None), ("agent.completed", "ok")]


FAILED = [("agent.invoked", None), ("agent.failed", "error")]


CLOSED = [("agent.invoked", None), ("agent.completed", "closed")]


class Custom(Exception):  # noqa: N818 - it is used like a signal
    """Something that only the host knows."""
