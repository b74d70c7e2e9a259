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
    """The members are the 14 types of the design, in its order."""
    assert [event.value for event in RoleEvent] == TYPES


def test_catalog_agrees() -> None:
    """The catalog has a row for each, in the same order, and no other."""
    assert list(RoleEvent) == list(catalog.EVENTS)


@pytest.mark.parametrize("event", RoleEvent)
def test_member_is_its_value(event: RoleEvent) -> None:
    """A member equals its string, prints as it, and its name is the string in capitals."""
    assert (event.value, event.value) == (event, str(event))
    assert event.value.upper().replace(".", "_") == event.name
    assert RoleEvent(event.value) is event
    assert pickle.loads(pickle.dumps(event)) is event
    assert isinstance(event, enum.Enum)
