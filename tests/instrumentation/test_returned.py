"""A decorated function that returns a context manager or a generator is measured to its end."""

import asyncio
import contextlib
import gc
import inspect
import pickle
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from telemetry_kit import capture_events, current, role_session, tracks
from telemetry_kit.testing import Captured
from tests.instrumentation.coroutines_helpers import AGENT, CLOSED, FAILED, PAIR, Custom, ends


def traced(function: Callable[..., Any]) -> Any:
    return tracks(AGENT, agent="worker")(function)


# -- above @contextmanager -----------------------------------------------------------------------


@traced
@contextlib.contextmanager
def managed(value: int, swallow: bool = False) -> Iterator[int]:
    """Manage something."""
    try:
        yield value
    except Custom:
        if not swallow:
            raise


class Host:
    @traced
    @contextlib.contextmanager
    def managed(self) -> Iterator["Host"]:
        yield self

    @traced
    @staticmethod
    @contextlib.contextmanager
    def static(value: int) -> Iterator[int]:
        yield value


def test_the_pair_spans_the_block(captured: Captured) -> None:
    """The last event is recorded when the block is left."""
    with managed(3) as value:
        assert PAIR[:1] == ends(captured)
    assert 3 == value
    assert PAIR == ends(captured)


@pytest.mark.parametrize(("swallow", "expected"), [(False, FAILED), (True, PAIR)])
def test_an_error_in_the_block(captured: Captured, swallow: bool, expected: Any) -> None:
    """An error in the block fails the span, unless the manager suppresses the error."""
    with contextlib.suppress(Custom), managed(3, swallow=swallow):
        raise Custom

    assert expected == ends(captured)


def test_a_manager_never_entered_records_nothing(captured: Captured) -> None:
    """A context manager that is never entered records nothing."""
    managed(3)

    assert [] == ends(captured)


def test_used_as_a_decorator(captured: Captured) -> None:
    """A context manager used as a decorator records each call."""

    @managed(3)
    def function() -> int:
        return len(ends(captured))

    assert [1, 3] == [function(), function()]
    assert PAIR * 2 == ends(captured)


def test_methods(captured: Captured) -> None:
    """Decorated methods are bound to their instance or class."""
    host = Host()
    with host.managed() as first, host.static(2) as second, Host.static(3) as third:
        assert (host, 2, 3) == (first, second, third)

    assert 6 == len(captured.events)


def test_asynccontextmanager(captured: Captured) -> None:
    """An async context manager is measured like a plain one."""

    @traced
    @contextlib.asynccontextmanager
    async def opened():
        await asyncio.sleep(0)
        yield 3

    async def main() -> None:
        async with opened() as value:
            assert PAIR[:1] == ends(captured)
            assert value == 3
        with pytest.raises(Custom):
            async with opened():
                raise Custom

    asyncio.run(main())

    assert PAIR + FAILED == ends(captured)


def test_decorated_function_looks_the_same() -> None:
    """The decorated function keeps its kind, name, docstring, signature and result."""
    plain = contextlib.contextmanager(inspect.unwrap(managed))
    with capture_events():
        on = type(managed(1))

    assert type(plain(1)) is on is type(managed(1))
    assert inspect.signature(plain) == inspect.signature(managed)
    assert ("managed", "Manage something.") == (managed.__name__, managed.__doc__)
    assert inspect.isgeneratorfunction(plain) == inspect.isgeneratorfunction(managed)
    assert managed is pickle.loads(pickle.dumps(managed))


def test_attributes_on_it_are_kept() -> None:
    """Attributes that other decorators set on the function are kept."""
    function = contextlib.contextmanager(inspect.unwrap(managed))
    function.marked = True  # type: ignore[attr-defined]

    assert traced(function).marked


def test_a_session_above_contextmanager(captured: Captured) -> None:
    """The role is current in the generator, and the session encloses the block."""
    roles = []

    @role_session("dev")
    @contextlib.contextmanager
    def opened() -> Iterator[None]:
        roles.append(current().role)
        yield
        roles.append(current().role)

    with opened():
        roles.append(current() or None)

    assert ["dev", None, "dev"] == roles
    assert ["role.selected"] == [e["event_type"] for e in captured.events]


def test_another_function_of_contextlib(captured: Captured) -> None:
    """Any other function from contextlib is treated as a plain function."""
    closing = traced(contextlib.suppress.__exit__)

    assert closing(contextlib.suppress(KeyError), KeyError, None, None)
    assert PAIR == ends(captured)


