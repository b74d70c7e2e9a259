"""Decorated generators behave like undecorated ones."""

import asyncio
import contextlib
import gc
import threading
import types
from typing import Any

import pytest

from telemetry_kit import (
    current,
    role_session,
    track_role_event,
    tracks,
)
from telemetry_kit.testing import Captured
from tests.instrumentation.coroutines_helpers import AGENT, CLOSED, FAILED, PAIR, Custom, ends


@tracks(AGENT, agent="counter")
def counter(first=0):
    """Yield numbers, and respond to values sent and exceptions thrown."""
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


def test_generator_yields_all_values(captured: Captured) -> None:
    """All values are yielded, and the two events enclose the iteration."""
    values = list(counter())

    assert values == [0, 1, 2, 3, 4]
    assert [PAIR[0], ("handoff.clicked", None), PAIR[1]] == ends(captured)


def test_span_begins_at_the_first_step(captured: Captured) -> None:
    """The call records nothing. The first step starts the span."""
    generator = counter()
    called = len(captured.events)
    next(generator)

    assert called == 0
    assert [PAIR[0]] == ends(captured)

    generator.close()


def test_never_started_means_no_event(captured: Captured) -> None:
    """A generator that is closed or dropped before its first step records nothing."""
    counter().close()
    del captured.lines[:]
    counter()
    gc.collect()

    assert captured.events == []


def test_generator_send_reaches_the_body(captured: Captured) -> None:
    """A sent value becomes the value of the yield."""
    generator = counter()
    values = [next(generator), generator.send(2), generator.send(None)]

    assert values == [0, 2, 3]

    generator.close()


def test_generator_throw_reaches_the_body(captured: Captured) -> None:
    """The body can handle a thrown exception and continue."""
    generator = counter()
    next(generator)
    with pytest.raises(StopIteration) as stopped:
        generator.throw(Custom())

    assert stopped.value.value == "total 100"
    assert ends(captured)[-1] == ("agent.completed", "ok")


def test_generator_return_value(captured: Captured) -> None:
    """`yield from` receives the return value of the body."""

    def outer():
        return (yield from counter(4))

    generator = outer()
    next(generator)
    with pytest.raises(StopIteration) as stopped:
        next(generator)

    assert stopped.value.value == "total 5"


def test_early_break_is_closed_once(captured: Captured) -> None:
    """If the consumer breaks, the span ends with one event and the outcome closed."""
    for _ in counter():
        break
    gc.collect()

    assert [e for e in ends(captured) if "completed" in e[0]] == [("agent.completed", "closed")]
    assert not current()


def test_a_body_that_returns_on_close_is_closed(captured: Captured) -> None:
    """If the body returns on GeneratorExit, the outcome is closed."""

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
    """If the body yields while it is closed, the consumer gets Python's own error."""

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
    """The host's exception is raised unchanged, and the span is recorded as failed."""
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
    """Wrong arguments raise TypeError at the first step, and no span stays open."""
    with pytest.raises(TypeError, match="unexpected keyword"):
        next(counter(nonsense=1))

    assert ends(captured) == FAILED


def test_scope_is_current_only_while_the_body_runs(captured: Captured) -> None:
    """Between two steps the consumer's events have the consumer's parent."""

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
    body_parents = [e["parent_id"] for e in (first, third)]
    consumer_parents = [e["parent_id"] for e in (second, fourth)]

    assert [agent["span_id"]] * 2 == body_parents
    assert [command["span_id"]] * 2 == consumer_parents
    assert command["span_id"] == agent["parent_id"]


def test_interleaved_generators_share_no_scope(captured: Captured) -> None:
    """Two interleaved generators share no scope."""

    @tracks(AGENT)
    def body():
        mine = current()
        for _ in range(3):
            assert mine is current()

            yield mine

    seen = {(a, b) for a, b in zip(body(), body(), strict=True)}

    assert len(seen) == 1
    assert len({scope for pair in seen for scope in pair}) == 2
    assert not current()


def test_session_inside_a_generator_lasts_across_its_yields(captured: Captured) -> None:
    """A session opened in a body is current in its next steps and not in the consumer."""

    @tracks(AGENT)
    def body():
        with role_session("dev"):
            yield current().role
            yield current().role

    roles = []
    for role in body():
        roles.append((role, current() or None))

    assert roles == [("dev", None)] * 2


