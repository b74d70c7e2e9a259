"""Open a context around each call or block: the result is a function of the same kind.

The caller chooses the context, a span or a session.
"""

from sys import _getframe, modules  # pyright: ignore[reportPrivateUsage]
from time import monotonic

from telemetry_kit._runtime import load, runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Any, Protocol, TypeVar

    from telemetry_kit.context import Scope

    class Opened(Protocol):
        """One open call: the scope around it, and what to do when it ends."""

        outer: Scope | None

        def finish(self, error: BaseException | None) -> None:
            """End it, once; `error` is what the body raised. Never raises."""

    Begin = Callable[[], Opened | None]
    Driver = Callable[[int], Callable[[Any, Begin], Any] | None]
    T = TypeVar("T")

_FUNCTION = type(lambda: None)


async def _nothing() -> None:
    pass


_coroutine = _nothing()
_COROUTINE_TYPE = type(_coroutine)
_coroutine.close()
_GENERATOR_TYPE = type(_ for _ in ())
_GENERATOR = 0x20
_COROUTINE = 0x80
_ASYNC_GENERATOR = 0x200
_IN_STEPS = _GENERATOR | _COROUTINE | _ASYNC_GENERATOR
_NAMES = tuple(
    name
    for name in ("__module__", "__name__", "__qualname__", "__doc__", "__type_params__")
    if hasattr(_FUNCTION, name)
)
# Python 3.14 keeps annotations as a function, which must not run here.
_ANNOTATIONS = "__annotate__" if hasattr(_FUNCTION, "__annotate__") else "__annotations__"


# CO_OPTIMIZED: the code of a function. That of a module or a class body has no such flag.
_OPTIMIZED = 0x1
# Up to Python 3.11 each comprehension is a function, and a generator expression still is.
_TRANSPARENT = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


def is_top_level(frame: "FrameType | None") -> bool:
    """Whether a frame runs at the top level of a module, or of a class body that stands there.

    What is written there comes from source code; inside a running function nobody can tell a
    literal from what a user typed.
    """
    while frame is not None:
        code = frame.f_code
        if code.co_flags & _OPTIMIZED:
            # A class with type parameters (Python 3.12) has a hidden function around its body.
            name = code.co_name
            if name not in _TRANSPARENT and not name.startswith("<generic parameters"):
                return False
        elif code.co_name == "<module>" or frame.f_locals is frame.f_globals:
            return True
        frame = frame.f_back
    return False


class Around:
    """A decorator and a (sync and async) context manager in one; re-usable and re-entrant.

    What a subclass opens is kept apart for each entry, so that one object can be entered by many
    tasks and threads at once. It is made by the `__init__` of a subclass, whose caller decides
    whether its names are declared.

    Args:
        names: the names given, by field; None for one that was not.
    """

    __slots__ = ("_entered", "_is_declaration", "_names")

    def __init__(self, names: "dict[str, str | None]") -> None:
        self._entered: list[Opened | None] = []
        self._names = {k: v for k, v in names.items() if v is not None}
        self._is_declaration = is_top_level(_getframe(2))

    def _begin(self) -> "Opened | None":
        """Open; None when this one is not recorded. Never raises."""
        raise NotImplementedError

    def _written(self) -> str:
        """How the decorator is written, for messages."""
        raise NotImplementedError

    def declare(self) -> None:
        """Declare the names given, so that they are stored in clear.

        Raises:
            ConfigurationError: a name that cannot be.
        """
        for field, name in self._names.items():
            if not runtime.declare(field, name):
                settings = load("telemetry_kit.settings")  # deferred: names are nearly always plain
                if settings is not None:
                    settings.declare(field, name)

    def declare_at(self, frame: "FrameType | None") -> None:
        """Declare the names given where the decorator is applied at the top level of a module.

        Args:
            frame: where it is applied.

        Raises:
            ConfigurationError: a name that cannot be stored in plain text.
        """
        if self._is_declaration or is_top_level(frame):
            self.declare()

    def __call__(self, target: "T", /) -> "T":
        """Decorate a function: what is opened surrounds each of its calls.

        Raises:
            DecorationError: `target` cannot be decorated; the message says what can.
            ConfigurationError: a name that cannot be stored in clear.
        """
        self.declare_at(_getframe(1))
        decorated: T = wrap(target, self._begin, self._written())
        return decorated

    def _enter(self) -> None:
        self._entered.append(self._begin())

    def __exit__(
        self,
        kind: "type[BaseException] | None",
        error: "BaseException | None",
        trace: "TracebackType | None",
    ) -> None:
        opened = self._leave()
        if opened is not None:
            opened.finish(error)

    async def __aexit__(
        self,
        kind: "type[BaseException] | None",
        error: "BaseException | None",
        trace: "TracebackType | None",
    ) -> None:
        self.__exit__(kind, error, trace)

    def _leave(self) -> "Opened | None":
        """The entry that ends here: the innermost of ours around us, else the latest."""
        if self._entered == [None]:
            self._entered.clear()
            return None
        from telemetry_kit import context as scopes  # deferred: only where something was opened

        entered = self._entered
        node = scopes.variable.get()
        while node is not None:
            if node.open and node.owner in entered:
                return entered.pop(entered.index(node.owner))
            node = node.parent
        if None in entered:
            entered.remove(None)
            return None
        return entered.pop() if entered else None


