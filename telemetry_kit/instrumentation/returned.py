"""Follow what a function returns to its end: a context manager, a generator or a coroutine.

`@tracks` above `@contextmanager` decorates a function that returns before the block runs.
"""

from __future__ import annotations

import sys
from _weakref import getweakrefcount
from types import AsyncGeneratorType, CoroutineType, GeneratorType

from telemetry_kit import context as scopes
from telemetry_kit.instrumentation import coroutines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from telemetry_kit.instrumentation.tracks import ActiveSpan


def context_manager(target: Any, wrap: Callable[[Any], Any]) -> Any:
    """Decorate the generator function below `@contextmanager` instead of the one above it.

    Args:
        target: a function of contextlib.
        wrap: decorates a function.

    Returns:
        The same kind of function as `target`. None if `target` was made by something else.
    """
    import contextlib  # deferred: it has made the target, so it is loaded

    function = getattr(target, "__wrapped__", None)
    for make in (contextlib.contextmanager, contextlib.asynccontextmanager):
        if function is not None and target.__code__ in make.__code__.co_consts:
            return make(wrap(function))
    return None


# How the names of their attributes begin.
_PREFIXES = {GeneratorType: "gi", CoroutineType: "cr", AsyncGeneratorType: "ag"}


def follow(made: Any, call: ActiveSpan) -> Any:
    """Follow what a function returned: the span of the call is open until that has run.

    Args:
        made: a coroutine, a generator or an async generator. The caller has one reference to it.
        call: the span of the function that made it.

    Returns:
        What to return instead, of the same kind. None if `made` has started, or other code has a
        reference to it and would see that it is another object.
    """
    # Not written with a closure: a cell would be one more reference.
    if sys.getrefcount(made) > _UNSHARED or getweakrefcount(made):
        return None
    kind = _PREFIXES[type(made)]
    # Python 3.11 has no `ag_suspended`. There an event loop has a weak reference, as seen above.
    is_suspended = getattr(made, f"{kind}_suspended", False)
    if is_suspended or getattr(made, f"{kind}_running") or getattr(made, f"{kind}_frame") is None:
        return None
    return _follow(made, getattr(made, f"{kind}_code").co_flags, call)


def _follow(made: Any, flags: int, call: ActiveSpan) -> Any:
    variable = scopes.variable
    inner = variable.get()
    variable.set(call.outer)
    unstarted = Unstarted(made, call)

    def begin() -> ActiveSpan:
        unstarted.call = None
        variable.set(inner)
        return call

    followed: Any = coroutines.driver(flags)(lambda: made, begin)()
    followed.__name__, followed.__qualname__ = made.__name__, made.__qualname__
    return followed


class Unstarted:
    """Ends the span of what a function returned and that never runs.

    Args:
        made: the coroutine, generator or async generator.
        call: the span; None once it runs.
    """

    __slots__ = ("call", "made")

    def __init__(self, made: Any, call: ActiveSpan) -> None:
        self.made = made
        self.call: ActiveSpan | None = call

    def __del__(self) -> None:
        if self.call is not None:
            if type(self.made) is CoroutineType:
                # Python has warned of the one returned in its place, and need not warn again.
                self.made.close()
            self.call.finish(GeneratorExit())


def _count_in_follow(made: object) -> int:
    return sys.getrefcount(made)


def _count_in_finish(result: object) -> int:
    return _count_in_follow(result)


def _count_unshared() -> int:
    result = object()
    return _count_in_finish(result)


# The references to an object that only a wrapper has, counted as `follow` does. Their number
# differs between versions of Python.
_UNSHARED = _count_unshared()
