"""Callables of every kind, and helpers for the tests of decorated callables."""

import asyncio
import functools
import typing
from collections.abc import Iterator
from typing import Any

from telemetry_kit import (
    RoleEvent,
    tracks,
)
from telemetry_kit.testing import Captured

AGENT = RoleEvent.AGENT_INVOKED


PAIR = ["agent.invoked", "agent.completed"]


def kinds(captured: Captured) -> list[str]:
    """Return the types of the recorded events."""
    return [e["event_type"] for e in captured.events]


@tracks(AGENT, agent="adder")
def add(a: int, b: int = 2) -> int:
    """Add."""
    return a + b


@tracks(AGENT)
async def later(a: int) -> int:
    """Add one."""
    return a + 1


@tracks(AGENT)
def numbers(count: int) -> Iterator[int]:
    """Count."""
    yield from range(count)


@tracks(AGENT)
async def anumbers(count: int) -> typing.AsyncIterator[int]:
    """Count."""
    for n in range(count):
        yield n


class Adder:
    """A callable object."""

    def __init__(self, more: int) -> None:
        self.more = more

    def __call__(self, a: int) -> int:
        return a + self.more

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Adder) and self.more == other.more

    def __hash__(self) -> int:
        return hash(self.more)


class AsyncAdder(Adder):
    """A callable object whose call is a coroutine."""

    async def __call__(self, a: int) -> int:  # type: ignore[override]
        await asyncio.sleep(0)
        return a + self.more


adder = tracks(AGENT)(Adder(2))


three = tracks(AGENT)(functools.partial(Adder(2), 1))


length = tracks(AGENT)(len)


@tracks(AGENT)
@functools.lru_cache(maxsize=4)
def cached(a: int) -> int:
    """Keep."""
    return a + 2


class Methods:
    """Every kind of method."""

    def __init__(self, base: int) -> None:
        self.base = base

    @tracks(AGENT)
    def method(self, a: int) -> int:
        """Add to the base."""
        return self.base + a

    @tracks(AGENT)
    async def coroutine(self, a: int) -> int:
        """Add to the base."""
        return self.base + a

    @tracks(AGENT)
    @classmethod
    def class_above(cls, a: int) -> tuple[type, int]:
        """A class method with the decorator above `classmethod`."""
        return cls, a

    @classmethod
    @tracks(AGENT)
    def class_below(cls, a: int) -> tuple[type, int]:
        """A class method with the decorator below `classmethod`."""
        return cls, a

    @tracks(AGENT)
    @staticmethod
    def static_above(a: int) -> int:
        """A static method with the decorator above `staticmethod`."""
        return a + 2

    @staticmethod
    @tracks(AGENT)
    def static_below(a: int) -> int:
        """A static method with the decorator below `staticmethod`."""
        return a + 2

    @tracks(AGENT)
    @classmethod
    async def async_class(cls, a: int) -> tuple[type, int]:
        """An async class method."""
        return cls, a

    @property
    @tracks(AGENT)
    def attribute(self) -> int:
        """A property with a decorated getter."""
        return self.base

    @functools.cached_property
    @tracks(AGENT)
    def kept(self) -> int:
        """A cached property with a decorated getter."""
        return self.base

    @tracks(AGENT)
    @functools.lru_cache(maxsize=4)  # noqa: B019
    def cached(self, a: int) -> int:
        """Keep."""
        return self.base + a

    def __deepcopy__(self, memo: dict[int, Any]) -> "Methods":
        return Methods(self.base + 100)

    partial = functools.partialmethod(method, 5)
