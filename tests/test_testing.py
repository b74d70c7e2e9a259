"""`capture_events()` sends the events of a test to memory, `granted_consent()` to files."""

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from telemetry_kit import (
    RoleEvent,
    capture_events,
    configure,
    disable_telemetry,
    get_logger,
    is_telemetry_enabled,
    role_session,
    settings,
    track_role_event,
    tracks,
)
from telemetry_kit._runtime import runtime
from telemetry_kit.errors import ConsentError
from telemetry_kit.recording import pipeline
from telemetry_kit.testing import granted_consent


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


CHILD = """
from telemetry_kit import configure, track_role_event
configure(app="flowspec", context={"size": "measure"})
track_role_event("agent.completed", context={"size": 3})
"""


def run_child(granted: Any) -> None:
    """Run a program that records one event, as a test of a host program does."""
    env = {**granted.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run([sys.executable, "-W", "error", "-c", CHILD], env=env, check=True)


def state_of_the_process() -> tuple[object, ...]:
    """Return what `granted_consent()` changes inside of its block."""
    own = (runtime.clock, runtime.now, runtime.random, runtime.captured, runtime.is_denied)
    return dict(os.environ), runtime.environ, os.getcwd(), is_telemetry_enabled(), *own


def test_a_granted_consent_records_into_files(tmp_path: Path) -> None:
    """This process and a child process write one log, also where a CI system runs the tests."""
    base = Path(os.path.realpath(tmp_path))
    machine = {"CI": "true", "GITHUB_ACTIONS": "true", "DO_NOT_TRACK": "1"}
    machine |= {"FLOWSPEC_TELEMETRY_DISABLED": "1", "XDG_STATE_HOME": "/nonexistent"}
    with pytest.MonkeyPatch.context() as patched:
        for name, value in machine.items():
            patched.setenv(name, value)
        before = state_of_the_process()
        with granted_consent(tmp_path) as granted:
            assert is_telemetry_enabled()
            assert [] == granted.events
            assert track_role_event("agent.invoked")
            run_child(granted)
            inside = (granted.root, granted.home, Path.cwd(), Path.home())
        assert before == state_of_the_process()

    assert (base / "project", base / "home", base / "project", base / "home") == inside
    assert base / "project/.flowspec/telemetry.jsonl" == granted.log
    assert ["agent.invoked", "agent.completed"] == [e["event_type"] for e in granted.events]
    assert {"size": 3} == granted.events[1]["context"]
    assert {"home", "project"} == {path.name for path in base.iterdir()}


def test_a_failure_inside_restores_everything(tmp_path: Path) -> None:
    """An exception leaves the block, and the process is as before."""
    before = state_of_the_process()

    def fail() -> None:
        with granted_consent(tmp_path):
            track_role_event("agent.invoked")
            disable_telemetry()
            runtime.is_denied = True
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    assert before == state_of_the_process()
    assert track_role_event("agent.invoked") is None


def test_a_denial_inside_the_block_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that a test sets, and a decision that it makes, deny as on a user's machine."""
    with granted_consent(tmp_path) as granted:
        with monkeypatch.context() as patched:
            patched.setenv("DO_NOT_TRACK", "1")
            assert track_role_event("agent.invoked") is None
        assert track_role_event("agent.started")
        disable_telemetry()
        assert track_role_event("agent.failed") is None

    assert ["agent.started"] == [e["event_type"] for e in granted.events]


def test_captures_are_suspended(tmp_path: Path) -> None:
    """Inside a capture, the events go to the files, and afterwards to the capture again."""
    with capture_events() as captured:
        with granted_consent(tmp_path) as granted:
            track_role_event("agent.invoked")
            with capture_events() as inner:
                track_role_event("agent.started")
        track_role_event("agent.failed")

    assert ["agent.invoked"] == [e["event_type"] for e in granted.events]
    assert (["agent.started"], ["agent.failed"]) == (types(inner), types(captured))


def test_a_granted_consent_in_user_scope(tmp_path: Path) -> None:
    """A tool without projects has its log in the temporary home, and none in the project."""
    with configure(app="http", scope="user"), granted_consent(tmp_path) as granted:
        track_role_event("role.selected", role="dev")

    assert ["dev"] == [event["role"] for event in granted.events]
    assert granted.log.is_relative_to(granted.home)
    assert [] == list(granted.root.iterdir())


def test_the_same_folder_twice(tmp_path: Path) -> None:
    """A second block in the same folder continues the log."""
    for expected in (1, 2):
        with granted_consent(tmp_path) as granted:
            track_role_event("agent.invoked")

        assert expected == len(granted.events)


def test_what_prevents_a_granted_consent(tmp_path: Path) -> None:
    """A program without a name, a repository, and a rule that denies are errors with a reason."""
    before = state_of_the_process()
    with settings.Restore(settings.current()):
        settings.state.replace(settings.Settings())
        with pytest.raises(ConsentError, match="no name"), granted_consent(tmp_path):
            pass
    (tmp_path / "home/.config/telemetry-kit/flowspec").mkdir(parents=True)
    denied = tmp_path / "home/.config/telemetry-kit/flowspec/telemetry.toml"
    denied.write_text("enabled = false\n")
    off = pytest.raises(ConsentError, match=r"recording is off: .*telemetry.toml")
    with off, granted_consent(tmp_path):
        pass
    (tmp_path / "repository/.git").mkdir(parents=True)
    (tmp_path / "repository/tests").mkdir()
    inside = pytest.raises(ConsentError, match="repository: give a folder outside")
    with inside, granted_consent(tmp_path / "repository/tests"):
        pass

    assert before == state_of_the_process()
    assert not list(tmp_path.rglob("telemetry.jsonl"))
