"""`role_session()` sets the role for everything inside."""

import asyncio
import re
import threading

import pytest

from telemetry_kit import context, current, propagate, role_session, track_role_event, tracks


def test_entry_is_recorded(place) -> None:
    """Entering a session records `role.selected`. Leaving it records nothing."""
    with role_session("dev", command="/c", agent="a"):
        assert len(place.lines()) == 1
    (event,) = place.events()

    assert (
        event["event_type"],
        event["role"],
        event["source"],
    ) == ("role.selected", "dev", "session")
    assert place.key.pseudonym("command", "/c") == event["command"]
    assert re.fullmatch("[0-9a-f]{12}", event["session_id"])
    assert not {"span_id", "parent_id", "outcome", "duration_ms", "previous_role"} & set(event)


def test_everything_inside_is_bound(place) -> None:
    """Events inside a session have its role, names and id. Later events do not."""
    with role_session("dev", command="/c"):
        inside = track_role_event("agent.invoked")
        own = track_role_event("agent.invoked", role="qa")
    after = track_role_event("agent.invoked")

    assert inside is not None
    assert own is not None
    assert after is not None
    assert ("dev", place.events()[0]["command"]) == (inside["role"], inside["command"])
    assert own["role"] == "qa"
    assert place.events()[0]["session_id"] == inside["session_id"] == own["session_id"]
    assert not {"role", "command", "session_id"} & set(after)


@pytest.mark.parametrize(
    "error", [None, ValueError("x"), KeyboardInterrupt(), SystemExit(0)], ids=repr
)
def test_the_end_records_nothing(place, error: BaseException | None) -> None:
    """When a session ends, no event is recorded, and the host's exception is unchanged."""
    caught = None
    try:
        with role_session("dev"):
            if error is not None:
                raise error
    except BaseException as raised:
        caught = raised

    assert caught is error
    assert place.types() == ["role.selected"]
    assert None is context.innermost()


def test_another_role_inside_is_recorded_as_changed(place) -> None:
    """Entering a session of another role records `role.changed` with the previous role."""
    with role_session("pm"), role_session("dev"):
        track_role_event("agent.invoked")
    found = place.events()

    assert place.types() == ["role.selected", "role.changed", "agent.invoked"]
    assert (found[1]["role"], found[1]["previous_role"]) == ("dev", "pm")
    assert len({e["session_id"] for e in found}) == 1
    assert (found[2]["role"], "previous_role" in found[2]) == ("dev", False)


def test_the_same_role_inside_is_selected_again(place) -> None:
    """Entering a session of the same role records `role.selected` again."""
    with role_session("dev"), role_session("dev"):
        pass

    assert place.types() == ["role.selected", "role.selected"]


def test_leaving_an_inner_session_restores_the_role(place) -> None:
    """Leaving an inner session restores the role and the names of the outer one."""
    with role_session("pm", command="/p"):
        with role_session("dev", command="/d"):
            pass
        event = track_role_event("agent.invoked")

    assert event is not None
    assert ("pm", place.key.pseudonym("command", "/p")) == (event["role"], event["command"])


def test_two_sessions_have_two_ids(place) -> None:
    """Two successive sessions have two ids."""
    for _ in range(2):
        with role_session("dev"):
            pass

    assert len({e["session_id"] for e in place.events()}) == 2


def test_undeclared_role_is_hashed(place) -> None:
    """An undeclared role and previous role are stored as pseudonyms, each for its field."""
    with role_session("jane"), role_session("joe"):
        pass
    first, second = place.events()

    assert place.key.pseudonym("role", "jane") == first["role"]
    assert place.key.pseudonym("role", "joe") == second["role"]
    assert place.key.pseudonym("previous_role", "jane") == second["previous_role"]


@pytest.mark.parametrize(
    ("error", "last", "outcome"),
    [
        (None, "workflow.completed", "ok"),
        (ValueError(), "workflow.failed", "error"),
        (KeyboardInterrupt(), "workflow.failed", "cancelled"),
        (SystemExit(0), "workflow.completed", "ok"),
        (GeneratorExit(), "workflow.completed", "closed"),
    ],
    ids=repr,
)
def test_workflow(place, error: BaseException | None, last: str, outcome: str) -> None:
    """With `workflow=`, a start and an end event enclose everything inside the session."""
    caught = None
    try:
        with role_session("dev", workflow="w"):
            track_role_event("agent.invoked")
            if error is not None:
                raise error
    except BaseException as raised:
        caught = raised
    found = place.events()

    assert caught is error

    assert ["role.selected", "workflow.started", "agent.invoked", last] == place.types()
    assert found[1]["span_id"] == found[2]["parent_id"] == found[3]["span_id"]
    assert {place.key.pseudonym("workflow", "w")} == {e["workflow"] for e in found}
    assert {"dev"} == {e["role"] for e in found}
    assert (outcome, 1) == (found[3]["outcome"], len({e["session_id"] for e in found}))
    assert None is context.innermost()


def test_as_a_decorator(place, at_top_level) -> None:
    """Each call is one session, and the names of the decorator are in plain text."""
    work = at_top_level("""
@role_session("analyst", command="/c", workflow="w")
def work():
    "What it does."
    return "done"
""")["work"]

    assert (work(), work(), work.__doc__) == ("done", "done", "What it does.")
    found = place.events()
    assert place.types() == ["role.selected", "workflow.started", "workflow.completed"] * 2
    assert {("analyst", "/c", "w")} == {(e["role"], e["command"], e["workflow"]) for e in found}
    assert len({e["session_id"] for e in found}) == 2


