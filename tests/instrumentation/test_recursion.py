"""A decorated function recurses as deep with consent as without, and as deep as any wrapper."""

import asyncio
import contextlib
import functools
import gc
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio

from telemetry_kit import capture_events, current, tracks
from tests.instrumentation.coroutines_helpers import AGENT

Decorate = Callable[[Any], Any]


def wraps(function: Any) -> Any:
    """Decorate as `functools.wraps` is used: the peer of a function that records nothing."""
    wrapper: Any
    if inspect.iscoroutinefunction(function):

        async def wrapper(*args: Any) -> Any:
            return await function(*args)
    elif inspect.isasyncgenfunction(function):

        async def wrapper(*args: Any) -> Any:
            async for value in function(*args):
                yield value
    elif inspect.isgeneratorfunction(function):

        def wrapper(*args: Any) -> Any:
            return (yield from function(*args))
    else:

        def wrapper(*args: Any) -> Any:
            return function(*args)

    return functools.wraps(function)(wrapper)


# -- one endless recursion for each kind ----------------------------------------------------------


class Depth:
    """The calls of an endless recursion until Python raises RecursionError."""

    def __init__(self, decorate: Decorate) -> None:
        self.reached = 0
        self.again: Any = decorate(self.target())

    def target(self) -> Any:
        """What is decorated."""
        return self.walk

    def walk(self) -> Any:
        """Call the decorated function again."""
        raise NotImplementedError

    def run(self) -> None:
        """Start the recursion."""
        self.again()


class Function(Depth):
    def target(self) -> Any:
        def walk() -> Any:
            self.reached += 1
            return self.again()

        return walk


class Generator(Depth):
    def target(self) -> Any:
        def walk() -> Any:
            self.reached += 1
            yield from self.again()

        return walk

    def run(self) -> None:
        list(self.again())


class Coroutine(Depth):
    def target(self) -> Any:
        async def walk() -> Any:
            self.reached += 1
            return await self.again()

        return walk

    def run(self) -> None:
        asyncio.run(self.again())


class TrioCoroutine(Coroutine):
    def run(self) -> None:
        trio.run(self.again)


class AsyncGenerator(Depth):
    def target(self) -> Any:
        async def walk() -> Any:
            self.reached += 1
            async for value in self.again():
                yield value

        return walk

    async def drain(self) -> None:
        async for _ in self.again():
            pass

    def run(self) -> None:
        asyncio.run(self.drain())


class TrioAsyncGenerator(AsyncGenerator):
    def run(self) -> None:
        trio.run(self.drain)


class Partial(Function):
    def target(self) -> Any:
        return functools.partial(super().target())


class BoundMethod(Depth):
    def walk(self) -> Any:
        self.reached += 1
        return self.again()


class CallableObject(Depth):
    def target(self) -> Any:
        return self

    def __call__(self) -> Any:
        self.reached += 1
        return self.again()


class AsyncPartial(Coroutine):
    def target(self) -> Any:
        return functools.partial(super().target())


def depth(kind: type[Depth], decorate: Decorate, recorded: bool = False) -> int:
    """How deep a kind of function recurses."""
    found = kind(decorate)
    with capture_events() if recorded else contextlib.nullcontext():
        with pytest.raises(RecursionError):
            found.run()
        gc.collect()

    assert not current()

    return found.reached


@pytest.fixture(autouse=True)
def _in_a_program(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Under pytest, an error of the recorder is raised. In a program it is not."""
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    # Python reports the async generators that it cannot close at the end of the stack.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(700)
    yield
    sys.setrecursionlimit(before)


# Before Python 3.12, each step of a generator that is driven by hand counts as one more call.
GENERATORS = 0.9 if sys.version_info >= (3, 12) else 0.65


@pytest.mark.parametrize(
    ("kind", "on_share"),
    [
        (Function, 0.9),
        (Generator, GENERATORS),
        (Coroutine, 0.9),
        (TrioCoroutine, 0.9),
        (AsyncGenerator, 0.8),
        (TrioAsyncGenerator, 0.8),
    ],
)
def test_functions(kind: type[Depth], on_share: float) -> None:
    """A function recurses as deep as one wrapped by `functools.wraps`, and nearly so when on."""
    off = depth(kind, tracks(AGENT))

    assert off >= 0.95 * depth(kind, wraps)
    assert depth(kind, tracks(AGENT), recorded=True) >= on_share * off


@pytest.mark.parametrize("kind", [Partial, BoundMethod, CallableObject, AsyncPartial])
def test_proxies(kind: type[Depth]) -> None:
    """A decorated object recurses at least half as deep as a wrapped one, and the same when on."""
    off = depth(kind, tracks(AGENT))

    assert off >= 0.5 * depth(kind, wraps)
    assert depth(kind, tracks(AGENT), recorded=True) >= 0.9 * off
