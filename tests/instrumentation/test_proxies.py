"""Each kind of callable can be decorated, or is refused with a reason."""

import abc
import asyncio
import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from telemetry_kit import (
    current,
    role_session,
    tracks,
)
from telemetry_kit.errors import DecorationError
from telemetry_kit.testing import Captured
from tests.instrumentation.proxies_helpers import (
    AGENT,
    PAIR,
    Adder,
    AsyncAdder,
    Methods,
    add,
    adder,
    anumbers,
    cached,
    kinds,
    later,
    length,
    numbers,
    three,
)


class Counter(Adder):
    """A callable object whose call is a generator."""

    def __call__(self, a: int) -> Iterator[int]:  # type: ignore[override]
        yield a
        yield a + self.more


class AsyncCounter(Adder):
    """A callable object whose call is an async generator."""

    async def __call__(self, a: int) -> typing.AsyncIterator[int]:  # type: ignore[override]
        yield a
        yield a + self.more


class Derived(Methods):
    """A subclass whose method calls that of its base."""

    @tracks(AGENT)
    def method(self, a: int) -> int:
        """Add twice."""
        return super().method(a) * 2


def _list(generator: Any) -> Any:
    return list(generator)


async def _alist(generator: Any) -> Any:
    return [n async for n in generator]


def _await(made: Any) -> Any:
    return asyncio.run(_alist(made) if inspect.isasyncgen(made) else made)


KINDS: dict[str, tuple[Callable[[], Any], Any]] = {
    "function": (lambda: add(1), 3),
    "keywords": (lambda: add(b=4, a=1), 5),
    "async function": (lambda: _await(later(1)), 2),
    "generator": (lambda: _list(numbers(2)), [0, 1]),
    "async generator": (lambda: _await(anumbers(2)), [0, 1]),
    "method": (lambda: Methods(1).method(2), 3),
    "method by class": (lambda: Methods.method(Methods(1), 2), 3),
    "async method": (lambda: _await(Methods(1).coroutine(2)), 3),
    "classmethod above": (lambda: Methods.class_above(2), (Methods, 2)),
    "classmethod above, derived": (lambda: Derived.class_above(2), (Derived, 2)),
    "classmethod above, instance": (lambda: Derived(1).class_above(2), (Derived, 2)),
    "classmethod below": (lambda: Derived(1).class_below(2), (Derived, 2)),
    "staticmethod above": (lambda: Methods.static_above(1), 3),
    "staticmethod above, instance": (lambda: Methods(1).static_above(1), 3),
    "staticmethod below": (lambda: Methods(1).static_below(1), 3),
    "async classmethod": (lambda: _await(Derived.async_class(1)), (Derived, 1)),
    "property": (lambda: Methods(3).attribute, 3),
    "cached_property": (lambda: Methods(3).kept, 3),
    "lru_cache on a method": (lambda: Methods(3).cached(1), 4),
    "partialmethod": (lambda: Methods(3).partial(), 8),
    "partial": (lambda: three(), 3),
    "partial of a coroutine function": (
        lambda: _await(tracks(AGENT)(functools.partial(later.__wrapped__, 1))()),
        2,
    ),
    "partial of a generator function": (
        lambda: _list(tracks(AGENT)(functools.partial(numbers.__wrapped__, 2))()),
        [0, 1],
    ),
    "partial of a partial": (lambda: tracks(AGENT)(functools.partial(three.__wrapped__))(), 3),
    "callable object": (lambda: adder(1), 3),
    "async callable object": (lambda: _await(tracks(AGENT)(AsyncAdder(2))(1)), 3),
    "generator object": (lambda: _list(tracks(AGENT)(Counter(2))(1)), [1, 3]),
    "async generator object": (lambda: _await(tracks(AGENT)(AsyncCounter(2))(1)), [1, 3]),
    "partial of an async callable": (
        lambda: _await(tracks(AGENT)(functools.partial(AsyncAdder(2), 1))()),
        3,
    ),
    "builtin": (lambda: length([1, 2]), 2),
    "no signature": (lambda: tracks(AGENT)(dict.fromkeys)("ab", 1), {"a": 1, "b": 1}),
    "slot wrapper": (lambda: tracks(AGENT)(int.__add__)(1, 2), 3),
    "method of a C object": (lambda: tracks(AGENT)("a-b".split)("-"), ["a", "b"]),
    "bound method": (lambda: tracks(AGENT)(Adder(2).__call__)(1), 3),
    "bound coroutine method": (lambda: _await(tracks(AGENT)(AsyncAdder(2).__call__)(1)), 3),
    "lru_cache": (lambda: cached(1), 3),
    "partial of a class": (lambda: tracks(AGENT)(functools.partial(Adder, 2))(), Adder(2)),
    "lambda": (lambda: tracks(AGENT)(lambda: 3)(), 3),
    "mock": (lambda: tracks(AGENT)(mock.Mock(return_value=3))(), 3),
    "method type": (lambda: tracks(AGENT)(types.MethodType(Adder.__call__, Adder(2)))(1), 3),
}