def test_as_an_async_decorator(place) -> None:
    """A decorated async function stays async, and its session lasts over every pause."""

    @role_session("dev")
    async def work() -> None:
        await asyncio.sleep(0)
        track_role_event("agent.invoked")

    asyncio.run(work())

    assert place.types() == ["role.selected", "agent.invoked"]
    assert {"dev"} == {e["role"] for e in place.events()}


def test_async_with(place) -> None:
    """`async with` opens the same session as `with`."""

    async def main() -> None:
        async with role_session("dev"):
            await asyncio.sleep(0)
            track_role_event("agent.invoked")

    asyncio.run(main())

    assert [e["role"] for e in place.events()] == ["dev", "dev"]


def test_tasks_inherit_the_session(place) -> None:
    """A task started inside a session has it. A session that a task enters stays in that task."""

    async def work(role: str) -> None:
        with role_session(role):
            await asyncio.sleep(0)
            track_role_event("agent.invoked")
            await asyncio.sleep(0)

    async def main() -> None:
        with role_session("pm"):
            async with asyncio.TaskGroup() as group:
                for role in ("dev", "qa", "sec"):
                    group.create_task(work(role))
            track_role_event("handoff.clicked")

    asyncio.run(main())
    found = place.events()

    assert len({e["session_id"] for e in found}) == 1
    assert [e["previous_role"] for e in found if "previous_role" in e] == [("pm")] * 3
    assert {"dev", "qa", "sec"} == {e["role"] for e in found if e["event_type"] == "agent.invoked"}
    assert found[-1]["role"] == "pm"


def test_threads_and_propagate(place) -> None:
    """A thread has no session unless `propagate()` wraps its function."""
    with role_session("dev"):
        for target in (track_role_event, propagate(track_role_event)):
            thread = threading.Thread(target=target, args=("agent.invoked",))
            thread.start()
            thread.join()

    assert [e.get("role") for e in place.events()] == ["dev", None, "dev"]


def test_current(place) -> None:
    """`current()` returns the names of the innermost session or span, or a scope that is false."""
    assert not current()
    with role_session("dev", command="/c"):
        found = current()
        assert found is not None
        assert (found.role, found.command, found.agent) == ("dev", "/c", None)
        assert place.events()[0]["session_id"] == found.session_id
        with tracks("agent.invoked", agent="a"):
            inner = current()
            assert inner is not None
            assert (inner.role, inner.agent) == ("dev", "a")
    assert not current()


def test_one_object_many_times(place) -> None:
    """One object can be entered again, inside itself and by several threads at once."""
    session = role_session("dev")
    barrier = threading.Barrier(4)

    def enter() -> None:
        with session, session:
            barrier.wait()
            track_role_event("agent.invoked")
            barrier.wait()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = place.events()
    sessions = {e["session_id"] for e in found}

    assert (len(found), len(sessions)) == (12, 4)
    assert sessions == {e["session_id"] for e in found if e["event_type"] == "agent.invoked"}
    assert not session._entered


def test_left_in_another_order(place) -> None:
    """Sessions left in the wrong order leave no session current."""
    one, two = role_session("pm"), role_session("dev")
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    track_role_event("agent.invoked")
    two.__exit__(None, None, None)
    after = track_role_event("agent.invoked")

    assert (place.events()[2]["role"], "role" in (after or {})) == ("dev", False)
    assert None is context.innermost()


def test_left_in_another_thread(place) -> None:
    """A session entered in one thread and left in another is closed in both."""
    session = role_session("dev")
    session.__enter__()
    thread = threading.Thread(target=session.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    event = track_role_event("agent.invoked")

    assert event is not None
    assert "role" not in event


def test_exit_without_entry(place) -> None:
    """Leaving a session that was never entered does nothing."""
    role_session("dev").__exit__(None, None, None)

    assert place.lines() == []


@pytest.mark.parametrize("role", [None, 3, b"x", object(), "", "x" * 5000], ids=type)
def test_a_role_that_is_not_a_name(place, role: object) -> None:
    """A role that is not a name raises nothing, and events inside are still recorded."""
    with role_session(role):  # type: ignore[arg-type]
        assert track_role_event("agent.invoked")

    assert all("role" not in event for event in place.events())


def test_off(undecided) -> None:
    """While recording is off, a session sets nothing and creates no file."""
    with role_session("dev", workflow="w"):
        assert not current()

    assert undecided.tree() == []


def test_project_root_holds_inside(place) -> None:
    """In a session with `project_root`, events are recorded in that project."""
    from telemetry_kit.consent import changes

    other = place.root.parent / "other"
    other.mkdir()
    changes.enable_telemetry(other)
    with role_session("dev", workflow="w", project_root=other), tracks("agent.invoked"):
        pass

    assert place.lines() == []
    assert len((other / ".flowspec/telemetry.jsonl").read_bytes().splitlines()) == 5


def test_track_role_event_inside_a_session_elsewhere(place) -> None:
    """`track_role_event()` in a session with `project_root` records in that project, too."""
    from telemetry_kit.consent import changes

    other = place.root.parent / "other"
    other.mkdir()
    changes.enable_telemetry(other)
    with role_session("dev", project_root=other):
        track_role_event("agent.invoked")

    assert place.lines() == []
    assert len((other / ".flowspec/telemetry.jsonl").read_bytes().splitlines()) == 2


def test_revoked_inside(place) -> None:
    """If consent is revoked inside a session, its later events are not recorded."""
    from telemetry_kit.consent import changes

    with role_session("dev", workflow="w"):
        changes.disable_telemetry()
        assert None is track_role_event("agent.invoked")

    assert not place.log.exists()


def test_granted_inside(undecided) -> None:
    """If consent is granted inside a session, later events are recorded without the session."""
    from telemetry_kit.consent import changes

    with role_session("dev"):
        changes.enable_telemetry()
        event = track_role_event("agent.invoked")

    assert event is not None
    assert "session_id" not in event
