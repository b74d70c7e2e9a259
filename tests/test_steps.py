"""Generators, coroutines and async generators: driven by hand, without a difference."""

import asyncio
import contextlib
import gc
import inspect
import threading
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit import (
    RoleEvent,
    capture_events,
    current,
    role_session,
    track_role_event,
    tracks,
)
from telemetry_kit.testing import Captured

AGENT = RoleEvent.AGENT_INVOKED
RUNNERS = {
    "asyncio": asyncio.run,
    "trio": lambda coroutine: trio.run(lambda: coroutine),
    "anyio": lambda coroutine: anyio.run(lambda: coroutine),
}


@pytest.fixture
def captured() -> Iterator[Captured]:
    """Every event of the test; internal errors are raised."""
    with capture_events() as events:
        yield events


@pytest.fixture(params=RUNNERS)
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    """One event loop after the other."""
    return RUNNERS[request.param]


def ends(captured: Captured) -> list[tuple[str, str | None]]:
    """What was recorded: type and outcome."""
    return [(e["event_type"], e.get("outcome")) for e in captured.events]


PAIR = [("agent.invoked", None), ("agent.completed", "ok")]
FAILED = [("agent.invoked", None), ("agent.failed", "error")]
CANCELLED = [("agent.invoked", None), ("agent.failed", "cancelled")]
CLOSED = [("agent.invoked", None), ("agent.completed", "closed")]


class Custom(Exception):  # noqa: N818 - it is used like a signal
    """Something that only the host knows."""


# -- generators ------------------------------------------------------------------------------


@tracks(AGENT, agent="counter")
def counter(first=0):
    """Yield numbers; answer what is sent and thrown."""
    total = first
    try:
        while total < 5:
            try:
                sent = yield total
            except Custom:
                sent = 100
            total += sent or 1
    finally:
        track_role_event("handoff.clicked")
    return f"total {total}"


def test_generator_runs_as_before(captured: Captured) -> None:
    """All values come out, and the pair surrounds the iteration."""
    values = list(counter())

    assert values == [0, 1, 2, 3, 4]
    assert [PAIR[0], ("handoff.clicked", None), PAIR[1]] == ends(captured)


def test_span_begins_at_the_first_step(captured: Captured) -> None:
    """Calling records nothing, the first step does."""
    generator = counter()
    called = len(captured.events)
    next(generator)

    assert called == 0
    assert [PAIR[0]] == ends(captured)

    generator.close()


def test_never_started_means_no_event(captured: Captured) -> None:
    """A generator that is closed or dropped before its first step leaves nothing."""
    counter().close()
    del captured.lines[:]
    counter()
    gc.collect()

    assert captured.events == []


def test_generator_send_reaches_the_body(captured: Captured) -> None:
    """What is sent is the value of the yield."""
    generator = counter()
    values = [next(generator), generator.send(2), generator.send(None)]

    assert values == [0, 2, 3]

    generator.close()


def test_generator_throw_reaches_the_body(captured: Captured) -> None:
    """The body can handle what is thrown, and the iteration goes on."""
    generator = counter()
    next(generator)
    with pytest.raises(StopIteration) as stopped:
        generator.throw(Custom())

    assert stopped.value.value == "total 100"
    assert ends(captured)[-1] == ("agent.completed", "ok")


def test_generator_return_value(captured: Captured) -> None:
    """`yield from` gets what the body returned."""

    def outer():
        return (yield from counter(4))

    generator = outer()
    next(generator)
    with pytest.raises(StopIteration) as stopped:
        next(generator)

    assert stopped.value.value == "total 5"


def test_early_break_is_closed_once(captured: Captured) -> None:
    """A consumer that breaks ends the span with one event, outcome closed."""
    for _ in counter():
        break
    gc.collect()

    assert [e for e in ends(captured) if "completed" in e[0]] == [("agent.completed", "closed")]
    assert current() is None


def test_closing_a_body_that_returns_is_closed(captured: Captured) -> None:
    """A body that turns GeneratorExit into a return was closed all the same."""

    @tracks(AGENT)
    def polite():
        try:
            yield 1
        except GeneratorExit:
            return "bye"

    generator = polite()
    next(generator)
    generator.close()

    assert ends(captured) == CLOSED


