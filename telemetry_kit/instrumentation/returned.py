"""Follow what a function returns to its end: a context manager, or a generator.

`@tracks` above `@contextmanager` decorates a function that returns before the block runs.
"""

from __future__ import annotations

import sys

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


def generator(made: Any, call: ActiveSpan) -> Any:
    """Follow a generator that a function returned: its span is open until it has run.

    Args:
        made: the generator. The caller has one reference to it.
        call: the span of the function that made it.

    Returns:
        The generator to return instead. None if `made` has started, or other code has a reference
        to it and would see that it is another object.
    """
    # Not written with a closure: a cell would be one more reference.
    if sys.getrefcount(made) > _UNSHARED:
        return None
    if made.gi_frame is None or made.gi_suspended or made.gi_running:
        return None
    return _follow(made, call)


def _follow(made: Any, call: ActiveSpan) -> Any:
    variable = scopes.variable
    inner = variable.get()
    variable.set(call.outer)
    unstarted = Unstarted(call)

    def begin() -> ActiveSpan:
        unstarted.call = None
        variable.set(inner)
        return call

    followed: Any = coroutines.generator(lambda: made, begin)()
    followed.__name__, followed.__qualname__ = made.__name__, made.__qualname__
    return followed


class Unstarted:
    """Ends the span of a generator that never runs.

    Args:
        call: the span; None once the generator runs.
    """

    __slots__ = ("call",)

    def __init__(self, call: ActiveSpan) -> None:
        self.call: ActiveSpan | None = call

    def __del__(self) -> None:
        if self.call is not None:
            self.call.finish(GeneratorExit())


def _count(made: object) -> int:
    return sys.getrefcount(made)


def _count_unshared() -> int:
    made = object()
    return _count(made)


# The references to an object that only a calling function has, counted as `generator` does. Their
# number differs between versions of Python.
_UNSHARED = _count_unshared()
