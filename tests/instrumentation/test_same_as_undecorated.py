"""A decorated function and an undecorated one behave alike in random scripts."""

import asyncio
import contextlib
import inspect
import sys
import traceback
import types
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit import (
    capture_events,
    current,
    tracks,
)
from telemetry_kit.testing import Captured
from tests.instrumentation.coroutines_helpers import AGENT, Custom

ACTIONS = st.lists(
    st.one_of(
        st.just(("next",)),
        st.tuples(st.just("send"), st.integers(0, 3)),
        st.tuples(st.just("throw"), st.sampled_from([Custom, ValueError, GeneratorExit, KeyError])),
        st.just(("close",)),
    ),
    max_size=12,
)


# The body continues, returns, raises, or suppresses the thrown exception at each yield.
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


def _delegating(plan):
    return (yield from _body(plan))


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


def comparable(error: BaseException | None) -> Any:
    """Return an exception with its causes and contexts in a comparable form."""
    if error is None:
        return None
    return (
        type(error),
        [repr(a) for a in error.args],
        comparable(error.__cause__),
        comparable(error.__context__),
        error.__suppress_context__,
    )


def play(generator, actions):
    """Return the results of a generator for a script of actions."""
    answers = []
    for name, *arguments in actions:
        arguments = [a("thrown") if isinstance(a, type) else a for a in arguments]
        try:
            if name == "next":
                answers.append(("gave", next(generator)))
            else:
                answers.append(("gave", getattr(generator, name)(*arguments)))
        except BaseException as error:
            answers.append(("raised", comparable(error), getattr(error, "value", None)))
        answers.append(inspect.getgeneratorstate(generator))
    return answers


async def async_play(generator, actions):
    """Return the results of an async generator for a script of actions."""
    answers = []
    for name, *arguments in actions:
        arguments = [a("thrown") if isinstance(a, type) else a for a in arguments]
        try:
            if name == "next":
                answers.append(("gave", await anext(generator)))
            else:
                answers.append(("gave", await getattr(generator, f"a{name}")(*arguments)))
        except BaseException as error:
            answers.append(("raised", comparable(error)))
    await generator.aclose()
    return answers


# -- the same as undecorated: random scripts -----------------------------------------------------


@given(PLANS, ACTIONS)
def test_generators_respond_alike(plan: list[str], actions: list[Any]) -> None:
    """Decorated and undecorated generators respond alike to send, throw and close."""
    with capture_events() as captured:
        decorated = play(tracks(AGENT)(_body)(plan), actions)
    off = play(tracks(AGENT)(_body)(plan), actions)
    plain = play(_body(plan), actions)
    started = [e for e in captured.events if e["event_type"] == "agent.invoked"]

    # From Python 3.13 on, `close()` returns a value, which `yield from` loses.
    delegated = plain if sys.version_info < (3, 13) else play(_delegating(plan), actions)

    assert plain == decorated
    assert delegated == off
    assert len(started) <= 1
    assert len(captured.events) - len(started) <= 1
    assert not current()


@given(PLANS, ACTIONS)
def test_async_generators_respond_alike(plan: list[str], actions: list[Any]) -> None:
    """Decorated and undecorated async generators respond alike."""

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
    """Return the names of the frames in an exception's traceback, and the exception."""
    with pytest.raises(Custom) as raised:
        call(function)
    error = raised.value
    return [f.name for f in traceback.extract_tb(error.__traceback__)], comparable(error)


# -- exceptions of the host ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
def test_at_most_one_more_frame(kind: str, on: bool) -> None:
    """Decoration adds at most one frame to a traceback, and none to causes and contexts."""
    function, call = BODIES[kind]
    bare, expected = frames(function, call)
    with capture_events() if on else contextlib.nullcontext():
        ours, found = frames(tracks(AGENT)(function), call)

    assert expected == found
    assert bare == [name for name in ours if name != "wrapper"]
    assert len(bare) + 1 == len(ours)


def test_one_more_frame_for_errors_thrown_in(captured: Captured) -> None:
    """An exception thrown into a generator or a coroutine gets at most one more frame."""

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


def test_the_handled_exception_is_the_context(captured: Captured) -> None:
    """An error raised inside a handler keeps the handled exception as its context."""

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
