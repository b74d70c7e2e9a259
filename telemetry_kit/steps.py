"""Bodies that run in steps: the scope is current inside a step and never across a pause.

What a scope is for, and which events surround the body, is not known here.
"""

from __future__ import annotations

from time import monotonic

from telemetry_kit import scope as scopes
from telemetry_kit.latch import latch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from typing import Any

    from telemetry_kit.scope import Scope
    from telemetry_kit.wrapping import Begin, Opened


def coroutine(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """An async function around whose body `begin()` opens something, at its first step."""
    gate, clock = latch, monotonic

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        if clock() < gate.until:
            return await function(*args, **kwargs)
        call = begin()
        if call is None:
            return await function(*args, **kwargs)
        return await _Steps(function(*args, **kwargs), call)

    return wrapper


class _Steps:
    """An awaitable that runs a coroutine step by step, its scope current only inside a step."""

    __slots__ = ("_call", "_coroutine")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], call: Opened) -> None:
        self._coroutine = coroutine
        self._call = call

    def __await__(self) -> Generator[Any, Any, Any]:
        coroutine, call = self._coroutine, self._call
        variable = scopes.variable
        inner = call.scope
        outer = variable.get()
        if outer is inner and inner is not None:
            outer = inner.parent
        resume: Callable[[Any], Any] = coroutine.send
        value: Any = None
        while True:
            variable.set(inner)
            try:
                yielded = resume(value)
            except StopIteration as stop:
                variable.set(outer)
                call.finish(None)
                return stop.value
            except BaseException as error:
                variable.set(outer)
                call.finish(error)
                # Our own frame is taken out again: the host sees one more, not two.
                error.__traceback__ = error.__traceback__ and error.__traceback__.tb_next
                raise
            # What the body has opened and not yet closed is its own until the next step.
            inner = variable.get()
            variable.set(outer)
            try:
                value = yield yielded
                resume = coroutine.send
            except GeneratorExit:
                self._close(coroutine, inner)
                raise
            except BaseException as error:
                resume, value = coroutine.throw, error
            outer = variable.get()

    def _close(self, coroutine: Coroutine[Any, Any, Any], inner: Scope | None) -> None:
        variable = scopes.variable
        outer = variable.get()
        variable.set(inner)
        error: BaseException = GeneratorExit()
        try:
            coroutine.close()
        except BaseException as raised:
            error = raised
            raise
        finally:
            variable.set(outer)
            self._call.finish(error)