def test_generator_that_ignores_close(captured: Captured) -> None:
    """A body that yields when it is closed gets the error that Python gives."""

    @tracks(AGENT)
    def stubborn():
        with contextlib.suppress(GeneratorExit):
            yield 1
        yield 2

    generator = stubborn()
    next(generator)
    with pytest.raises(RuntimeError, match="ignored GeneratorExit"):
        generator.close()

    generator.close()


def test_failing_generator(captured: Captured) -> None:
    """The host's exception comes out as it is; the span failed."""
    error = Custom("alice@example.com")

    @tracks(AGENT)
    def failing():
        yield 1
        raise error

    with pytest.raises(Custom) as raised:
        list(failing())

    assert error is raised.value
    assert ends(captured) == FAILED
    assert b"alice" not in b"".join(captured.lines)


def test_arguments_that_do_not_fit_end_the_span(captured: Captured) -> None:
    """A wrong call raises TypeError at the first step, and no span stays open."""
    with pytest.raises(TypeError, match="unexpected keyword"):
        next(counter(nonsense=1))

    assert ends(captured) == FAILED


def test_scope_is_current_only_while_the_body_runs(captured: Captured) -> None:
    """The consumer's own events between two yields have the consumer's parent."""

    @tracks(AGENT, agent="inner")
    def body():
        for _ in range(2):
            track_role_event("handoff.clicked", source_agent="body")
            yield

    with tracks("command.executed") as _:
        outside = current()
        for _ in body():
            track_role_event("handoff.clicked", source_agent="consumer")

            assert outside is current()

    command, agent, first, second, third, fourth, *_ = captured.events
    mine = [e["parent_id"] for e in (first, third)]
    theirs = [e["parent_id"] for e in (second, fourth)]

    assert [agent["span_id"]] * 2 == mine
    assert [command["span_id"]] * 2 == theirs
    assert command["span_id"] == agent["parent_id"]


def test_interleaved_generators_keep_their_own_scope(captured: Captured) -> None:
    """Two generators that run in turns never see each other."""

    @tracks(AGENT)
    def body():
        mine = current()
        for _ in range(3):
            assert mine is current()

            yield mine

    seen = {(a, b) for a, b in zip(body(), body(), strict=True)}

    assert len(seen) == 1
    assert len({scope for pair in seen for scope in pair}) == 2
    assert current() is None


def test_session_inside_a_generator_lasts_across_its_yields(captured: Captured) -> None:
    """What a body opens is current in its next steps, and nowhere else."""

    @tracks(AGENT)
    def body():
        with role_session("dev"):
            yield current().role
            yield current().role

    roles = []
    for role in body():
        roles.append((role, current()))

    assert roles == [("dev", None)] * 2


def test_generator_left_in_another_thread(captured: Captured) -> None:
    """A generator that is continued and closed elsewhere raises nothing and leaves no scope."""
    generator = counter()
    next(generator)
    left: list[Any] = []

    def finish():
        next(generator)
        generator.close()
        left.append(current())

    thread = threading.Thread(target=finish)
    thread.start()
    thread.join()

    assert left == [None]
    assert current() is None
    assert ends(captured)[-1] == ("agent.completed", "closed")


def test_contextmanager_above(captured: Captured) -> None:
    """A decorated generator makes a context manager, whose errors pass through the body."""

    @contextlib.contextmanager
    @tracks(AGENT)
    def managed(swallow):
        try:
            yield "value"
        except Custom:
            if not swallow:
                raise

    with managed(swallow=True) as value:
        raise Custom
    with pytest.raises(Custom), managed(swallow=False):
        raise Custom

    assert value == "value"
    assert ends(captured) == PAIR + FAILED


def test_generator_based_coroutine_stays_awaitable(captured: Captured) -> None:
    """What `types.coroutine` made can be awaited after decoration."""

    @tracks(AGENT)
    @types.coroutine
    def old_style():
        yield from asyncio.sleep(0).__await__()
        return 7

    async def main():
        return await old_style()

    assert asyncio.run(main()) == 7
    assert ends(captured) == PAIR


# -- coroutines ------------------------------------------------------------------------------


