"""`RoleEvent` and the catalog name the same event types."""

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


def test_the_members_without_enum(undecided) -> None:
    """In a program that has not loaded enum the members behave the same, and it stays unloaded."""
    done = undecided.run(
        "import sys\nfrom telemetry_kit import RoleEvent\n"
        "from telemetry_kit.schema import catalog\n"
        "assert 'enum' not in sys.modules\n"
        "assert list(RoleEvent) == list(catalog.EVENTS) and len(RoleEvent) == 14\n"
        "for event in RoleEvent:\n"
        "    assert event == event.value == str(event) == f'{event}'\n"
        "    assert event is RoleEvent(event.value) is RoleEvent[event.name]\n"
        "    assert getattr(RoleEvent, event.name) is event and event in RoleEvent\n"
        "    assert isinstance(event, str) and hash(event) == hash(event.value)\n"
        "    assert {event: 1}[event.value] == 1\n"
        "try: RoleEvent('agent.invokd')\n"
        "except ValueError: pass\n"
        "else: raise AssertionError\n"
        "assert 'enum' not in sys.modules\n"
        "import copy, pickle\n"
        "for event in RoleEvent:\n"
        "    assert pickle.loads(pickle.dumps(event)) is event is copy.deepcopy(event)\n"
        "print(repr(RoleEvent.ROLE_SELECTED))"
    )

    assert (done.stdout, done.stderr) == (f"{RoleEvent.ROLE_SELECTED!r}\n", "")
