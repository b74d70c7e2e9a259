"""`@tracks` records events around a call or a block."""

import asyncio
import threading

import pytest
import typer

from telemetry_kit import RoleEvent, context, settings, track_role_event, tracks
from tests.instrumentation.tracks_helpers import FORMS, run

# The table of the design: the events at entry, at success, at failure.
TABLE = {
    "agent.invoked": ("agent.invoked", "agent.completed", "agent.failed"),
    "agent.started": ("agent.started", "agent.completed", "agent.failed"),
    "command.executed": ("command.executed", "command.completed", "command.failed"),
    "workflow.started": ("workflow.started", "workflow.completed", "workflow.failed"),
    "handoff.clicked": ("handoff.clicked", "handoff.completed", None),
    "role.selected": (None, "role.selected", None),
    "role.changed": (None, "role.changed", None),
    "agent.completed": (None, "agent.completed", None),
    "command.completed": (None, "command.completed", None),
    "workflow.completed": (None, "workflow.completed", None),
    "handoff.completed": (None, "handoff.completed", None),
    "agent.failed": (None, None, "agent.failed"),
    "command.failed": (None, None, "command.failed"),
    "workflow.failed": (None, None, "workflow.failed"),
}


class Exit(Exception):  # noqa: N818
    """An exception of the host that has an exit code."""

    def __init__(self, code: object) -> None:
        super().__init__("secret-jane")
        self.exit_code = code


