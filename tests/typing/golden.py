# pyright: strict, reportUnnecessaryTypeIgnoreComment=true
"""What a caller's type checker sees: read by mypy --strict and by pyright, never run.

Each `# type: ignore[...]` marks a mistake that must be found: both checkers report one that is
not needed. So a decorated function that lost its type fails here, whichever way it lost it.
"""

import functools
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import date
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, assert_type, overload

from telemetry_kit import (
    RoleEvent,
    capture_events,
    child_environment,
    configure,
    current,
    get_logger,
    hash_pii,
    instrument,
    is_telemetry_enabled,
    propagate,
    read_events,
    role_session,
    track_role_event,
    tracks,
)
from telemetry_kit.context import Scope
from telemetry_kit.insights import stats
from telemetry_kit.instrumentation.tracks import Call

T = TypeVar("T")
P = ParamSpec("P")
AGENT = tracks(RoleEvent.AGENT_INVOKED, agent="x")

# -- functions -------------------------------------------------------------------------------


@tracks(RoleEvent.AGENT_INVOKED, agent="adder", role="dev")
def add(a: int, /, b: int = 2, *rest: int, key: str = "", **more: bool) -> int:
    """Every kind of parameter."""
    return a + b


assert_type(add(1), int)
assert_type(add(1, 2, 3, key="x", other=True), int)
add("1")  # type: ignore[arg-type]
add()  # type: ignore[call-arg]
add(1, key=2)  # type: ignore[arg-type]
add(a=1)  # type: ignore[call-arg, arg-type]
add(1, other="x")  # type: ignore[arg-type]
wrong: str = add(1)  # type: ignore[assignment]


@role_session("dev", command="build")
def in_session(a: int) -> str:
    """A session decorates in the same way."""
    return str(a)


assert_type(in_session(1), str)
in_session("1")  # type: ignore[arg-type]


@overload
def either(value: int) -> str: ...
@overload
def either(value: str) -> bytes: ...
@AGENT
def either(value: int | str) -> str | bytes:
    """The implementation is decorated."""
    return str(value) if isinstance(value, int) else value.encode()


assert_type(either(1), str)
assert_type(either("x"), bytes)
either(b"x")  # type: ignore[call-overload]


class Overloaded(Protocol):
    """A callable with overloads."""

    @overload
    def __call__(self, value: int) -> str: ...
    @overload
    def __call__(self, value: str) -> bytes: ...


def kept(given: Overloaded) -> None:
    """Overloads survive a decoration by hand."""
    decorated = AGENT(given)
    assert_type(decorated, Overloaded)
    assert_type(decorated(1), str)
    assert_type(decorated("x"), bytes)
    decorated(1.5)  # type: ignore[call-overload]


@AGENT
def first(values: list[T], default: T) -> T:
    """A generic function."""
    return values[0] if values else default


assert_type(first([1], 2), int)
assert_type(first(["a"], "b"), str)
first(1, 2)  # type: ignore[arg-type]