def test_coroutine_on_every_loop(captured: Captured, run: Callable[[Any], Any]) -> None:
    """The pair surrounds the whole await."""

    @tracks(AGENT)
    async def inner():
        await anyio.sleep(0)
        track_role_event("handoff.clicked")
        return current()

    async def main():
        return [await inner(), current()]

    inside, outside = run(main())

    assert inside is not None
    assert outside is None
    assert [PAIR[0], ("handoff.clicked", None), PAIR[1]] == ends(captured)


def test_never_awaited_warns_once_under_the_users_name(captured: Captured) -> None:
    """Python's warning names the function that was decorated, once; nothing is recorded."""

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

    # The plain function did run.
    assert ends(captured) == CLOSED


def test_cancelled_task(captured: Captured) -> None:
    """Cancellation reaches the body, passes unchanged and is recorded as cancelled."""
    cleaned = []

    @tracks(AGENT)
    async def slow():
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(current())

    async def main():
        task = asyncio.create_task(slow())
        await asyncio.sleep(0)
        task.cancel("because")
        with pytest.raises(asyncio.CancelledError) as raised:
            await task
        return raised.value.args

    assert asyncio.run(main()) == ("because",)
    assert [scope is None for scope in cleaned] == [False]
    assert ends(captured) == CANCELLED


def test_asyncio_timeout(captured: Captured) -> None:
    """`asyncio.timeout` around a decorated call still times out; the call was cancelled."""

    @tracks(AGENT)
    async def slow():
        await asyncio.sleep(60)

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await slow()
        return current()

    assert asyncio.run(main()) is None
    assert ends(captured) == CANCELLED


@pytest.mark.parametrize("library", ["trio", "anyio"])
def test_cancel_scopes(captured: Captured, library: str) -> None:
    """A cancel scope of trio or anyio catches its own cancellation; the call was cancelled."""

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


def test_tasks_inherit_and_do_not_leak(captured: Captured) -> None:
    """Tasks started inside have the span as parent, and siblings never see each other."""

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
    """send, throw and close reach the body of a coroutine without any loop."""

    @types.coroutine
    def pause(value):
        return (yield value)

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


def test_plain_function_that_returns_a_coroutine(captured: Captured) -> None:
    """It is measured until the coroutine has run, and its scope stays out of the caller."""

    async def work():
        await asyncio.sleep(0)
        track_role_event("handoff.clicked")
        return 7

    @tracks(AGENT)
    def start():
        return work()

    async def main():
        made = start()
        between = current()
        return made.__name__, between, await made

    name, between, value = asyncio.run(main())

    assert (name, between, value) == ("work", None, 7)
    assert [PAIR[0], ("handoff.clicked", None), PAIR[1]] == ends(captured)
    assert captured.events[0]["span_id"] == captured.events[1]["parent_id"]


def test_session_around_a_function_that_returns_a_coroutine(captured: Captured) -> None:
    """A session with a workflow is left by the caller altogether."""

    async def work():
        return current().role, current().workflow

    @role_session("dev", workflow="release")
    def start():
        return work()

    async def main():
        made = start()
        return current(), await made, current()

    assert asyncio.run(main()) == (None, ("dev", "release"), None)


def test_coroutine_that_somebody_else_holds_stays_theirs(captured: Captured) -> None:
    """Dropping what a decorated function handed on does not close the host's coroutine."""

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


# -- async generators ------------------------------------------------------------------------


@tracks(AGENT, agent="stream")
async def stream(count=3):
    """Yield numbers; answer what is sent and thrown."""
    at = 0
    while at < count:
        try:
            sent = yield at
        except Custom:
            sent = 100
        await anyio.sleep(0)
        at += sent or 1


def test_async_generator_on_every_loop(captured: Captured, run: Callable[[Any], Any]) -> None:
    """All values come out, and the pair surrounds the iteration."""

    async def main():
        return [(n, current()) async for n in stream()]

    assert run(main()) == [(0, None), (1, None), (2, None)]
    assert ends(captured) == PAIR


def test_asend_athrow_aclose(captured: Captured) -> None:
    """All of them reach the body."""

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
    """No step, no event."""

    async def main():
        await stream().aclose()

    asyncio.run(main())

    assert captured.events == []


