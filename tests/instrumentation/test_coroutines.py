"""Decorated coroutines and async generators behave like undecorated ones."""

import asyncio
import contextlib
import gc
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import anyio
import pytest
import trio

from telemetry_kit import (
    current,
    role_session,
    track_role_event,
    tracks,
)
from telemetry_kit.testing import Captured
from tests.instrumentation.coroutines_helpers import AGENT, CLOSED, FAILED, PAIR, Custom, ends

RUNNERS = {
    "asyncio": asyncio.run,
    "trio": lambda coroutine: trio.run(lambda: coroutine),
    "anyio": lambda coroutine: anyio.run(lambda: coroutine),
}


@pytest.fixture(params=RUNNERS)
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """Run a coroutine on asyncio, trio or another event loop."""
    return RUNNERS[request.param]


CANCELLED = [("agent.invoked", None), ("agent.failed", "cancelled")]


# -- coroutines ----------------------------------------------------------------------------------


def test_coroutine_on_every_loop(captured: Captured, run: Callable[[Any], Any]) -> None:
    """The first and the last event enclose the whole await."""

    @tracks(AGENT)
    async def inner():
        await anyio.sleep(0)
        track_role_event("handoff.clicked")
        return current()

    async def main():
        return [await inner(), current() or None]

    inside, outside = run(main())

    assert inside is not None
    assert not outside
    assert [PAIR[0], ("handoff.clicked", None), PAIR[1]] == ends(captured)


def test_never_awaited_warns_once_with_the_function_name(captured: Captured) -> None:
    """Python's warning names the decorated function, once. Nothing is recorded."""

    @tracks(AGENT)
    async def forgotten():
        """Never runs."""

    @tracks(AGENT)
    def returns_one():
        async def made_inside():
            """Never runs."""

        return made_inside()

    for make, name in ((forgotten, "forgotten"), (returns_one, "made_inside")):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            make()
            gc.collect()
        texts = [str(w.message) for w in caught]
        # A recorded warning keeps its coroutine alive.
        del caught

        assert len(texts) == 1
        assert f"{name}' was never awaited" in texts[0]
    gc.collect()

    # The plain function ran.
    assert ends(captured) == CLOSED


def test_cancelled_task(captured: Captured) -> None:
    """Cancellation reaches the body, is re-raised, and is recorded as cancelled."""
    cleaned = []

    @tracks(AGENT)
    async def slow():
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(current() or None)

    async def main():
        task = asyncio.create_task(slow())
        await asyncio.sleep(0)
        task.cancel("because")
        with pytest.raises(asyncio.CancelledError) as raised:
            await task
        return raised.value.args

    assert asyncio.run(main()) == ("because",)
    assert [not scope for scope in cleaned] == [False]
    assert ends(captured) == CANCELLED


def test_asyncio_timeout(captured: Captured) -> None:
    """A decorated call inside `asyncio.timeout` still times out and is recorded as cancelled."""

    @tracks(AGENT)
    async def slow():
        await asyncio.sleep(60)

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await slow()
        return current() or None

    assert asyncio.run(main()) is None
    assert ends(captured) == CANCELLED


@pytest.mark.parametrize("library", ["trio", "anyio"])
def test_cancel_scopes(captured: Captured, library: str) -> None:
    """A decorated call inside a cancel scope of trio or anyio is recorded as cancelled."""

    @tracks(AGENT)
    async def slow():
        await anyio.sleep(60)

    async def main():
        with anyio.move_on_after(0) as scope:
            await slow()
        return scope.cancelled_caught

    runner = RUNNERS[library]

    assert runner(main()) is True
    assert ends(captured) == CANCELLED


def test_tasks_inherit_the_span(captured: Captured) -> None:
    """Tasks started inside a span have it as parent. Sibling tasks share no span."""

    @tracks(AGENT, agent="child")
    async def child(number):
        mine = current()
        await asyncio.sleep(0)

        assert mine is current()

        return number

    @tracks("command.executed", command="parent")
    async def parent():
        return await asyncio.gather(*(child(n) for n in range(5)), asyncio.create_task(child(5)))

    numbers = asyncio.run(parent())
    first = captured.events[0]
    parents = {e["parent_id"] for e in captured.events if e["event_type"] == "agent.invoked"}

    assert list(range(6)) == numbers
    assert {first["span_id"]} == parents
    assert "parent_id" not in first


