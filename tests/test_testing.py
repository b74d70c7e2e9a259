"""`capture_events()` sends the events of the real pipeline to memory."""

import threading
from typing import Any

import pytest

from telemetry_kit import (
    RoleEvent,
    capture_events,
    configure,
    get_logger,
    role_session,
    track_role_event,
    tracks,
)
from telemetry_kit._runtime import runtime
from telemetry_kit.recording import pipeline


def types(captured: Any) -> list[str]:
    """Return the event types of a capture."""
    return [e["event_type"] for e in captured.events]


def test_needs_no_consent_and_touches_no_disk(undecided: Any) -> None:
    """Without a decision, events are captured and no file is created."""
    with capture_events() as captured:
        track_role_event(RoleEvent.AGENT_INVOKED, agent="x")

    assert types(captured) == ["agent.invoked"]
    assert undecided.tree() == []


def test_a_veto_does_not_matter(undecided: Any) -> None:
    """Events are captured even under a veto."""
    undecided.environ["DO_NOT_TRACK"] = "1"
    with capture_events() as captured:
        track_role_event("agent.invoked")

    assert types(captured) == ["agent.invoked"]


def test_granted_events_go_to_memory_only(place: Any) -> None:
    """Inside the block no event is written to the log. After it, events are written again."""
    track_role_event("agent.invoked")
    with capture_events() as captured:
        track_role_event("agent.started")
    track_role_event("agent.failed")

    assert types(captured) == ["agent.started"]
    assert place.types() == ["agent.invoked", "agent.failed"]


def test_the_real_pipeline_runs() -> None:
    """A capture hashes names, drops undeclared keys and keeps declared ones."""
    declared = configure(agents=["writer"], context={"count": "measure"})
    with declared, capture_events() as captured:
        track_role_event("agent.invoked", agent="writer", context={"count": 3, "x": 1})
        track_role_event("agent.invoked", agent="alice@example.com")
    first, second = captured.events

    assert (first["agent"], first["context"], first["dropped"]) == ("writer", {"count": 3}, 1)
    assert second["agent"].startswith("h:")
    assert captured.dropped == [("agent.invoked", "context.x")]
    assert b"alice" not in b"".join(captured.lines)


def test_names_declared_inside_hold(at_top_level) -> None:
    """A module loaded inside the block declares its names for the block."""
    with capture_events() as captured:
        at_top_level("tracks(RoleEvent.AGENT_INVOKED, agent='declared-inside')(lambda: None)()")

    assert [e["agent"] for e in captured.events] == ["declared-inside"] * 2
    assert captured.undeclared == []


def test_undeclared_names_are_listed() -> None:
    """The capture lists the names that a decoration in a running function did not declare."""
    with capture_events() as captured:
        tracks(RoleEvent.AGENT_INVOKED, agent="typed", role="dev")(lambda: None)()

    assert captured.undeclared == [("agent", "typed")] * 2


def test_the_logger_is_captured() -> None:
    """Events of the structlog driver are captured, too."""
    with capture_events() as captured:
        record = get_logger().info("agent.invoked", agent="x")

    assert [record] == captured.events


def test_nested() -> None:
    """The innermost capture gets the events. When it ends, the outer one gets them again."""
    with capture_events() as outer:
        track_role_event("agent.invoked")
        with capture_events() as inner:
            track_role_event("agent.started")
        track_role_event("agent.completed")

    assert types(outer) == ["agent.invoked", "agent.completed"]
    assert types(inner) == ["agent.started"]


def test_one_capture_entered_twice() -> None:
    """One capture can be entered twice, also inside itself, and collects all events."""
    captured = capture_events()
    with captured:
        track_role_event("agent.invoked")
        with captured:
            track_role_event("agent.started")
        track_role_event("agent.completed")
    with captured:
        track_role_event("agent.failed")
    track_role_event("agent.failed")

    assert types(captured) == ["agent.invoked", "agent.started", "agent.completed", "agent.failed"]
    assert runtime.captured == 0


def test_threads_are_included() -> None:
    """A capture gets the events of every thread of the process."""

    def work() -> None:
        for _ in range(50):
            track_role_event("agent.invoked")

    threads = [threading.Thread(target=work) for _ in range(4)]
    with capture_events() as captured:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(captured.events) == 200
    assert list(range(200)) == sorted(e["seq"] for e in captured.events)


def test_left_by_an_exception() -> None:
    """An exception in the block is raised, and the previous state is restored."""
    captured = capture_events()
    with pytest.raises(LookupError), captured:  # noqa: PT012
        track_role_event("agent.invoked")
        raise LookupError
    track_role_event("agent.invoked")

    assert types(captured) == ["agent.invoked"]
    assert runtime.captured == 0


def test_off_function_is_recorded_at_once(undecided: Any) -> None:
    """A function that ran while recording was off is recorded by the next capture."""

    @tracks(RoleEvent.AGENT_INVOKED)
    def work() -> None: ...

    work()
    with capture_events() as captured:
        work()
    work()

    assert types(captured) == ["agent.invoked", "agent.completed"]


def test_span_across_the_start_of_a_capture() -> None:
    """A span that starts outside a capture may end inside it, and the other way round."""
    with (
        capture_events() as outer,
        tracks("command.executed"),
        capture_events() as inner,
        role_session("dev"),
    ):
        track_role_event("agent.invoked")

    assert types(outer) == ["command.executed", "command.completed"]
    assert outer.events[0]["span_id"] == inner.events[-1]["parent_id"]


def test_internal_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """An internal error is raised under pytest and ignored elsewhere."""
    monkeypatch.setattr(pipeline, "PROCESSORS", (_broken, *pipeline.PROCESSORS[1:]))
    with capture_events() as captured:
        with pytest.raises(ZeroDivisionError):
            track_role_event("agent.invoked")
        monkeypatch.delenv("PYTEST_CURRENT_TEST")
        track_role_event("agent.invoked")

    assert captured.events == []


def _broken(_logger: Any, _method: str, event: Any) -> Any:
    raise ZeroDivisionError