def test_async_arguments_that_do_not_fit(captured: Captured) -> None:
    """A wrong call raises TypeError at the first step, and no span stays open."""

    async def main():
        with pytest.raises(TypeError):
            await anext(stream(nonsense=1))

    asyncio.run(main())

    assert ends(captured) == FAILED


def test_async_break_then_closed_by_the_loop(
    captured: Captured, caplog: pytest.LogCaptureFixture
) -> None:
    """What the loop closes at shutdown is closed: nothing raised, logged or left."""
    cleaned = []

    @tracks(AGENT)
    async def endless():
        try:
            while True:
                yield 1
        finally:
            await asyncio.sleep(0)
            cleaned.append(current() is not None)

    kept = []

    async def main():
        kept.append(endless())
        async for _ in kept[0]:
            break
        return current()

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
    """Its `finally` runs inside the span; no scope stays in either task."""

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
        return closer, current()

    assert asyncio.run(main()) == ("qa", None)
    assert caplog.records == []
    begun = next(e for e in captured.events if e["event_type"] == "agent.invoked")
    left = next(e for e in captured.events if e["event_type"] == "handoff.clicked")

    assert begun["span_id"] == left["parent_id"]
    assert left["role"] == "dev"


def test_asynccontextmanager_above(captured: Captured, run: Callable[[Any], Any]) -> None:
    """A decorated async generator makes an async context manager."""

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
        return value, current()

    assert run(main()) == ("value", None)
    assert ends(captured) == PAIR + FAILED


@pytest.mark.parametrize("library", ["trio", "anyio", "asyncio"])
def test_cancelled_async_generator(captured: Captured, library: str) -> None:
    """A step that is cancelled ends the span as cancelled."""

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


# -- the same as undecorated: random scripts ---------------------------------------------------

ACTIONS = st.lists(
    st.one_of(
        st.just(("next",)),
        st.tuples(st.just("send"), st.integers(0, 3)),
        st.tuples(st.just("throw"), st.sampled_from([Custom, ValueError, GeneratorExit, KeyError])),
        st.just(("close",)),
    ),
    max_size=12,
)
# What the body does at each yield: go on, return, raise, or swallow what is thrown.
PLANS = st.lists(st.sampled_from(["yield", "return", "raise", "swallow", "turn"]), max_size=8)


def _body(plan):
    seen = 0
    for step in plan:
        if step == "return":
            return ("returned", seen)
        if step == "raise":
            raise KeyError(seen)
        try:
            seen += (yield seen) or 0
        except Custom:
            if step != "swallow":
                raise
            seen += 100
        except GeneratorExit:
            if step == "swallow":
                return "closed"
            raise
        except ValueError as error:
            if step == "turn":
                raise LookupError(seen) from error
            raise
    return seen


async def _async_body(plan):
    seen = 0
    for step in plan:
        if step == "return":
            return
        if step == "raise":
            raise KeyError(seen)
        try:
            seen += (yield seen) or 0
        except Custom:
            if step != "swallow":
                raise
            seen += 100
        except GeneratorExit:
            if step == "swallow":
                return
            raise
        except ValueError as error:
            if step == "turn":
                raise LookupError(seen) from error
            raise
        await asyncio.sleep(0)


def chain(error: BaseException | None) -> Any:
    """An exception with its causes and contexts, comparable."""
    if error is None:
        return None
    return (
        type(error),
        [repr(a) for a in error.args],
        chain(error.__cause__),
        chain(error.__context__),
        error.__suppress_context__,
    )


def play(generator, actions):
    """What a generator answers to a script."""
    answers = []
    for name, *arguments in actions:
        arguments = [a("thrown") if isinstance(a, type) else a for a in arguments]
        try:
            if name == "next":
                answers.append(("gave", next(generator)))
            else:
                answers.append(("gave", getattr(generator, name)(*arguments)))
        except BaseException as error:
            answers.append(("raised", chain(error), getattr(error, "value", None)))
        answers.append(inspect.getgeneratorstate(generator))
    return answers


async def async_play(generator, actions):
    """What an async generator answers to a script."""
    answers = []
    for name, *arguments in actions:
        arguments = [a("thrown") if isinstance(a, type) else a for a in arguments]
        try:
            if name == "next":
                answers.append(("gave", await anext(generator)))
            else:
                answers.append(("gave", await getattr(generator, f"a{name}")(*arguments)))
        except BaseException as error:
            answers.append(("raised", chain(error)))
    await generator.aclose()
    return answers