def test_coroutine_driven_by_hand(captured: Captured) -> None:
    """`send`, `throw` and `close` reach the body of a coroutine without an event loop."""

    @tracks(AGENT)
    async def body():
        first = await pause("a")
        try:
            await pause(first)
        except Custom:
            return "handled"

    driven = body()
    yielded = [driven.send(None), driven.send("b")]
    with pytest.raises(StopIteration) as stopped:
        driven.throw(Custom())
    closed = body()
    closed.send(None)
    closed.close()

    assert yielded == ["a", "b"]
    assert stopped.value.value == "handled"
    assert ends(captured) == PAIR + CLOSED


@types.coroutine
def pause(value: Any = None) -> Any:
    """Yield a value to what drives the coroutine."""
    return (yield value)


def test_driven_by_hand_inside_a_task(captured: Captured) -> None:
    """Inside a task, the span of a coroutine driven by hand is current until the coroutine ends."""

    @tracks(AGENT)
    async def body():
        await pause()

    async def main():
        driven = body()
        driven.send(None)
        between = current()
        with pytest.raises(StopIteration):
            driven.send(None)
        return between, current()

    between, after = asyncio.run(main())

    assert captured.events[0]["span_id"] == between.span_id
    assert not after
    assert ends(captured) == PAIR


@tracks(AGENT)
async def waits_for_ever():
    """Wait in a coroutine."""
    await asyncio.get_running_loop().create_future()


async def waits_in_an_async_generator():
    """Wait in a step of an async generator."""

    @tracks(AGENT)
    async def body():
        await asyncio.get_running_loop().create_future()
        yield

    await anext(body())


@pytest.mark.parametrize("function", [waits_for_ever, waits_in_an_async_generator])
def test_closed_outside_of_its_task(captured: Captured, function: Callable[[], Any]) -> None:
    """A coroutine that is closed after its loop ended changes no scope of the closing code."""
    loop = asyncio.new_event_loop()
    coroutine = function()
    pending = loop.create_task(coroutine)
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    with role_session("qa"):
        coroutine.close()
        role = current().role
    # The task never ends. When it is collected, during whichever test, it shall not log that.
    pending._log_destroy_pending = False

    assert not pending.done()
    assert "qa" == role
    assert not current()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks(captured: Captured) -> None:
    """A task that starts inside `create_task` leaves no scope in the task that creates it."""

    @tracks(AGENT)
    async def child():
        mine = current()
        await asyncio.sleep(0)
        return mine is current()

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        tasks = [asyncio.create_task(child()) for _ in range(3)]
        between = current()
        return between, await asyncio.gather(*tasks), current()

    before, inside, after = asyncio.run(main())

    assert (bool(before), inside, bool(after)) == (False, [True] * 3, False)


