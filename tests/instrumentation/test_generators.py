"""Decorated generators behave like undecorated ones."""

import asyncio
import contextlib
import gc
import threading
import types
from collections.abc import Iterator
from typing import Any

import pytest

from telemetry_kit import (
    capture_events,
    current,
    role_session,
    track_role_event,
    tracks,
)
from telemetry_kit.testing import Captured
from tests.instrumentation.coroutines_helpers import AGENT, CLOSED, FAILED, PAIR, Custom, ends


@pytest.fixture
def captured() -> Iterator[Captured]:
    """Every event of the test; internal errors are raised."""
    with capture_events() as events:
        yield events


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