def test_generator_left_in_another_thread(captured: Captured) -> None:
    """A generator continued and closed in another thread raises nothing and leaves no scope."""
    generator = counter()
    next(generator)
    left: list[Any] = []

    def finish():
        next(generator)
        generator.close()
        left.append(current() or None)

    thread = threading.Thread(target=finish)
    thread.start()
    thread.join()

    assert left == [None]
    assert not current()
    assert ends(captured)[-1] == ("agent.completed", "closed")


def test_contextmanager_above(captured: Captured) -> None:
    """`contextmanager` accepts a decorated generator, and errors reach its body."""

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
    """A decorated `types.coroutine` function can be awaited."""

    @tracks(AGENT)
    @types.coroutine
    def old_style():
        yield from asyncio.sleep(0).__await__()
        return 7

    async def main():
        return await old_style()

    assert asyncio.run(main()) == 7
    assert ends(captured) == PAIR


# -- a body that ends by an exception of the iteration itself -------------------------------------


def raises(error: type[BaseException]) -> Any:
    yield 1
    raise error


def raises_when_closed(error: type[BaseException]) -> Any:
    try:
        yield 1
    except GeneratorExit:
        raise error from None


async def async_raises(error: type[BaseException]) -> Any:
    yield 1
    raise error


async def async_raises_when_closed(error: type[BaseException]) -> Any:
    try:
        yield 1
    except GeneratorExit:
        raise error from None


def go_on(generator: Any) -> None:
    next(generator)
    next(generator)


def throw_into(generator: Any) -> None:
    next(generator)
    generator.throw(StopIteration())


def close(generator: Any) -> None:
    next(generator)
    generator.close()


def in_a_loop(use: Any) -> Any:
    def run(generator: Any) -> None:
        asyncio.run(use(generator))

    return run


@in_a_loop
async def async_go_on(generator: Any) -> None:
    await anext(generator)
    await anext(generator)


@in_a_loop
async def async_throw_into(generator: Any) -> None:
    await anext(generator)
    await generator.athrow(StopAsyncIteration())


@in_a_loop
async def async_close(generator: Any) -> None:
    await anext(generator)
    await generator.aclose()


@pytest.mark.parametrize(
    ("body", "error", "use", "raised"),
    [
        (raises, StopIteration, go_on, RuntimeError),
        (raises, StopIteration, throw_into, RuntimeError),
        (raises_when_closed, StopIteration, close, RuntimeError),
        (raises_when_closed, Custom, close, Custom),
        (async_raises, StopIteration, async_go_on, RuntimeError),
        (async_raises, StopAsyncIteration, async_go_on, RuntimeError),
        (async_raises, StopAsyncIteration, async_throw_into, RuntimeError),
        (async_raises_when_closed, StopIteration, async_close, RuntimeError),
        (async_raises_when_closed, StopAsyncIteration, async_close, RuntimeError),
        (async_raises_when_closed, Custom, async_close, Custom),
    ],
)
def test_ends_that_are_errors(
    captured: Captured, body: Any, error: Any, use: Any, raised: type[Exception]
) -> None:
    """StopIteration out of a body is the RuntimeError that Python makes of it: a failure."""
    with pytest.raises(raised) as bare:
        use(body(error))
    with pytest.raises(raised) as ours:
        use(tracks(AGENT)(body)(error))

    assert FAILED == ends(captured)
    assert (bare.value.args, type(bare.value.__cause__)) == (
        ours.value.args,
        type(ours.value.__cause__),
    )
    assert (raised.__name__ if raised is RuntimeError else "other") == captured.events[-1][
        "error_type"
    ]


def test_a_block_that_raises_stop_iteration(captured: Captured) -> None:
    """StopIteration out of the block of a context manager is a failure."""

    @contextlib.contextmanager
    @tracks(AGENT)
    def managed():
        yield

    with pytest.raises(StopIteration), managed():
        raise StopIteration

    assert FAILED == ends(captured)


def test_a_body_that_ignores_close_and_ends(captured: Captured) -> None:
    """If the body suppresses GeneratorExit and runs to its end later, the outcome is ok."""

    def stubborn():
        with contextlib.suppress(GeneratorExit):
            yield 1
        yield 2

    async def async_stubborn():
        with contextlib.suppress(GeneratorExit):
            yield 1
        yield 2

    async def main():
        generator = tracks(AGENT)(async_stubborn)()
        await anext(generator)
        return await generator.athrow(GeneratorExit()), [n async for n in generator]

    generator = tracks(AGENT)(stubborn)()
    next(generator)

    assert (2, []) == (generator.throw(GeneratorExit()), list(generator))
    assert (2, []) == asyncio.run(main())
    assert PAIR * 2 == ends(captured)