@given(PLANS, ACTIONS)
def test_generators_answer_alike(plan: list[str], actions: list[Any]) -> None:
    """Whatever is sent, thrown or closed, decorated and undecorated generator do the same."""
    with capture_events() as captured:
        decorated = play(tracks(AGENT)(_body)(plan), actions)
    off = play(tracks(AGENT)(_body)(plan), actions)
    plain = play(_body(plan), actions)
    started = [e for e in captured.events if e["event_type"] == "agent.invoked"]

    assert plain == decorated
    assert plain == off
    assert len(started) <= 1
    assert len(captured.events) - len(started) <= 1
    assert current() is None


@given(PLANS, ACTIONS)
def test_async_generators_answer_alike(plan: list[str], actions: list[Any]) -> None:
    """The same for async generators."""

    async def main():
        with capture_events() as captured:
            decorated = await async_play(tracks(AGENT)(_async_body)(plan), actions)
        off = await async_play(tracks(AGENT)(_async_body)(plan), actions)
        return captured.events, decorated, off, await async_play(_async_body(plan), actions)

    events, decorated, off, plain = asyncio.run(main())
    started = [e for e in events if e["event_type"] == "agent.invoked"]

    assert plain == decorated
    assert plain == off
    assert len(events) in (0, 2)
    assert len(started) * 2 == len(events)


# -- exceptions are the host's -----------------------------------------------------------------


def _raise_plain():
    raise Custom("x") from LookupError("cause")


def _raise_generator():
    yield 1
    raise Custom("x") from LookupError("cause")


async def _raise_coroutine():
    await asyncio.sleep(0)
    raise Custom("x") from LookupError("cause")


async def _raise_async_generator():
    yield 1
    raise Custom("x") from LookupError("cause")


async def _drain(asynchronous):
    async for _ in asynchronous:
        pass


BODIES = {
    "plain": (_raise_plain, lambda f: f()),
    "generator": (_raise_generator, lambda f: list(f())),
    "coroutine": (_raise_coroutine, lambda f: asyncio.run(f())),
    "async generator": (_raise_async_generator, lambda f: asyncio.run(_drain(f()))),
}


def frames(function, call):
    """Names of the frames that an exception came through, and the exception."""
    with pytest.raises(Custom) as raised:
        call(function)
    error = raised.value
    return [f.name for f in traceback.extract_tb(error.__traceback__)], chain(error)


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
def test_at_most_one_more_frame(kind: str, on: bool) -> None:
    """A traceback has one frame of ours, causes and contexts none."""
    function, call = BODIES[kind]
    bare, expected = frames(function, call)
    with capture_events() if on else contextlib.nullcontext():
        ours, found = frames(tracks(AGENT)(function), call)

    assert expected == found
    assert bare == [name for name in ours if name != "wrapper"]
    assert len(bare) + 1 == len(ours)


def test_one_more_frame_for_errors_thrown_in(captured: Captured) -> None:
    """What is thrown into a generator or a coroutine comes back with one more frame, too."""

    def body():
        yield 1

    @types.coroutine
    def pause():
        yield

    async def coroutine():
        await pause()

    def thrown(paused):
        paused.send(None)
        try:
            raise Custom("x")
        except Custom as error:
            caught = error
        with pytest.raises(Custom) as raised:
            paused.throw(caught)

        assert caught is raised.value

        return [f.name for f in traceback.extract_tb(caught.__traceback__)]

    for function in (body, coroutine):
        bare, ours = thrown(function()), thrown(tracks(AGENT)(function)())

        assert bare == [name for name in ours if name != "wrapper"]
        assert len(bare) + 1 == len(ours)


def test_handling_of_an_exception_is_seen_inside(captured: Captured) -> None:
    """An error raised in a body while the caller handles another has that one as context."""

    @tracks(AGENT)
    def body():
        yield 1
        raise Custom("second")

    generator = body()
    next(generator)
    try:
        raise KeyError("first")
    except KeyError as first:
        with pytest.raises(Custom) as raised:
            next(generator)
        handled = first

    assert handled is raised.value.__context__
