"""`RoleEvent` and the catalog name the same event types."""

import enum
import pickle

import pytest

from telemetry_kit import RoleEvent
from telemetry_kit.schema import catalog

TYPES = [
    "role.selected",
    "role.changed",
    "agent.invoked",
    "agent.started",
    "agent.completed",
    "agent.failed",
    "handoff.clicked",
    "handoff.completed",
    "command.executed",
    "command.completed",
    "command.failed",
    "workflow.started",
    "workflow.completed",
    "workflow.failed",
]


def test_fourteen_types() -> None:
    """`RoleEvent` has the 14 types of the design, in its order."""
    assert [event.value for event in RoleEvent] == TYPES


def test_catalog_agrees() -> None:
    """The catalog has exactly one row for each type, in the same order."""
    assert list(RoleEvent) == list(catalog.EVENTS)


@pytest.mark.parametrize("event", RoleEvent)
def test_member_is_its_value(event: RoleEvent) -> None:
    """A member equals its string value, prints as it, and is named after it."""
    assert (event.value, event.value) == (event, str(event))
    assert event.value.upper().replace(".", "_") == event.name
    assert RoleEvent(event.value) is event
    assert pickle.loads(pickle.dumps(event)) is event
    assert isinstance(event, enum.Enum)
