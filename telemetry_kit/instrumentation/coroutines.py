"""Drive generators and coroutines: the scope is current while the body runs, never in a pause.

Generators, coroutines and async generators are driven by hand, so that every sent, thrown or
returned value reaches the other side. The caller chooses the span and its events.
"""

from __future__ import annotations

import sys
from time import monotonic

from telemetry_kit import context as scopes
from telemetry_kit._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
    from typing import Any

    from telemetry_kit.context import Scope
    from telemetry_kit.instrumentation.decorate import Begin, Opened

AWAITABLE = 0x100  # inspect.CO_ITERABLE_COROUTINE


class _Inside:
    """What is current inside a body that is paused: its own scope, and what it opened since."""

    __slots__ = ("call", "scope")

    def __init__(self, call: Opened | None, scope: Scope | None) -> None:
        self.call = call
        self.scope = scope

    def finish(self, error: BaseException | None) -> None:
        if self.call is not None:
            self.call.finish(error)


def _begin(begin: Begin) -> _Inside | None:
    """Open, and leave current what was; None when this run is not recorded."""
    if monotonic() < runtime.off_until:
        return None
    variable = scopes.variable
    outer = variable.get()
    call = begin()
    if call is None:
        return None
    inner = variable.get()
    variable.set(outer)
    return _Inside(call, inner)


def generator(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """A generator function around whose body `begin()` opens something, at the first step."""
    variable = scopes.variable

    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        inside = _begin(begin)
        if inside is None:
            return (yield from function(*args, **kwargs))
        body = _called(function, args, kwargs, inside)
        resume, value, closing = body.send, None, None
        while True:
            outer = variable.get()
            variable.set(inside.scope)
            try:
                yielded = resume(value)
            except StopIteration as stop:
                variable.set(outer)
                inside.finish(closing)
                return stop.value
            except BaseException as error:
                variable.set(outer)
                inside.finish(error)
                raise
            inside.scope = variable.get()
            variable.set(outer)
            try:
                value = yield yielded
                resume = body.send
            except BaseException as error:
                resume, value = body.throw, untouched(error)
                closing = error if isinstance(error, GeneratorExit) else None

    return wrapper


def awaitable_generator(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """The same for what `types.coroutine` made: a generator function that may be awaited."""
    wrapper: Any = generator(function, begin)
    code = wrapper.__code__
    wrapper.__code__ = code.replace(co_flags=code.co_flags | AWAITABLE)
    made: Callable[..., Any] = wrapper
    return made


def coroutine(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """An async function around whose body `begin()` opens something, at the first step."""

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        inside = _begin(begin)
        if inside is None:
            return await function(*args, **kwargs)
        try:
            result = await _Steps(function(*args, **kwargs), inside)
        except BaseException as error:
            inside.finish(error)
            raise
        inside.finish(None)
        return result

    return wrapper


def async_generator(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """An async generator function around whose body `begin()` opens something."""

    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        # An async generator cannot delegate to another one, so it is driven when off, too.
        inside = _begin(begin)
        body: AsyncGenerator[Any, Any] = _called(function, args, kwargs, inside)
        step = _unregistered(body)
        closing = None
        while True:
            try:
                yielded = await (step if inside is None else _Steps(step, inside))
            except StopAsyncIteration:
                if inside is not None:
                    inside.finish(closing)
                return
            except BaseException as error:
                if inside is not None:
                    inside.finish(error)
                raise
            try:
                value = yield yielded
                step = body.asend(value)
            except BaseException as error:
                step = body.athrow(untouched(error))
                closing = error if isinstance(error, GeneratorExit) else None

    return wrapper


def adopt(result: Coroutine[Any, Any, Any], call: Opened) -> Coroutine[Any, Any, Any]:
    """The coroutine that a plain function returned, with its call open until it has run.

    Args:
        result: a coroutine that has not been started.
        call: what was opened around the function that made it.
    """
    variable = scopes.variable
    inside = _Inside(call, variable.get())
    variable.set(call.outer)
    adopted: Any = _adopted(result, inside, _Unstarted(result, call))
    made: Any = result
    adopted.__name__ = made.__name__
    adopted.__qualname__ = made.__qualname__
    known: Coroutine[Any, Any, Any] = adopted
    return known


async def _adopted(result: Coroutine[Any, Any, Any], inside: _Inside, unstarted: _Unstarted) -> Any:
    unstarted.coroutine = None
    try:
        value = await _Steps(result, inside)
    except BaseException as error:
        inside.finish(error)
        raise
    inside.finish(None)
    return value


class _Unstarted:
    """Closes a coroutine that nobody awaited, so that Python warns of it once and not twice.

    One that somebody else still holds is theirs to await or to close.
    """

    __slots__ = ("call", "coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], call: Opened) -> None:
        self.coroutine: Coroutine[Any, Any, Any] | None = coroutine
        self.call = call

    def __del__(self) -> None:
        if self.coroutine is not None:
            # Ours and the argument's: the frame that held a third one is gone by now.
            if sys.getrefcount(self.coroutine) == 2:
                self.coroutine.close()
            self.call.finish(GeneratorExit())


class _Steps:
    """An awaitable that runs another one step by step, its scope current only inside a step."""

    __slots__ = ("_awaited", "_inside")

    def __init__(self, awaited: Any, inside: _Inside) -> None:
        self._awaited = awaited
        self._inside = inside

    def __await__(self) -> Generator[Any, Any, Any]:
        awaited, inside, variable = self._awaited, self._inside, scopes.variable
        resume, value = awaited.send, None
        while True:
            outer = variable.get()
            variable.set(inside.scope)
            try:
                yielded = resume(value)
            except StopIteration as stop:
                return stop.value
            except BaseException as error:
                # This frame is taken out again: the host sees one more than without us, not two.
                untouched(error)
                raise
            finally:
                # What the body has opened and not closed yet is its own until the next step.
                inside.scope = variable.get()
                variable.set(outer)
            try:
                value = yield yielded
                resume = awaited.send
            except BaseException as error:
                resume, value = awaited.throw, untouched(error)


def _called(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    inside: _Inside | None,
) -> Any:
    # Arguments that do not fit end the span, too.
    try:
        return function(*args, **kwargs)
    except BaseException as error:
        if inside is not None:
            inside.finish(error)
        untouched(error)
        raise


def untouched(error: BaseException) -> BaseException:
    """An exception without the frame that has just caught it."""
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next
    return error


def _unregistered(body: AsyncGenerator[Any, Any]) -> Any:
    """The first step of an async generator that the event loop must not close by itself.

    The loop closes all generators that it knows at once; ours closes its body, so that the body
    must be known to nobody else.
    """
    firstiter, finalizer = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return body.asend(None)
    finally:
        sys.set_asyncgen_hooks(firstiter, finalizer)