# -- kinds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_callable(captured: Captured, kind: str) -> None:
    """A decorated callable of any kind returns its own result and records two events."""
    call, expected = KINDS[kind]
    found = call()

    assert expected == found
    assert kinds(captured) == PAIR
    assert captured.events[0]["span_id"] == captured.events[1]["span_id"]
    assert not current()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_callable_when_off(kind: str) -> None:
    """While recording is off, a decorated callable of any kind returns its own result."""
    call, expected = KINDS[kind]

    assert expected == call()


@pytest.mark.parametrize("kind", KINDS)
def test_the_scope_covers_the_body(captured: Captured, kind: str) -> None:
    """A session is current in the body of any kind of callable, and not outside."""
    call, _ = KINDS[kind]
    with role_session("qa"):
        call()

    assert {"qa"} == {e["role"] for e in captured.events}


def test_super_calls_nest(captured: Captured) -> None:
    """The span of a base method is inside the span of the method that calls it."""
    found = Derived(1).method(2)
    outer, inner, *_ = captured.events

    assert found == 6
    assert outer["span_id"] == inner["parent_id"]


def test_functools_wraps_on_either_side(captured: Captured) -> None:
    """`functools.wraps` works above and below our decorator."""

    def other(function):
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    @other
    @tracks(AGENT)
    @other
    def target(a: int, *, b: str = "x") -> list[int]:
        """Documented."""
        return [a]

    assert target(1) == [1]
    assert str(inspect.signature(target)) == "(a: int, *, b: str = 'x') -> list[int]"
    assert target.__name__ == "target"
    assert target.__doc__ == "Documented."
    assert kinds(captured) == PAIR


def test_abstractmethod_on_either_side(captured: Captured) -> None:
    """A class with a decorated abstract method stays abstract until a subclass defines it."""

    class Above(abc.ABC):
        @tracks(AGENT)
        @abc.abstractmethod
        def method(self) -> int: ...

    class Below(abc.ABC):
        @abc.abstractmethod
        @tracks(AGENT)
        def method(self) -> int:
            return 3

    class Given(Below):
        def method(self) -> int:
            return super().method()

    for abstract in (Above, Below):
        with pytest.raises(TypeError, match="abstract"):
            abstract()

    assert Given().method() == 3
    assert kinds(captured) == PAIR


def test_singledispatch_on_either_side(captured: Captured) -> None:
    """`singledispatch` selects the implementation by annotation on either side."""

    @tracks(AGENT)
    @functools.singledispatch
    def above(value: object) -> str:
        return "object"

    @above.register
    def _(value: int) -> str:
        return "int"

    @functools.singledispatch
    @tracks(AGENT)
    def below(value: object) -> str:
        return "object"

    @below.register
    @tracks(AGENT)
    def _(value: int) -> str:
        return "int"

    assert [above("a"), above(1), below("a"), below(1)] == ["object", "int"] * 2
    assert kinds(captured) == PAIR * 4


def test_lru_cache_on_either_side(captured: Captured) -> None:
    """Every call is measured above `lru_cache`, and only the misses below it."""

    @functools.lru_cache
    @tracks(AGENT)
    def below(a: int) -> int:
        return a

    @tracks(AGENT)
    @functools.lru_cache
    def above(a: int) -> int:
        return a

    below(1), below(1), above(1), above(1)

    assert kinds(captured) == PAIR * 3
    assert (above.cache_info().hits, below.cache_info().hits) == (1, 1)

    above.cache_clear()


@dataclasses.dataclass
class Data:
    """A class with fields."""

    value: int


REFUSED: dict[str, tuple[Any, str]] = {
    "class": (Data, "class Data: decorate the method"),
    "abstract class": (abc.ABC, "decorate the method"),
    "property": (property(lambda self: 1), "put it under @property"),
    "cached_property": (functools.cached_property(lambda self: 1), "put it under @cached_property"),
    "partialmethod": (functools.partialmethod(add, 1), "decorate the method it is made of"),
    "singledispatchmethod": (functools.singledispatchmethod(add), "under @singledispatchmethod"),
    "number": (7, "something that can be called"),
    "None": (None, "something that can be called"),
    "classmethod of a property": (classmethod(property(lambda self: 1)), "under @property"),
}


# -- what cannot be decorated --------------------------------------------------------------------


@pytest.mark.parametrize("what", REFUSED)
@pytest.mark.parametrize("around", [tracks(AGENT), role_session("dev")], ids=["tracks", "session"])
def test_refused_at_decoration(what: str, around: Any) -> None:
    """The TypeError names the decorator and the correct use."""
    target, advice = REFUSED[what]
    with pytest.raises(TypeError, match=advice) as raised:
        around(target)

    assert isinstance(raised.value, DecorationError)
    assert str(raised.value).startswith(("@tracks('agent.invoked')", "@role_session('dev')"))
