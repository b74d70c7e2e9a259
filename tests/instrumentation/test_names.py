"""Names that are no text are dropped and counted, by whatever way they are given."""

import enum
from collections.abc import Callable
from typing import Any

import pytest

from telemetry_kit import (
    capture_events,
    get_logger,
    instrument,
    role_session,
    track_role_event,
    tracks,
)
from telemetry_kit.errors import ConfigurationError


class Plain(enum.Enum):
    """Roles of a host, of which none is a string."""

    DEV = "dev"


class Text(str, enum.Enum):  # noqa: UP042 - what hosts had before StrEnum
    """Roles of a host, each of which is a string."""

    DEV = "dev"


class Strings(enum.StrEnum):
    """The same in the newer form."""

    DEV = "dev"


NO_TEXT: dict[str, Any] = {
    "Enum": Plain.DEV,
    "bytes": b"dev",
    "int": 3,
    "bool": True,
    "class": Text,
    "empty": "",
    "long": "x" * 1_025,
}


def by_block(role: Any, **names: Any) -> None:
    with role_session(role, **names):
        pass


def by_decorated_session(role: Any, **names: Any) -> None:
    role_session(role, **names)(lambda: None)()


def by_tracks(role: Any, **names: Any) -> None:
    with tracks("handoff.clicked", role=role, **names):
        pass


def by_decorator(role: Any, **names: Any) -> None:
    tracks("handoff.clicked", role=role, **names)(lambda: None)()


def by_instrument(role: Any, **names: Any) -> None:
    with instrument("posixpath:basename", tracks("handoff.clicked", role=role, **names)):
        import posixpath

        posixpath.basename("/x")


def by_event(role: Any, **names: Any) -> None:
    track_role_event("handoff.clicked", role=role, **names)


def by_logger(role: Any, **names: Any) -> None:
    get_logger("acme").info("handoff.clicked", role=role, **names)


def by_bound_logger(role: Any, **names: Any) -> None:
    get_logger("acme").bind(role=role, **names).info("handoff.clicked")


def by_processor(role: Any, **names: Any) -> None:
    def add(_logger: Any, _method: str, event: Any) -> Any:
        return {**event, "role": role, **names}

    get_logger("acme", processors=[add]).info("handoff.clicked")


ENTRANCES: list[Callable[..., None]] = [
    *(by_block, by_decorated_session, by_tracks, by_decorator, by_instrument, by_event),
    *(by_logger, by_bound_logger, by_processor),
]
WAYS = pytest.mark.parametrize("way", ENTRANCES, ids=lambda way: way.__name__)


@WAYS
@pytest.mark.parametrize("kind", NO_TEXT)
def test_what_is_no_text_is_counted(kind: str, way: Callable[..., None]) -> None:
    """A name that is no text is in no event, and each event that it was given for counts it."""
    value = NO_TEXT[kind]
    with capture_events() as captured:
        way(value, agent=value, command="build")

    assert captured.events
    for event in captured.events:
        assert (event["dropped"], event["command"][:2]) == (2, "h:")
        assert not {"role", "agent"} & set(event)
    assert set(captured.dropped) == {
        (event["event_type"], field) for event in captured.events for field in ("role", "agent")
    }


@WAYS
@pytest.mark.parametrize("name", [Text.DEV, Strings.DEV])
def test_an_enum_of_strings_is_its_value(name: str, way: Callable[..., None]) -> None:
    """A member of an Enum that is a string is that string, and nothing is dropped."""
    with capture_events() as captured:
        way(name)

    assert captured.events
    assert {"dev"} == {event["role"] for event in captured.events}
    assert captured.dropped == []


@WAYS
def test_the_name_of_the_scope_does_not_replace_it(way: Callable[..., None]) -> None:
    """An event whose own role is no text has no role, and not that of the session around it."""
    with capture_events() as captured, role_session("pm", command="plan"):
        way(Plain.DEV)

    assert len(captured.events) > 1
    for event in captured.events[1:]:
        assert event["event_type"] != "role.changed"
        assert ("role" in event, event["dropped"]) == (False, 1)
        assert event["command"] == captured.events[0]["command"]


def test_events_inside_have_no_name_either() -> None:
    """Events inside of a session or span whose name is no text do not inherit an outer one."""
    with capture_events() as captured, role_session("pm"):
        with role_session(Plain.DEV):  # type: ignore[arg-type]
            track_role_event("handoff.clicked")
            with tracks("agent.invoked", role="qa"):
                track_role_event("handoff.clicked")
        track_role_event("handoff.clicked")
    roles = [e.get("role") for e in captured.events if e["event_type"] == "handoff.clicked"]

    assert roles == [None, "qa", "pm"]


def test_a_workflow_that_is_no_text_is_not_started() -> None:
    """A session whose workflow is no text records its role, the count, and no workflow."""
    with capture_events() as captured, role_session("dev", workflow=3):  # type: ignore[arg-type]
        pass

    assert [("role.selected", 1)] == [(e["event_type"], e["dropped"]) for e in captured.events]


def test_a_decoration_at_the_top_level_raises() -> None:
    """Where a decorator declares its names, one that is no text raises a clear sentence."""
    program = "role_session(Plain.DEV)(print)"
    with pytest.raises(ConfigurationError, match="must be a string, not Plain"):
        exec(program, {"role_session": role_session, "Plain": Plain})