# -- a plain function that returns a generator ---------------------------------------------------


@traced
def numbers(count: int, fail: bool = False) -> Iterator[Any]:
    """Return a generator of another function."""
    return _numbers(count, fail)


def _numbers(count: int, fail: bool) -> Any:
    total = 0
    for number in range(count):
        try:
            total += (yield number) or 0
        except KeyError:
            total += 100
    if fail:
        raise Custom
    return total


def test_the_pair_spans_the_iteration(captured: Captured) -> None:
    """The last event is recorded at the end of the generator, and the span is current inside."""
    iterator = numbers(2)

    assert PAIR[:1] == ends(captured)
    assert [0, 1] == list(iterator)
    assert PAIR == ends(captured)
    assert not current()


def test_current_in_the_body_only(captured: Captured) -> None:
    """The span is not current in the consumer between two steps."""

    @traced
    def returns() -> Any:
        return (current() for _ in range(1))

    iterator = returns()

    assert not current()
    assert [captured.events[0]["span_id"]] == [c.span_id for c in iterator]
    assert not current()


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (lambda g: [*g], PAIR),
        (lambda g: next(g), CLOSED),
        (lambda g: (next(g), g.close()), CLOSED),
        (lambda g: g.close(), CLOSED),
        (lambda g: None, CLOSED),
        (lambda g: (next(g), g.send(5), g.throw(KeyError), [*g]), PAIR),
        (lambda g: contextlib.suppress(Custom).__exit__(*_thrown(g)), FAILED),
    ],
    ids=["whole", "left", "closed", "closed at once", "unused", "sent and thrown", "error"],
)
def test_every_way_to_end_the_iteration(use: Callable[[Any], Any], expected: Any) -> None:
    """Every way to end the iteration ends the span and has the same result as when off."""
    off = use(_numbers(3, fail=False))
    with capture_events() as captured:
        on = use(numbers(3))
        gc.collect()

    assert off == on
    assert expected == ends(captured)


def _thrown(generator: Any) -> tuple[Any, Any, None]:
    next(generator)
    try:
        generator.throw(Custom)
    except Custom as error:
        return type(error), None, None
    raise AssertionError


def test_return_value_and_names(captured: Captured) -> None:
    """The return value is passed on, and the generator has the inner generator's name."""
    iterator = numbers(1)

    def outer() -> Any:
        return (yield from iterator)

    driven = outer()

    assert ("_numbers", "_numbers") == (iterator.__name__, iterator.__qualname__)
    assert 0 == next(driven)
    with pytest.raises(StopIteration) as stopped:
        driven.send(7)
    assert 7 == stopped.value.value
    assert PAIR == ends(captured)


def test_an_error_in_the_body(captured: Captured) -> None:
    """An error in the body is raised unchanged."""
    with pytest.raises(Custom):
        list(numbers(1, fail=True))

    assert FAILED == ends(captured)


async def _answer() -> int:
    return 7


async def _async_numbers(count: int, fail: bool) -> Any:
    for number in _numbers(count, fail):
        yield number


Make = Callable[[], Any]
KINDS = {
    "generator": lambda: _numbers(2, fail=False),
    "coroutine": _answer,
    "async generator": lambda: _async_numbers(2, fail=False),
}


@pytest.fixture(params=KINDS)
def make(request: pytest.FixtureRequest) -> Make:
    """Make a coroutine, a generator or an async generator that has not started."""
    return KINDS[request.param]


def close(made: Any) -> None:
    if inspect.iscoroutine(made):
        made.close()


HELD: dict[Any, int] = {}
WEAKLY_HELD: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


def hand_on(job: Any) -> Any:
    return job


def hold(job: Any) -> Any:
    HELD[job] = 1
    return job


def hold_a_new_one(make: Make) -> Any:
    return hold(make())


def hold_weakly(make: Make) -> Any:
    made = make()
    WEAKLY_HELD[made] = 1
    return made


def hold_in_a_closure(make: Make) -> Any:
    made = make()
    HELD[lambda: made] = 1
    return made


@pytest.mark.parametrize("submit", [hand_on, hold])
def test_an_argument_is_the_same_object(captured: Captured, make: Make, submit: Any) -> None:
    """What a function was given is returned as it is."""
    HELD.clear()
    job = make()

    assert traced(submit)(job) is job
    assert PAIR == ends(captured)
    assert [job] * (submit is hold) == list(HELD)

    close(job)


