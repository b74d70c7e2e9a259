"""Generators and coroutines: the scope is current while the body runs, never in a pause.

Generators, coroutines and async generators are driven by hand, so that every sent, thrown or
returned value reaches the other side.
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
    from telemetry_kit.instrumentation.tracks import ActiveSpan, Driver, Open

# Flags of code objects, as `inspect` has them.
_COROUTINE = 0x80
_AWAITABLE_GENERATOR = 0x100
_ASYNC_GENERATOR = 0x200


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
    variable = scopes.variable
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
    variable = scopes.variable

    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        paused = start(begin)
        if paused is None:
            return (yield from function(*args, **kwargs))
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
                resume = body.send
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
            result = await Steps(function(*args, **kwargs), paused)
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
        paused = start(begin)
        body: AsyncGenerator[Any, Any] = call(function, args, kwargs, paused)
        step = first_step(body)
        closing = None
        while True:
            try:
                yielded = await (step if paused is None else Steps(step, paused))
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
                step = body.asend(value)
            except BaseException as error:
                step = body.athrow(strip_frame(error))
                closing = error if isinstance(error, GeneratorExit) else None

    return wrapper


def wrap_coroutine(made: Coroutine[Any, Any, Any], span: ActiveSpan) -> Coroutine[Any, Any, Any]:
    """The coroutine that a plain function returned, with the span open until it has run.

    Args:
        made: a coroutine that has not been started.
        span: the span of the call that made it.
    """
    variable = scopes.variable
    paused = Paused(span, variable.get())
    variable.set(span.outer)
    wrapped: Any = run_wrapped(made, paused, Unstarted(made, span))
    named: Any = made
    wrapped.__name__, wrapped.__qualname__ = named.__name__, named.__qualname__
    found: Coroutine[Any, Any, Any] = wrapped
    return found


async def run_wrapped(made: Coroutine[Any, Any, Any], paused: Paused, unstarted: Unstarted) -> Any:
    """Run a coroutine to its end, and end its span."""
    unstarted.coroutine = None
    try:
        result = await Steps(made, paused)
    except BaseException as error:
        paused.span.finish(error)
        raise
    paused.span.finish(None)
    return result


class Unstarted:
    """Closes a coroutine that is never awaited, so that Python warns of it once and not twice.

    If other code holds the coroutine, that code awaits or closes it.
    """

    __slots__ = ("coroutine", "span")

    def __init__(self, made: Coroutine[Any, Any, Any], span: ActiveSpan) -> None:
        self.coroutine: Coroutine[Any, Any, Any] | None = made
        self.span = span

    def __del__(self) -> None:
        if self.coroutine is not None:
            # Ours and the argument's: the frame that held a third one has ended.
            if sys.getrefcount(self.coroutine) == 2:
                self.coroutine.close()
            self.span.finish(GeneratorExit())


class Steps:
    """An awaitable that runs another one step by step, its scope current only in each step."""

    __slots__ = ("_awaited", "_paused")

    def __init__(self, awaited: Any, paused: Paused) -> None:
        self._awaited = awaited
        self._paused = paused

    def __await__(self) -> Generator[Any, Any, Any]:
        awaited, paused, variable = self._awaited, self._paused, scopes.variable
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