def wrap(target: "Any", begin: "Begin", decorator: str) -> "Any":
    """A function of the same kind as `target` around whose calls `begin()` opens something.

    Args:
        target: anything that can be called, but no class.
        begin: called for each call; None means that this call is not recorded. Never raises.
        decorator: how the decorator is written, for messages.

    Raises:
        DecorationError: `target` is something else.
    """
    kind = type(target)
    if kind is _FUNCTION:
        if target.__globals__.get("__name__") == "contextlib":
            # deferred: only for what contextlib made
            returned = load("telemetry_kit.instrumentation.returned")
            manager = returned and returned.context_manager(
                target, lambda function: wrap(function, begin, decorator)
            )
            if manager is not None:
                return _dressed(manager, target)
        made = driver(target.__code__.co_flags)
        return target if made is None else _dressed(made(target, begin), target)
    if issubclass(kind, (classmethod, staticmethod)):
        return kind(wrap(target.__func__, begin, decorator))
    if isinstance(target, type) or not callable(target) or isinstance(target, property):
        raise _refusal(decorator, _kind(target), _advice(target))
    # deferred: wrapt, eight times a bare interpreter
    proxies = load("telemetry_kit.instrumentation.proxies")
    if proxies is None:
        # It cannot be loaded now, no descriptor left for instance: nothing is recorded.
        return target
    commands = proxies.commands(target, decorator)
    if commands is None:
        return proxies.Proxy(target, begin, driver)
    for command in commands:
        command.callback = wrap(command.callback, begin, decorator)
    return target


def driver(flags: int) -> "Callable[[Any, Begin], Any] | None":
    """What makes the wrapper of a function, by the flags of its code; None where it is not had."""
    if not flags & _IN_STEPS:
        return _plain
    # deferred: only for functions that run in steps
    steps = load("telemetry_kit.instrumentation.coroutines")
    if steps is None:
        return None
    name = "generator"
    if flags & _COROUTINE:
        name = "coroutine"
    elif flags & _ASYNC_GENERATOR:
        name = "async_generator"
    elif flags & steps.AWAITABLE:
        name = "awaitable_generator"
    made: Callable[[Any, Begin], Any] = getattr(steps, name)
    return made


def _plain(function: "Callable[..., Any]", begin: "Begin") -> "Callable[..., Any]":
    # Every lookup that the closed runtime costs is a local or a cell: this line runs when off.
    state, clock = runtime, monotonic

    def wrapper(*args: "Any", **kwargs: "Any") -> "Any":
        if clock() < state.off_until:
            return function(*args, **kwargs)
        call = begin()
        if call is None:
            return function(*args, **kwargs)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            call.finish(error)
            raise
        if type(result) is _COROUTINE_TYPE:
            try:
                # deferred: only for such a function
                steps = load("telemetry_kit.instrumentation.coroutines")
                return steps.adopt(result, call)
            except Exception:
                # It could not be loaded or followed: the host gets what its function returned.
                call.finish(None)
                return result
        if type(result) is _GENERATOR_TYPE:
            try:
                # deferred: only for such a function
                returned = load("telemetry_kit.instrumentation.returned")
                followed = returned.generator(result, call)
            except Exception:
                # It cannot be loaded or followed: as for a coroutine.
                followed = None
            if followed is not None:
                return followed
        call.finish(None)
        return result

    return wrapper


def _dressed(wrapper: "Any", function: "Any") -> "Any":
    """What functools.wraps does, without its import (5 ms)."""
    for name in _NAMES:
        setattr(wrapper, name, getattr(function, name))
    setattr(wrapper, _ANNOTATIONS, getattr(function, _ANNOTATIONS))
    if function.__dict__:
        wrapper.__dict__.update(function.__dict__)
    wrapper.__wrapped__ = function
    if "inspect" in modules:
        # deferred: inspect, 10 ms
        signatures = load("telemetry_kit.instrumentation.signatures")
        if signatures is not None:
            signatures.copy_signature(wrapper, function)
    return wrapper


def _refusal(decorator: str, what: str, advice: str) -> TypeError:
    from telemetry_kit.errors import DecorationError  # deferred: only for a mistake

    return DecorationError(f"{decorator} cannot decorate {what}: {advice}")


def _kind(target: "Any") -> str:
    if isinstance(target, type):
        return f"the class {target.__qualname__}"
    return f"a {type(target).__qualname__} object"


def _advice(target: "Any") -> str:
    if isinstance(target, type):
        return "decorate the method that does the work"
    if isinstance(target, property):
        return "put it under @property"
    if type(target).__name__ in ("cached_property", "singledispatchmethod"):
        return f"put it under @{type(target).__name__}"
    if type(target).__name__ == "partialmethod":
        return "decorate the method it is made of"
    return "decorate something that can be called"