# How the body ends, the outcome, the exit code of command events, the error type.
ENDINGS = {
    "success": (None, "ok", None, None),
    "error": (ValueError("secret-jane"), "error", None, "ValueError"),
    "sys.exit()": (SystemExit(), "ok", 0, None),
    "sys.exit(0)": (SystemExit(0), "ok", 0, None),
    "sys.exit(3)": (SystemExit(3), "error", 3, "SystemExit"),
    "sys.exit(text)": (SystemExit("secret-jane"), "error", 1, "SystemExit"),
    "KeyboardInterrupt": (KeyboardInterrupt(), "cancelled", None, "KeyboardInterrupt"),
    "CancelledError": (asyncio.CancelledError(), "cancelled", None, "other"),
    "exit_code 0": (Exit(0), "ok", 0, None),
    "exit_code None": (Exit(None), "error", None, "other"),
    "exit_code 3": (Exit(3), "error", 3, "other"),
    "exit_code text": (Exit("secret-jane"), "error", None, "other"),
    "exit_code False": (Exit(False), "error", None, "other"),
    "typer.Exit(0)": (typer.Exit(0), "ok", 0, None),
    "typer.Exit(3)": (typer.Exit(3), "error", 3, "other"),
    "GeneratorExit": (GeneratorExit(), "closed", None, None),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("event", TABLE)
def test_events_at_entry_and_end(place, event: str, ending: str, form: str) -> None:
    """Entry and each kind of end record the events in the design's table.

    The exit code of an exception counts only for commands.
    """
    error, outcome, code, kind = ENDINGS[ending]
    if isinstance(error, Exit) and not event.startswith("command."):
        outcome, code, kind = "error", None, "other"
    at_entry, at_success, at_failure = TABLE[event]
    at_end = at_success if outcome in ("ok", "closed") else at_failure
    raised = run(form, event, error)
    found = place.events()

    assert raised is error
    assert [name for name in (at_entry, at_end) if name] == [e["event_type"] for e in found]
    if at_entry:
        assert not {"outcome", "duration_ms", "error_type", "exit_code"} & set(found[0])
    if at_end and not at_end.startswith("role."):
        last = found[-1]
        assert (outcome, kind, 1) == (last["outcome"], last.get("error_type"), last["duration_ms"])
        assert (code if at_end.startswith("command.") else None) == last.get("exit_code")
    if at_entry and at_end:
        assert found[0]["span_id"] == found[1]["span_id"]
    assert b"secret-jane" not in b"".join(place.lines())
    assert None is context.innermost()


@pytest.mark.parametrize("event", RoleEvent)
def test_member_and_string_are_the_same(place, event: RoleEvent) -> None:
    """A `RoleEvent` and its string value decorate alike."""
    for given in (event, event.value):
        with tracks(given):
            pass
    types = place.types()

    assert types[: len(types) // 2] == types[len(types) // 2 :]


def test_no_file_when_off(undecided) -> None:
    """While recording is off, the function runs and no file is created."""

    @tracks("agent.invoked", agent="a")
    def implement(task: str) -> str:
        return task.upper()

    assert implement("x") == "X"
    assert undecided.tree() == []
    assert None is context.innermost()


def test_source_is_tracks(place) -> None:
    """Events of `@tracks` have the source `tracks`."""
    tracks("agent.invoked")(lambda: None)()

    assert {"decorator"} == {event["source"] for event in place.events()}


def test_names(place, at_top_level) -> None:
    """Names given to the decorator are in plain text in both events."""
    names = {"role": "dev", "command": "/c", "agent": "a", "workflow": "w"}

    at_top_level(
        "tracks('handoff.clicked', **names, source_agent='s', target_agent='t')(lambda: None)()",
        names=names,
    )

    for event in place.events():
        assert {**names, "source_agent": "s", "target_agent": "t"}.items() <= event.items()


def test_names_of_a_block_are_hashed(place) -> None:
    """Names given to a block are stored as pseudonyms, because they arrive at run time."""
    with tracks("agent.invoked", agent="somebody"):
        pass

    expected = place.key.pseudonym("agent", "somebody")

    assert {expected} == {event["agent"] for event in place.events()}


@pytest.mark.parametrize("value", [3, b"x", ["x"], object()], ids=type)
def test_block_names_that_are_not_text(place, value: object) -> None:
    """A block drops a name that is not text and raises nothing."""
    with tracks("agent.invoked", agent=value):  # type: ignore[arg-type]
        pass

    assert place.types() == ["agent.invoked", "agent.completed"]
    assert not any("agent" in event for event in place.events())


def test_duration(place) -> None:
    """The duration is measured by the monotonic clock and rounded up to two digits."""

    @tracks("agent.invoked")
    def wait(seconds: float) -> None:
        place.clock.advance(seconds)

    for seconds in (0, 0.0005, 0.003, 1.234, 3_661):
        wait(seconds)

    assert [e["duration_ms"] for e in place.events() if "duration_ms" in e] == [
        1,
        1,
        3,
        1_300,
        3_700_000,
    ]


# -- spans ---------------------------------------------------------------------------------------


def test_nested_calls_carry_their_parent(place) -> None:
    """An inner event has the enclosing span as parent. Siblings have different spans."""

    @tracks("agent.invoked")
    def inner() -> None:
        track_role_event("handoff.clicked")

    @tracks("command.executed")
    def outer() -> None:
        inner()
        inner()

    outer()
    found = place.events()
    top = found[0]["span_id"]
    first, second = found[1]["span_id"], found[4]["span_id"]

    assert [None, top, first, top, top, second, top, None] == [e.get("parent_id") for e in found]
    assert len({top, first, second}) == 3
    assert [top, first, None, first, second, None, second, top] == [e.get("span_id") for e in found]


def test_inner_events_inherit_names(place) -> None:
    """Inner events inherit role, command, agent and workflow from the nearest span."""
    settings.configure(agents=["inner", "outer"], commands=["/c"])

    @tracks("agent.invoked", agent="inner")
    def inner() -> None:
        track_role_event("handoff.clicked")

    @tracks("command.executed", command="/c", role="qa", agent="outer")
    def outer() -> None:
        inner()

    outer()
    found = {e["event_type"]: e for e in place.events()}

    assert tuple(found["handoff.clicked"][f] for f in ("command", "role", "agent")) == (
        "/c",
        "qa",
        "inner",
    )
    assert tuple(found["agent.completed"][f] for f in ("command", "agent")) == ("/c", "inner")
    assert found["command.completed"]["agent"] == "outer"


def test_source_and_target_agents_are_not_inherited(place) -> None:
    """The source and the target of a hand-off are not inherited."""
    with tracks("handoff.clicked", source_agent="s", target_agent="t"):
        track_role_event("agent.invoked")

    assert not {"source_agent", "target_agent"} & set(place.events()[1])


def test_recursion(place) -> None:
    """Each recursive call has its own span."""

    @tracks("agent.invoked")
    def count(n: int) -> int:
        return n and count(n - 1)

    count(3)
    found = place.events()

    assert place.types() == ["agent.invoked"] * 4 + ["agent.completed"] * 4
    spans = [e["span_id"] for e in found]
    assert spans[:4] == spans[:3:-1]
    assert [None, *spans[:3]] == [e.get("parent_id") for e in found[:4]]


def test_span_ids_are_48_bits(place) -> None:
    """A span id has 12 hex digits."""
    with tracks("agent.invoked"):
        pass

    assert all(len(bytes.fromhex(e["span_id"])) == 6 for e in place.events())


def test_threads_start_without_a_span(place) -> None:
    """A thread started inside a span has no parent span."""
    with tracks("command.executed"):
        thread = threading.Thread(target=track_role_event, args=("agent.invoked",))
        thread.start()
        thread.join()

    assert "parent_id" not in place.events()[1]


def test_one_object_in_many_threads(place) -> None:
    """One decorator object entered by many threads keeps a span for each."""
    tracker = tracks("agent.invoked")
    barrier = threading.Barrier(8)

    def enter() -> None:
        for _ in range(10):
            with tracker:
                barrier.wait()
                track_role_event("handoff.clicked")
                barrier.wait()

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = place.events()
    started = {e["span_id"] for e in found if e["event_type"] == "agent.invoked"}

    assert len(started) == 80
    for kind, field in (("agent.completed", "span_id"), ("handoff.clicked", "parent_id")):
        assert sorted(started) == sorted(e[field] for e in found if e["event_type"] == kind)
    assert not tracker._entered


def test_one_object_entered_while_it_is_entered(place) -> None:
    """One object can be entered again inside itself, and each exit ends its own entry."""
    tracker = tracks("agent.invoked")
    with tracker, tracker, tracker:
        pass
    spans = [e["span_id"] for e in place.events()]

    assert (3, spans[:3]) == (len(set(spans)), spans[:2:-1])


# -- async ---------------------------------------------------------------------------------------


def test_coroutine(place) -> None:
    """An async function has one span from its first step to its end."""

    @tracks("agent.invoked", agent="a")
    async def work(n: int) -> int:
        await asyncio.sleep(0)
        track_role_event("handoff.clicked")
        await asyncio.sleep(0)
        return n + 1

    assert asyncio.run(work(1)) == 2
    found = place.events()
    assert place.types() == ["agent.invoked", "handoff.clicked", "agent.completed"]
    assert found[0]["span_id"] == found[1]["parent_id"] == found[2]["span_id"]


@pytest.mark.parametrize("form", ["gather", "group"])
def test_tasks_have_separate_spans(place, form: str) -> None:
    """Events in interleaved tasks have the span of their own task as parent."""

    @tracks("agent.invoked")
    async def work(n: int) -> None:
        for _ in range(n % 4):
            await asyncio.sleep(0)
        track_role_event("handoff.clicked", agent=f"n{n}")
        await asyncio.sleep(0)

    async def main() -> None:
        async with tracks("workflow.started"):
            if form == "gather":
                await asyncio.gather(*(work(n) for n in range(20)))
            else:
                async with asyncio.TaskGroup() as group:
                    for n in range(20):
                        group.create_task(work(n))

    asyncio.run(main())
    found = place.events()
    top = found[0]["span_id"]
    started = [e["span_id"] for e in found if e["event_type"] == "agent.invoked"]

    assert {top} == {e["parent_id"] for e in found if e["event_type"] == "agent.invoked"}
    inner = [e["parent_id"] for e in found if e["event_type"] == "handoff.clicked"]
    assert (20, sorted(started)) == (len(set(started)), sorted(inner))


def test_the_scope_is_not_current_during_a_pause(place) -> None:
    """While a coroutine is paused, its span is not current."""

    @tracks("agent.invoked")
    async def work() -> None:
        await pause()

    class pause:  # noqa: N801
        def __await__(self):
            yield "waiting"

    made = work()

    assert made.send(None) == "waiting"
    assert None is context.innermost()
    with pytest.raises(StopIteration):
        made.send(None)
    assert place.types() == ["agent.invoked", "agent.completed"]


def test_a_cancelled_task_is_cancelled(place) -> None:
    """A cancelled task is recorded as failed with the outcome `cancelled`, and is cancelled."""

    @tracks("agent.invoked")
    async def work() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    asyncio.run(main())

    assert place.types() == ["agent.invoked", "agent.failed"]
    assert place.events()[-1]["outcome"] == "cancelled"


def test_asyncio_timeout(place) -> None:
    """`asyncio.timeout` works around and inside a decorated function."""

    @tracks("agent.invoked")
    async def inside() -> str:
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            return "late"
        return "never"

    async def main() -> str:
        return await inside()

    assert asyncio.run(main()) == "late"
    assert place.events()[-1]["outcome"] == "ok"


def test_a_coroutine_never_awaited(place) -> None:
    """A coroutine that is never awaited records nothing, and Python's warning names it."""

    @tracks("agent.invoked")
    async def forgotten() -> None:
        pass

    with pytest.warns(RuntimeWarning, match="forgotten' was never awaited"):
        forgotten()  # drops its last reference at once

    assert place.lines() == []


def test_values_sent_and_thrown_reach_the_body(place) -> None:
    """Values sent and exceptions thrown reach the body, and yielded values reach the loop."""
    seen: list[object] = []

    class pause:  # noqa: N801
        def __await__(self):
            seen.append((yield "one"))
            try:
                yield "two"
            except KeyError as error:
                seen.append(error)
            return "three"

    @tracks("agent.invoked")
    async def work() -> str:
        return await pause()

    made, thrown = work(), KeyError("x")

    assert (made.send(None), made.send("sent")) == ("one", "two")
    with pytest.raises(StopIteration) as stop:
        made.throw(thrown)
    assert ("three", ["sent", thrown]) == (stop.value.value, seen)


# -- the end of a span ---------------------------------------------------------------------------


def test_one_object_entered_twice_when_off(undecided) -> None:
    """While recording is off, one object can be entered twice and left twice."""
    done = undecided.run(
        "import sys\nfrom telemetry_kit import RoleEvent, tracks\n"
        "block = tracks(RoleEvent.AGENT_INVOKED)\n"
        "with block, block:\n    pass\n"
        "block.__exit__(None, None, None)\n"
        "print(list(block._entered), 'telemetry_kit.context' in sys.modules)"
    )

    assert (done.stdout, done.stderr) == ("[] False\n", "")


def test_a_name_that_is_not_text_is_counted(place) -> None:
    """Both events of a block count a name that is not text, and inner events do not inherit it."""
    with tracks("agent.invoked", agent=3, role="dev"):  # type: ignore[arg-type]
        track_role_event("handoff.clicked")
    start, inside, end = place.events()

    assert (start["dropped"], inside.get("dropped"), end["dropped"]) == (1, None, 1)
    assert ["agent" in e for e in (start, inside, end)] == [False, False, False]
    assert inside["role"] == "dev"


def test_set_adds_fields_to_the_last_event(place) -> None:
    """A block can add context and an exit code to its last event."""
    place.configure(context={"size": "measure", "dry": "flag"})
    with tracks("command.executed") as call:
        call.set(context={"size": 7})
        call.set(exit_code=4)

    first, last = place.events()
    assert ("context" in first, {"size": 7}, 4) == (False, last["context"], last["exit_code"])


def test_set_where_nothing_is_recorded(undecided) -> None:
    """While recording is off, `set()` accepts any argument and does nothing."""
    with tracks("command.executed") as call:
        call.set(context={"size": 7}, exit_code=4)

    assert undecided.tree() == []


def test_project_root(place) -> None:
    """`project_root` selects the project for the events of a call and inside it."""
    from telemetry_kit.consent import changes

    other = place.root.parent / "other"
    other.mkdir()
    changes.enable_telemetry(other)
    with tracks("agent.invoked", project_root=other), tracks("command.executed"):
        pass

    assert place.lines() == []
    assert len((other / ".flowspec/telemetry.jsonl").read_bytes().splitlines()) == 4


def test_consent_revoked_during_a_call(place) -> None:
    """If consent is revoked during a call, its end is not recorded."""
    from telemetry_kit.consent import changes

    with tracks("agent.invoked"):
        changes.disable_telemetry()
    stored = next((place.root / ".flowspec").glob("telemetry-*.jsonl"))

    assert len(stored.read_bytes().splitlines()) == 1
    assert not place.log.exists()


def test_consent_granted_during_a_call(undecided) -> None:
    """If consent is granted during a call, its end is not recorded."""
    from telemetry_kit.consent import changes

    with tracks("agent.invoked"):
        changes.enable_telemetry()

    assert undecided.lines() == []
