"""Context and exit codes that a tracked function gives: `tracks(context=)`, `current().set()`."""

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from telemetry_kit import (
    capture_events,
    configure,
    current,
    instrument,
    propagate,
    role_session,
    track_role_event,
    tracks,
)
from telemetry_kit.testing import Captured


@pytest.fixture(autouse=True)
def _declared() -> Iterator[None]:
    """Declare the context keys of these tests."""
    with configure(context={"files": "measure", "dry": "flag", "model": ["a", "b"]}):
        yield


def contexts(captured: Captured) -> list[dict[str, Any] | None]:
    """Return the context of each event."""
    return [event.get("context") for event in captured.events]


def plain(value: Any) -> None:
    current().set(context=value)


async def coroutine(value: Any) -> None:
    await asyncio.sleep(0)
    current().set(context=value)


def generator(value: Any) -> Iterator[int]:
    yield 1
    current().set(context=value)


async def async_generator(value: Any) -> AsyncIterator[int]:
    yield 1
    await asyncio.sleep(0)
    current().set(context=value)


async def last(values: AsyncIterator[int]) -> None:
    async for _ in values:
        pass


TRACKED = tracks("agent.invoked", context={"model": "a"})
KINDS: dict[str, Callable[[Any], Any]] = {
    "function": lambda value: TRACKED(plain)(value),
    "coroutine": lambda value: asyncio.run(TRACKED(coroutine)(value)),
    "generator": lambda value: list(TRACKED(generator)(value)),
    "async generator": lambda value: asyncio.run(last(TRACKED(async_generator)(value))),
    "partial": lambda value: TRACKED(functools.partial(plain, value))(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_context_of_the_decorator_and_of_the_call(captured: Captured, kind: str) -> None:
    """Both events have the context of `tracks`, and the last one also that of the call."""
    KINDS[kind]({"files": 3})
    KINDS[kind]({"files": 4, "model": "b"})

    assert contexts(captured) == [
        {"model": "a"},
        {"files": 3, "model": "a"},
        {"model": "a"},
        {"files": 4, "model": "b"},
    ]


def test_context_of_a_block_and_of_an_instrumented_function(captured: Captured) -> None:
    """Blocks and instrumented functions have the context, too, and single events as well."""
    with tracks("command.executed", context={"dry": True}) as call:
        call.set(context={"files": 1})
    with instrument("posixpath:basename", tracks("agent.invoked", context={"dry": False})):
        import posixpath

        posixpath.basename("/x")
    with tracks("agent.completed", context={"files": 2}):
        pass

    assert contexts(captured) == [
        {"dry": True},
        {"dry": True, "files": 1},
        {"dry": False},
        {"dry": False},
        {"files": 2},
    ]


def test_the_context_of_a_decoration_is_a_copy(captured: Captured) -> None:
    """What the host changes in its own mapping later is in no event."""
    given = {"files": 1}
    around = tracks("agent.completed", context=given)
    given["files"] = 2
    with around:
        pass

    assert (contexts(captured), given) == ([{"files": 1}], {"files": 2})


@pytest.mark.parametrize("context", [{"name": "jane"}, "jane", [("files", 1)], 3])
def test_context_that_cannot_be_stored_is_counted(captured: Captured, context: Any) -> None:
    """An undeclared key, and a context that is no mapping, are dropped and counted."""
    with tracks("command.executed", context=context):
        current().set(context=context)

    assert [1, 1] == [event["dropped"] for event in captured.events]
    assert b"jane" not in b"".join(captured.lines)


# -- which event ---------------------------------------------------------------------------------


def test_nested_calls_add_to_the_innermost(captured: Captured) -> None:
    """Of nested calls the innermost gets the context; a kept scope adds to its own call."""
    with tracks("command.executed"):
        outer = current()
        with tracks("agent.invoked"):
            current().set(context={"files": 1})
            outer.set(context={"files": 2})
        current().set(context={"dry": True})

    assert contexts(captured) == [None, None, {"files": 1}, {"files": 2, "dry": True}]


def test_a_session_inside_adds_to_the_call_around_it(captured: Captured) -> None:
    """Inside a session, the context goes to the call around it, or to the session's workflow."""
    with tracks("agent.invoked"), role_session("dev"):
        current().set(context={"files": 1})
    with role_session("dev", workflow="release"):
        current().set(context={"files": 2})

    assert [(e["event_type"], e.get("context")) for e in captured.events if "outcome" in e] == [
        ("agent.completed", {"files": 1}),
        ("workflow.completed", {"files": 2}),
    ]


def test_nothing_to_add_to(captured: Captured) -> None:
    """Outside of a tracked call, after its end and in a session alone, `set()` does nothing."""
    kept = []
    current().set(context={"files": 1}, exit_code=3)
    with role_session("dev"):
        kept.append(current())
        current().set(context={"files": 1}, exit_code=3)
        with tracks("command.executed"):
            with tracks("agent.invoked"):
                kept.append(current())
            for scope in kept[1:]:
                scope.set(context={"files": 1}, exit_code=3)
    for scope in kept:
        scope.set(context={"files": 1}, exit_code=3)

    assert [None] * 5 == contexts(captured)
    assert {"ok"} == {event["outcome"] for event in captured.events if "outcome" in event}
    assert not any("exit_code" in event for event in captured.events)
    assert not current()
    assert (current().role, current().agent, current().span_id) == (None, None, None)


def test_threads(captured: Captured) -> None:
    """In a thread only `propagate()` reaches the call."""

    def add() -> None:
        current().set(context={"files": 1})

    for wrapped in (add, propagate):
        with tracks("agent.completed"), ThreadPoolExecutor(1) as pool:
            pool.submit(add if wrapped is add else propagate(add)).result()

    assert contexts(captured) == [None, {"files": 1}]


def test_off(undecided: Any) -> None:
    """While recording is off, a tracked call adds nothing, raises nothing and leaves no file."""

    @tracks("command.executed", context={"files": 1})
    def work() -> tuple[object, bool]:
        current().set(context={"files": 2}, exit_code=3)
        return current().role, bool(current())

    assert work() == (None, False)
    assert undecided.tree() == []


@pytest.mark.parametrize(
    "value",
    [object(), b"x", 10**400, float("nan"), {object(): object()}],
    ids=lambda v: type(v).__name__,
)
def test_any_value_is_accepted(captured: Captured, value: Any) -> None:
    """`set()` raises nothing for any value."""
    with tracks("command.executed"):
        current().set(context=value, exit_code=value)
        current().set(context={"files": value})

    assert len(captured.events) == 2


# -- exit codes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "outcome", "code"),
    [
        (0, None, "ok", 0),
        (3, None, "error", 3),
        (-9, None, "error", -9),
        (True, None, "ok", None),
        ("3", None, "ok", None),
        (0, ValueError, "error", 0),
        (3, ValueError, "error", 3),
        (3, SystemExit, "ok", 0),
        (3, KeyboardInterrupt, "cancelled", 3),
    ],
)
def test_an_exit_code_decides_how_a_command_ended(
    captured: Captured, given: Any, error: type[BaseException] | None, outcome: str, code: Any
) -> None:
    """A command with an exit code other than 0 failed; an exception decides before it."""
    with contextlib.suppress(error or ()), tracks("command.executed"):
        current().set(exit_code=given)
        if error is not None:
            raise error
    end = captured.events[-1]

    assert (outcome, code) == (end["outcome"], end.get("exit_code"))
    assert end["event_type"] == ("command.completed" if outcome == "ok" else "command.failed")
    assert ("dropped" in end) == (code is None)


def test_an_exit_code_is_of_commands_only(captured: Captured) -> None:
    """An exit code of an agent is dropped and counted, and does not decide how it ended."""
    with tracks("agent.invoked"):
        current().set(exit_code=3)
    end = captured.events[-1]

    assert (end["event_type"], end["outcome"], end["dropped"]) == ("agent.completed", "ok", 1)
    assert captured.dropped == [("agent.completed", "exit_code")]
    assert track_role_event("agent.invoked") is not None


def test_what_is_added_reaches_the_log(place: Any) -> None:
    """Under a real grant, the context is in the log; names in it are checked as anywhere."""
    place.configure(context={"files": "measure"})
    with tracks("command.executed", context={"files": 1, "jane": "jane"}):
        current().set(context={"files": 2}, exit_code=0)
    start, end = place.events()

    assert (start["context"], end["context"], end["exit_code"]) == ({"files": 1}, {"files": 2}, 0)
    assert (start["dropped"], end["dropped"]) == (1, 1)
    with capture_events() as captured, tracks("command.executed"):
        pass
    assert contexts(captured) == [None, None]
