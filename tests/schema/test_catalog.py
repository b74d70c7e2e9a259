"""The catalog: the order of fields, their classes, and the message for a wrong name."""

import builtins
import re

import pytest

from telemetry_kit import RoleEvent, settings
from telemetry_kit.errors import TelemetryError, UnknownEventError
from telemetry_kit.schema import catalog

ORDER = [
    "schema_version",
    "event_id",
    "event_type",
    "timestamp",
    "seq",
    "role",
    "command",
    "agent",
    "workflow",
    "source_agent",
    "target_agent",
    "previous_role",
    "project_id",
    "session_id",
    "span_id",
    "parent_id",
    "outcome",
    "error_type",
    "exit_code",
    "duration_ms",
    "source",
    "invoker",
    "app_version",
    "key_epoch",
    "dropped",
    "context",
]
CLASSES = {
    "schema_version": "constant",
    "event_id": "random",
    "event_type": "token",
    "timestamp": "time",
    "seq": "measure",
    **dict.fromkeys(ORDER[5:12], "name"),
    "project_id": "identifier",
    **dict.fromkeys(ORDER[13:16], "random"),
    "outcome": "token",
    "error_type": "token",
    "exit_code": "measure",
    "duration_ms": "measure",
    "source": "token",
    "invoker": "token",
    "app_version": "version",
    "key_epoch": "measure",
    "dropped": "measure",
    "context": "mapping",
}
PAIRS = {
    "agent.invoked": ("agent.completed", "agent.failed"),
    "agent.started": ("agent.completed", "agent.failed"),
    "command.executed": ("command.completed", "command.failed"),
    "workflow.started": ("workflow.completed", "workflow.failed"),
    "handoff.clicked": ("handoff.completed", None),
}


def test_order_of_fields() -> None:
    """The fields are in the documented order, which is the order in a line."""
    assert tuple(ORDER) == catalog.ORDER


def test_classes_of_fields() -> None:
    """Each field has its documented class."""
    assert {name: field.kind for name, field in catalog.FIELDS.items()} == CLASSES


def test_rows_are_explained() -> None:
    """Each field has a meaning, and each event has a question and an owner."""
    for field in catalog.FIELDS.values():
        assert re.fullmatch(r"\S.{8,}", field.meaning), field.name
    for event in catalog.EVENTS.values():
        assert event.question.endswith("?"), event.name
        assert event.owner, event.name


def test_built_in_roles() -> None:
    """The seven roles are built in."""
    assert catalog.ROLES == ("pm", "arch", "dev", "sec", "qa", "ops", "all")


def test_outcomes() -> None:
    """There are four outcomes."""
    assert catalog.OUTCOMES == ("ok", "error", "cancelled", "closed")


def test_random_values_have_their_size() -> None:
    """An event ID has 64 bits, and the IDs that link events have 48."""
    bits = {f.name: f.domain for f in catalog.FIELDS.values() if f.kind == "random"}

    assert bits == {"event_id": 64, "session_id": 48, "span_id": 48, "parent_id": 48}


@pytest.mark.parametrize("event", RoleEvent)
def test_pairs(event: RoleEvent) -> None:
    """Each event is followed by the events in the table of pairs."""
    row = catalog.event(event)

    assert PAIRS.get(str(event), (None, None)) == (row.completed, row.failed)


@pytest.mark.parametrize("event", RoleEvent)
def test_member_and_string_find_the_same_row(event: RoleEvent) -> None:
    """A `RoleEvent` and its value have the same row."""
    assert catalog.event(event) is catalog.event(event.value)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("agent.invokd", "agent.invoked"),
        ("agent-invoked", "agent.invoked"),
        ("AGENT.INVOKED", "agent.invoked"),
        ("AGENT_INVOKED", "agent.invoked"),
        ("role.select", "role.selected"),
        ("handoff.click", "handoff.clicked"),
        ("command.fail", "command.failed"),
        ("workflow.start", "workflow.started"),
    ],
)
def test_the_nearest_name_comes_first(wrong: str, right: str) -> None:
    """The message for a typing mistake names the intended event first."""
    with pytest.raises(UnknownEventError) as caught:
        catalog.event(wrong)

    assert right == caught.value.nearest[0]
    assert (wrong, True) == (caught.value.name, repr(right) in str(caught.value))


@pytest.mark.parametrize("wrong", ["", "x", "\0", "zzzzzz", "h" * 10_000, "ü.ä"])
def test_there_is_always_a_nearest_name(wrong: str) -> None:
    """The message suggests one to three valid names."""
    with pytest.raises(UnknownEventError) as caught:
        catalog.event(wrong)

    assert 1 <= len(caught.value.nearest) <= 3
    assert set(caught.value.nearest) <= set(catalog.EVENTS)


@pytest.mark.parametrize("wrong", [None, 3, b"agent.invoked", ["agent.invoked"], object()])
def test_a_value_that_is_no_string_is_unknown(wrong: object) -> None:
    """The message for a value that is not a string names its type and not its text."""
    with pytest.raises(UnknownEventError, match=type(wrong).__name__):
        catalog.event(wrong)  # type: ignore[arg-type]


def test_unknown_event_is_a_value_error() -> None:
    """The error is a ValueError and a TelemetryError."""
    assert issubclass(UnknownEventError, ValueError)
    assert issubclass(UnknownEventError, TelemetryError)


def test_builtin_errors() -> None:
    """The builtin exception classes are known by their names, and no other class is."""
    for identity, name in catalog.BUILTIN_ERRORS.items():
        assert identity == id(getattr(builtins, name))
    assert {"ValueError", "KeyboardInterrupt", "ExceptionGroup"} <= set(
        catalog.BUILTIN_ERRORS.values()
    )


def test_the_vocabulary_of_each_name() -> None:
    """The vocabulary of each field in `settings` is that of the catalog."""
    assert catalog.NAMES == settings.VOCABULARY_OF
