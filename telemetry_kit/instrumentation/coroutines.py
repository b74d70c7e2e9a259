"""Generators and coroutines: the scope is current while the body runs, never in a pause.

Generators, coroutines and async generators are driven by hand, so that every sent, thrown or
returned value reaches the other side.
"""

from __future__ import annotations

import sys
from time import monotonic

from telemetry_kit._runtime import runtime
from telemetry_kit.context import scope_variable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator
    from typing import Any

    from telemetry_kit.context import Scope
    from telemetry_kit.instrumentation.tracks import ActiveSpan, Driver, Open

# Flags of code objects, as `inspect` has them.
_COROUTINE = 0x80
_AWAITABLE_GENERATOR = 0x100
_ASYNC_GENERATOR = 0x200
# The modules with a function `current_task`.
_TASKS = ("asyncio", "trio.lowlevel")


class Paused:
    """A body in a pause: its span, and the scope that is current when it runs on.

    Args:
        span: the span of its call.
        scope: the innermost scope that the body has opened and not left.
    """

    __slots__ = ("scope", "span")

    def __init__(self, span: ActiveSpan, scope: Scope | None) -> None:
        self.span = span
        self.scope = scope


def start(begin: Open) -> Paused | None:
    """Open a span and make the former scope current again; None when nothing is recorded."""
    if monotonic() < runtime.off_until:
        return None
    variable = scope_variable()
    outer = variable.get()
    span = begin()
    if span is None:
        return None
    try:
        inner = variable.get()
        variable.set(outer)
        return Paused(span, inner)
    except BaseException as error:
        # A signal handler raised.
        variable.set(outer)
        span.finish(error)
        raise


def driver(flags: int) -> Driver:
    """What makes the wrapper of a generator or coroutine function, by the flags of its code."""
    if flags & _COROUTINE:
        return coroutine
    if flags & _ASYNC_GENERATOR:
        return async_generator
    return awaitable_generator if flags & _AWAITABLE_GENERATOR else generator


def generator(function: Callable[..., Any], begin: Open) -> Callable[..., Any]:
    """A generator function whose body runs in a span; the first step opens it."""

    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        paused = start(begin)
        if paused is None:
            return (yield from function(*args, **kwargs))
        variable = scope_variable()
        body = call(function, args, kwargs, paused)
        resume, value, closing = body.send, None, None
        while True:
            outer = variable.get()
            try:
                variable.set(paused.scope)
                yielded = resume(value)
                paused.scope = variable.get()
                variable.set(outer)
            except StopIteration as stop:
                variable.set(outer)
                paused.span.finish(closing)
                return stop.value
            except BaseException as error:
                variable.set(outer)
                paused.span.finish(error)
                raise
            try:
                value = yield yielded
                resume, closing = body.send, None
            except BaseException as error:
                resume, value = body.throw, strip_frame(error)
                closing = error if isinstance(error, GeneratorExit) else None

    return wrapper


def awaitable_generator(function: Callable[..., Any], begin: Open) -> Callable[..., Any]:
    """The same for a result of `types.coroutine`: a generator function that may be awaited."""
    wrapper: Any = generator(function, begin)
    code = wrapper.__code__
    wrapper.__code__ = code.replace(co_flags=code.co_flags | _AWAITABLE_GENERATOR)
    made: Callable[..., Any] = wrapper
    return made


def coroutine(function: Callable[..., Any], begin: Open) -> Callable[..., Any]:
    """An async function whose body runs in a span; the first step opens it."""

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        paused = start(begin)
        if paused is None:
            return await function(*args, **kwargs)
        try:
            if current_task() is None:
                result = await Steps(function(*args, **kwargs), paused)
            else:
                # A task has a context of its own: its pauses need no other scope.
                scope_variable().set(paused.scope)
                result = await function(*args, **kwargs)
        except BaseException as error:
            paused.span.finish(error)
            raise
        paused.span.finish(None)
        return result

    return wrapper


def async_generator(function: Callable[..., Any], begin: Open) -> Callable[..., Any]:
    """An async generator function whose body runs in a span; the first step opens it."""

    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        # An async generator cannot delegate to another one, so it is driven when off, too.
        variable = scope_variable()
        paused = start(begin)
        body: AsyncGenerator[Any, Any] = call(function, args, kwargs, paused)
        step = first_step(body)
        closing = None
        while True:
            try:
                if paused is None:
                    yielded = await step
                elif (task := current_task()) is None:
                    yielded = await Steps(step, paused)
                else:
                    outer = variable.get()
                    variable.set(paused.scope)
                    try:
                        yielded = await step
                    finally:
                        # Closed outside of the task, it must not set a scope there.
                        if current_task() is task:
                            paused.scope = variable.get()
                            variable.set(outer)
            except StopAsyncIteration:
                if paused is not None:
                    paused.span.finish(closing)
                return
            except BaseException as error:
                if paused is not None:
                    paused.span.finish(error)
                raise
            try:
                value = yield yielded
                step, closing = body.asend(value), None
            except BaseException as error:
                step = body.athrow(strip_frame(error))
                closing = error if isinstance(error, GeneratorExit) else None

    return wrapper


def current_task() -> object | None:
    """The running task of asyncio or trio; None outside of their tasks, as in other event loops."""
    for name in _TASKS:
        module = sys.modules.get(name)
        if module is not None:
            try:
                task: object = module.current_task()
            except Exception:
                continue  # no event loop runs, or the module is loaded in part
            if task is not None:
                return task
    return None


class Steps:
    """An awaitable that runs another one step by step, its scope current only in each step."""

    __slots__ = ("_awaited", "_paused")

    def __init__(self, awaited: Any, paused: Paused) -> None:
        self._awaited = awaited
        self._paused = paused

    def __await__(self) -> Generator[Any, Any, Any]:
        awaited, paused, variable = self._awaited, self._paused, scope_variable()
        resume, value = awaited.send, None
        while True:
            outer = variable.get()
            try:
                variable.set(paused.scope)
                yielded = resume(value)
            except StopIteration as stop:
                return stop.value
            except BaseException as error:
                # In a traceback the host sees one frame of ours, the wrapper's.
                strip_frame(error)
                raise
            finally:
                try:
                    # The next step continues in the scope that the body has opened and not left.
                    paused.scope = variable.get()
                finally:
                    variable.set(outer)
            try:
                value = yield yielded
                resume = awaited.send
            except BaseException as error:
                resume, value = awaited.throw, strip_frame(error)


def call(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    paused: Paused | None,
) -> Any:
    """Call the function; arguments that do not fit end the span, too."""
    try:
        return function(*args, **kwargs)
    except BaseException as error:
        if paused is not None:
            paused.span.finish(error)
        strip_frame(error)
        raise


def strip_frame(error: BaseException) -> BaseException:
    """An exception without the frame that has just caught it."""
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next
    return error


def first_step(body: AsyncGenerator[Any, Any]) -> Any:
    """The first step of an async generator, without its registration in the event loop.

    The loop closes all registered generators at once. The wrapper closes its body, so the loop
    must not close the body by itself.
    """
    firstiter, finalizer = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return body.asend(None)
    finally:
        sys.set_asyncgen_hooks(firstiter, finalizer)