def test_a_module_named_like_a_loop(captured: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module without `current_task`, as one that is loaded in part, is no event loop."""
    monkeypatch.setitem(sys.modules, "trio.lowlevel", types.ModuleType("trio.lowlevel"))

    @tracks(AGENT)
    async def body():
        await pause()

    driven = body()
    driven.send(None)

    assert not current()

    driven.close()

    assert ends(captured) == CLOSED


def test_plain_function_that_returns_a_coroutine(captured: Captured) -> None:
    """A function that returns a coroutine is measured until that coroutine has run."""

    async def work():
        await asyncio.sleep(0)
        track_role_event("handoff.clicked")
        return 7

    @tracks(AGENT)
    def start():
        return work()

    async def main():
        made = start()
        between = current() or None
        return made.__name__, between, await made

    name, between, value = asyncio.run(main())

    assert (name, between, value) == ("work", None, 7)
    assert [PAIR[0], ("handoff.clicked", None), PAIR[1]] == ends(captured)
    assert captured.events[0]["span_id"] == captured.events[1]["parent_id"]


def test_session_around_a_function_that_returns_a_coroutine(captured: Captured) -> None:
    """The session of a function that returns a coroutine is never current in the caller."""

    async def work():
        return current().role, current().workflow

    @role_session("dev", workflow="release")
    def start():
        return work()

    async def main():
        made = start()
        return (current() or None), await made, (current() or None)

    assert asyncio.run(main()) == (None, ("dev", "release"), None)


def test_coroutine_that_the_host_holds_is_not_closed(captured: Captured) -> None:
    """A coroutine that the host still holds is not closed when ours is dropped."""

    async def work():
        return 7

    @tracks(AGENT)
    def hand_on(coroutine):
        return coroutine

    async def main():
        mine = work()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            hand_on(mine)
            gc.collect()
        return await mine

    assert asyncio.run(main()) == 7


@tracks(AGENT, agent="stream")
async def stream(count=3):
    """Yield numbers, and respond to values sent and exceptions thrown."""
    at = 0
    while at < count:
        try:
            sent = yield at
        except Custom:
            sent = 100
        await anyio.sleep(0)
        at += sent or 1


# -- async generators ----------------------------------------------------------------------------


def test_async_generator_on_every_loop(captured: Captured, run: Callable[[Any], Any]) -> None:
    """All values are yielded, and the two events enclose the iteration."""

    async def main():
        return [(n, current() or None) async for n in stream()]

    assert run(main()) == [(0, None), (1, None), (2, None)]
    assert ends(captured) == PAIR


def test_asend_athrow_aclose(captured: Captured) -> None:
    """`asend`, `athrow` and `aclose` reach the body."""

    async def main():
        one = stream(200)
        values = [await anext(one), await one.asend(5), await one.athrow(Custom())]
        await one.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(one)
        return values

    assert asyncio.run(main()) == [0, 5, 105]
    assert ends(captured) == CLOSED


def test_async_generator_never_started(captured: Captured) -> None:
    """An async generator that is never started records nothing."""

    async def main():
        await stream().aclose()

    asyncio.run(main())

    assert captured.events == []


def test_async_arguments_that_do_not_fit(captured: Captured) -> None:
    """Wrong arguments raise TypeError at the first step, and no span stays open."""

    async def main():
        with pytest.raises(TypeError):
            await anext(stream(nonsense=1))

    asyncio.run(main())

    assert ends(captured) == FAILED


def test_async_break_then_closed_by_the_loop(
    captured: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    """A generator that the loop closes at shutdown raises and logs nothing."""
    cleaned = []

    @tracks(AGENT)
    async def endless():
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            cleaned.append(bool(current()))

    kept = []

    async def main():
        kept.append(endless())
        async for _ in kept[0]:
            break
        return current() or None

    assert asyncio.run(main()) is None
    assert cleaned == [True]
    assert ends(captured) == CLOSED
    assert caplog.records == []


def test_async_generator_dropped_inside_the_loop(
    captured: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    """The finalizer of the loop closes the body, which may still await."""
    cleaned = []

    @tracks(AGENT)
    async def endless():
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    async def main():
        async for _ in endless():
            break
        gc.collect()
        await asyncio.sleep(0.01)

    asyncio.run(main())

    assert cleaned == [True]
    assert ends(captured) == CLOSED
    assert caplog.records == []


def test_aclose_from_another_task(captured: Captured, caplog: pytest.LogCaptureFixture) -> None:
    """When another task closes the generator, `finally` runs inside the span."""

    @tracks(AGENT)
    async def endless():
        try:
            while True:
                yield 1
        finally:
            track_role_event("handoff.clicked")

    async def main():
        one = endless()
        with role_session("dev"):
            await anext(one)

        async def close():
            with role_session("qa"):
                await one.aclose()
                return current().role

        closer = await asyncio.create_task(close())
        return closer, current() or None

    assert asyncio.run(main()) == ("qa", None)
    assert caplog.records == []
    started = next(e for e in captured.events if e["event_type"] == "agent.invoked")
    left = next(e for e in captured.events if e["event_type"] == "handoff.clicked")

    assert started["span_id"] == left["parent_id"]
    assert left["role"] == "dev"


def test_asynccontextmanager_above(captured: Captured, run: Callable[[Any], Any]) -> None:
    """`asynccontextmanager` accepts a decorated async generator."""

    @contextlib.asynccontextmanager
    @tracks(AGENT)
    async def managed(swallow):
        try:
            await anyio.sleep(0)
            yield "value"
        except Custom:
            if not swallow:
                raise

    async def main():
        async with managed(swallow=True) as value:
            raise Custom
        with pytest.raises(Custom):
            async with managed(swallow=False):
                raise Custom
        return value, current() or None

    assert run(main()) == ("value", None)
    assert ends(captured) == PAIR + FAILED


@pytest.mark.parametrize("library", ["trio", "anyio", "asyncio"])
def test_cancelled_async_generator(captured: Captured, library: str) -> None:
    """If a step is cancelled, the span is recorded as cancelled."""

    @tracks(AGENT)
    async def slow():
        yield 1
        await anyio.sleep(60)

    async def main():
        with anyio.move_on_after(0.01) as scope:
            async for _ in slow():
                pass
        return scope.cancelled_caught

    assert RUNNERS[library](main()) is True
    assert ends(captured) == CANCELLED
