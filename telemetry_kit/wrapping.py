"""Something opened around each call or block: a function becomes another one of its own kind.

What is opened, a span or a session, is not known here.
"""

from __future__ import annotations

from time import monotonic

from telemetry_kit import scope as scopes
from telemetry_kit.errors import DecorationError
from telemetry_kit.gate import latch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from types import TracebackType
    from typing import Any, Protocol, TypeVar

    from telemetry_kit.scope import Scope

    class Opened(Protocol):
        """One open call: its scope, and what to do when it ends."""

        scope: Scope | None

        def finish(self, error: BaseException | None) -> None:
            """End it, once; `error` is what the body raised. Never raises."""

    Begin = Callable[[], Opened | None]
    T = TypeVar("T")

_FUNCTION = type(lambda: None)
_GENERATOR = 0x20
_COROUTINE = 0x80
_ITERABLE_COROUTINE = 0x100
_ASYNC_GENERATOR = 0x200
_NAMES = ("__module__", "__name__", "__qualname__", "__doc__", "__type_params__")


class Around:
    """A decorator and a (sync and async) context manager in one; re-usable and re-entrant.

    What a subclass opens is kept apart for each entry, so that one object can be entered by many
    tasks and threads at once.
    """

    __slots__ = ("_entered",)

    def __init__(self) -> None:
        self._entered: list[Opened | None] = []

    def _begin(self) -> Opened | None:
        """Open; None when this one is not recorded. Never raises."""
        raise NotImplementedError

    def _declare(self) -> str:
        """Declare the names given; how the decorator is written, for messages."""
        raise NotImplementedError

    def __call__(self, target: T, /) -> T:
        decorated: T = wrap(target, self._begin, self._declare())
        return decorated

    def _enter(self) -> None:
        self._entered.append(self._begin())

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        opened = self._leave()
        if opened is not None:
            opened.finish(error)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.__exit__(kind, error, trace)

    def _leave(self) -> Opened | None:
        """The entry that ends here: the innermost of ours around us, else the latest."""
        entered = self._entered
        node = scopes.variable.get()
        while node is not None:
            if node.open and node.owner in entered:
                entered.remove(node.owner)
                return node.owner
            node = node.parent
        if None in entered:
            entered.remove(None)
            return None
        return entered.pop() if entered else None


def wrap(target: Any, begin: Begin, decorator: str) -> Any:
    """A function of the same kind as `target` around whose calls `begin()` opens something.

    Args:
        target: a plain or an async function.
        begin: called for each call; None means that this call is not recorded. Never raises.
        decorator: how the decorator is written, for messages.

    Raises:
        DecorationError: `target` is something else.
    """
    if type(target) is not _FUNCTION:
        raise DecorationError(f"{decorator} cannot decorate {_kind(target)}: {_advice(target)}")
    flags = target.__code__.co_flags
    if flags & (_GENERATOR | _ASYNC_GENERATOR | _ITERABLE_COROUTINE):
        raise DecorationError(
            f"{decorator} cannot decorate the generator {target.__qualname__}() yet: "
            "use it as a context manager inside the function"
        )
    return _dressed(_coroutine(target, begin) if flags & _COROUTINE else _plain(target, begin), target)


def _plain(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    # Every lookup that the closed latch costs is a local or a cell: this line runs when off.
    gate, clock = latch, monotonic

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if clock() < gate.until:
            return function(*args, **kwargs)
        call = begin()
        if call is None:
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            call.finish(error)
            raise
        call.finish(None)
        return result

    return wrapper


def _coroutine(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
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


def _dressed(wrapper: Any, function: Any) -> Any:
    """What functools.wraps does, without its import (5 ms)."""
    for name in _NAMES:
        try:
            setattr(wrapper, name, getattr(function, name))
        except AttributeError:
            pass
    wrapper.__dict__.update(function.__dict__)
    _annotate(wrapper, function)
    wrapper.__wrapped__ = function
    return wrapper


def _annotate(wrapper: Any, function: Any) -> None:
    # Python 3.14 keeps annotations as a function that must not run here.
    if "__annotate__" in dir(_FUNCTION):
        wrapper.__annotate__ = function.__annotate__
    else:
        wrapper.__annotations__ = function.__annotations__


def _kind(target: Any) -> str:
    if isinstance(target, type):
        return f"the class {target.__qualname__}"
    return f"a {type(target).__qualname__} object"


def _advice(target: Any) -> str:
    if isinstance(target, type):
        return "decorate the method that does the work"
    if isinstance(target, property):
        return "put it under @property"
    if isinstance(target, (classmethod, staticmethod)):
        return f"put it under @{type(target).__name__}"
    return "decorate a plain or an async function"