@AGENT
def apply(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """A function of parameter specifications."""
    return function(*args, **kwargs)


assert_type(apply(in_session, 1), str)
apply(in_session, "1")  # type: ignore[arg-type]

# -- functions that run in steps -----------------------------------------------------------------


@AGENT
async def later(a: int) -> str:
    """A coroutine function."""
    return str(a)


@AGENT
def numbers(count: int) -> Generator[int, str, bytes]:
    """A generator function."""
    sent = yield count
    return sent.encode()


@AGENT
async def anumbers(count: int) -> AsyncGenerator[int, str]:
    """An async generator function."""
    sent = yield count
    assert_type(sent, str)


@AGENT
def starter(a: int) -> Awaitable[str]:
    """A plain function that returns a coroutine."""
    return later(a)


@contextmanager
@AGENT
def managed(name: str) -> Generator[int]:
    """A generator under contextmanager."""
    yield len(name)


@asynccontextmanager
@AGENT
async def amanaged(name: str) -> AsyncGenerator[int]:
    """An async generator under asynccontextmanager."""
    yield len(name)


async def use_steps() -> None:
    """What comes out of them."""
    assert_type(await later(1), str)
    assert_type(await starter(1), str)
    assert_type(numbers(1), Generator[int, str, bytes])
    assert_type(next(numbers(1)), int)
    numbers(1).send(2)  # type: ignore[arg-type]
    assert_type(anumbers(1), AsyncGenerator[int, str])
    async for number in anumbers(1):
        assert_type(number, int)
    await anumbers(1).asend(2)  # type: ignore[arg-type]
    with managed("x") as value:
        assert_type(value, int)
    async with amanaged("x") as avalue:
        assert_type(avalue, int)
    await later("1")  # type: ignore[arg-type]
    managed(1)  # type: ignore[arg-type]


# -- methods -------------------------------------------------------------------------------------


class Box(Generic[T]):
    """A generic class with every kind of method."""

    def __init__(self, value: T) -> None:
        self.value = value

    @AGENT
    def method(self, a: int) -> T:
        """A method."""
        return self.value

    @AGENT
    async def coroutine(self, a: int) -> T:
        """A coroutine method."""
        return self.value

    @AGENT
    @classmethod
    def class_above(cls, value: T) -> "Box[T]":
        """Decorated above."""
        return cls(value)

    @classmethod
    @AGENT
    def class_below(cls, value: T) -> "Box[T]":
        """Decorated below."""
        return cls(value)

    @AGENT
    @staticmethod
    def static_above(a: int) -> str:
        """Decorated above."""
        return str(a)

    @staticmethod
    @AGENT
    def static_below(a: int) -> str:
        """Decorated below."""
        return str(a)

    @property
    @AGENT
    def attribute(self) -> T:
        """Decorated below a property."""
        return self.value

    @functools.cached_property
    @AGENT
    def cached(self) -> T:
        """Decorated below a cached property."""
        return self.value


class Base(ABC):
    """An abstract method stays abstract."""

    @abstractmethod
    @AGENT
    def method(self, a: int) -> int:
        """Decorated below."""


class Derived(Base):
    """A decorated override must fit."""

    @AGENT
    def method(self, a: int) -> int:
        """It fits."""
        return a


class Misfit(Base):
    """A decorated override that does not fit is found."""

    @AGENT
    def method(self, a: str) -> int:  # type: ignore[override]
        """It does not fit."""
        return len(a)


def use_methods(box: Box[int]) -> None:
    """What comes out of them."""
    assert_type(box.method(1), int)
    assert_type(Box.static_above(1), str)
    assert_type(box.static_below(1), str)
    assert_type(Box[int].class_below(1), Box[int])
    assert_type(Box[int].class_above(1), Box[int])
    assert_type(box.attribute, int)
    assert_type(box.cached, int)
    assert_type(Derived().method(1), int)
    box.method("1")  # type: ignore[arg-type]
    box.static_below("1")  # type: ignore[arg-type]
    Base()  # type: ignore[abstract]


# -- everything else that is callable ------------------------------------------------------------


class Adder:
    """A callable object."""

    more = 2

    def __call__(self, a: int) -> int:
        """Add."""
        return a + self.more


adder = AGENT(Adder())
assert_type(adder, Adder)
assert_type(adder(1), int)
assert_type(adder.more, int)
adder("1")  # type: ignore[arg-type]

three = AGENT(functools.partial(in_session, 1))
assert_type(three, functools.partial[str])
assert_type(three(), str)

counted: Callable[[str], int] = AGENT(len)
parsed = AGENT(int)
assert_type(parsed, type[int])

# -- context managers ----------------------------------------------------------------------------


async def use_blocks() -> None:
    """Both kinds, and what they give."""
    with tracks(RoleEvent.COMMAND_EXECUTED, command="build") as call:
        assert_type(call, Call)
        call.set(context={"count": 1}, exit_code=3)
        call.set(exit_code="3")  # type: ignore[arg-type]
        call.set(colour=3)  # type: ignore[call-arg]
    async with tracks("agent.invoked") as acall:
        assert_type(acall, Call)
    with role_session("dev", workflow="release") as session:
        assert_type(session, role_session)
    async with session as again:
        assert_type(again, role_session)


def goes_on(value: int) -> int:
    """No block swallows exceptions, so that this one is known to return."""
    with tracks("agent.invoked"), role_session("dev"):
        return value


# -- the rest of the public API ----


def use_the_rest() -> None:
    """Functions that are called, not used as decorators."""
    assert_type(propagate(in_session)(1), str)
    propagate(in_session)("1")  # type: ignore[arg-type]
    assert_type(track_role_event("agent.invoked", agent="x"), dict[str, Any] | None)
    assert_type(current(), Scope)
    assert_type(is_telemetry_enabled(), bool)
    assert_type(read_events(since=date(2026, 11, 23)), Iterator[dict[str, Any]])
    read_events(since=7)  # type: ignore[arg-type]
    assert_type(stats(since="7d").agents[0].rate, float | None)
    assert_type(child_environment(), dict[str, str])
    assert_type(hash_pii("x", field="agent"), str)
    with capture_events() as captured:
        assert_type(captured.events, list[dict[str, Any]])
        assert_type(captured.dropped, list[tuple[str, str]])
    with configure(app="acme", roles=["dev"], context={"count": "measure"}):
        get_logger().bind(role="dev").info("agent.invoked")
    with instrument("json:dumps", tracks("agent.invoked")) as handle:
        handle.undo()
    instrument("json:dumps", len)  # type: ignore[arg-type]
    hash_pii("x")  # type: ignore[call-arg]
    tracks()  # type: ignore[call-arg]
    tracks(7)  # type: ignore[arg-type]
    tracks("agent.invoked", agnet="x")  # type: ignore[call-arg]
    role_session("dev", "build")  # type: ignore[call-arg]
    track_role_event("agent.invoked", colour="x")  # type: ignore[call-arg]