@pytest.mark.parametrize("submit", [hold_a_new_one, hold_weakly, hold_in_a_closure])
def test_held_elsewhere_is_the_same_object(captured: Captured, make: Make, submit: Any) -> None:
    """A result that another object holds is returned as it is."""
    HELD.clear()
    made = traced(submit)(make)
    held = [key() if inspect.isfunction(key) else key for key in [*HELD, *WEAKLY_HELD]]
    close(made)

    assert [made] == held
    assert PAIR == ends(captured)


def test_a_submitted_coroutine_runs(captured: Captured) -> None:
    """A coroutine that a queue holds and its submitter returns is awaited once, as when off."""
    jobs: list[Any] = []

    @traced
    def submit(coroutine: Any) -> Any:
        jobs.append(coroutine)
        return coroutine

    async def main() -> Any:
        submitted = submit(_answer())
        return jobs.index(submitted), await jobs.pop()

    assert (0, 7) == asyncio.run(main())
    assert PAIR == ends(captured)


def test_a_generator_that_can_be_awaited(captured: Captured) -> None:
    """A result of `types.coroutine` that a function returns can be awaited, and is followed."""

    @types.coroutine
    def old_style() -> Any:
        yield from asyncio.sleep(0).__await__()
        return 7

    @traced
    def start() -> Any:
        return old_style()

    async def main() -> Any:
        started = start()
        assert PAIR[:1] == ends(captured)
        return await started

    assert 7 == asyncio.run(main())
    assert PAIR == ends(captured)


def test_a_started_one_is_the_same_object(captured: Captured) -> None:
    """A generator or coroutine that has started is returned as it is."""

    @types.coroutine
    def pause() -> Any:
        yield

    async def pauses() -> Any:
        await pause()

    @traced
    def started(made: Callable[[], Any]) -> Any:
        returned = made()
        returned.send(None)
        ids.append(id(returned))
        return returned

    ids: list[int] = []
    found = [started(lambda: _numbers(2, fail=False)), started(pauses)]

    assert ids == [id(returned) for returned in found]
    assert [1] == list(found[0])
    assert PAIR * 2 == ends(captured)

    found[1].close()


# -- a plain function that returns an async generator ---------------------------------------------


@traced
def async_numbers(count: int, fail: bool = False) -> Any:
    """Return an async generator of another function."""
    return _async_numbers(count, fail)


async def use_whole(generator: Any) -> Any:
    return [number async for number in generator]


async def use_one(generator: Any) -> Any:
    first = await anext(generator)
    await generator.aclose()
    return first


async def use_none(generator: Any) -> Any:
    await generator.aclose()


async def drop(generator: Any) -> Any:
    del generator


async def throw(generator: Any) -> Any:
    await anext(generator)
    try:
        await generator.athrow(Custom)
    except Custom as error:
        return type(error)


@pytest.mark.parametrize(
    ("use", "expected"),
    [
        (use_whole, PAIR),
        (use_one, CLOSED),
        (use_none, CLOSED),
        (drop, CLOSED),
        (throw, FAILED),
    ],
)
def test_every_way_to_end_the_async_iteration(use: Any, expected: Any) -> None:
    """Every way to end the iteration ends the span and has the same result as when off."""
    off = asyncio.run(use(_async_numbers(3, fail=False)))
    with capture_events() as captured:
        on = asyncio.run(use(async_numbers(3)))
        gc.collect()

    assert off == on
    assert expected == ends(captured)


def test_an_async_generator_is_current_in_its_body(captured: Captured) -> None:
    """The span is current in the body, and not in the consumer between two steps."""

    async def body() -> Any:
        yield current()

    @traced
    def returns() -> Any:
        return body()

    async def main() -> Any:
        made = returns()
        return made.__name__, current(), [(inside, current()) async for inside in made]

    name, between, [(inside, consumer)] = asyncio.run(main())

    assert ("body", False, False) == (name, bool(between), bool(consumer))
    assert captured.events[0]["span_id"] == inside.span_id


def test_contextmanager_above_a_plain_function(captured: Captured) -> None:
    """A context manager is measured even if its function returns another generator."""
    opened = traced(contextlib.contextmanager(lambda: _numbers(1, fail=False)))
    with opened():
        assert PAIR[:1] == ends(captured)

    assert PAIR == ends(captured)
