"""Callables other than plain functions: wrapt's transparent proxies, and `instrument()`.

Loaded only if such an object is decorated, because the import of wrapt takes as long as eight
starts of a bare interpreter.
"""

from __future__ import annotations

import copy
import inspect
import sys
from functools import partial
from importlib import import_module
from operator import attrgetter
from time import monotonic
from types import BuiltinFunctionType, FunctionType, MethodType
from weakref import WeakValueDictionary

import wrapt

from telemetry_kit._runtime import runtime
from telemetry_kit.errors import DecorationError, swallow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, Self

    from telemetry_kit.instrumentation.tracks import ActiveSpan, Driver, Open, SpanDecorator

    FindDriver = Callable[[int], Driver | None]
    Finish = Callable[[Any, ActiveSpan], Any]

_RESUMABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


class BoundProxy(wrapt.BoundFunctionWrapper):  # type: ignore[misc,type-arg,unused-ignore]
    """A proxy bound to an instance or a class; copied and pickled as a bound method is."""

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        get, (instance, name) = self.__reduce__()
        return get(copy.deepcopy(instance, memo), name)

    def __reduce__(self) -> Any:
        return getattr, (self._self_instance, self.__wrapped__.__name__)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__reduce__()


class Proxy(wrapt.FunctionWrapper):  # type: ignore[misc,type-arg,unused-ignore]
    """A transparent proxy whose calls run in a span.

    It is copied as its target is, and pickled by reference where it has a name of its own.

    Args:
        target: the object that is called.
        begin: opens the span of a call.
        driver: finds what makes the wrapper of a function, by the flags of its code.
        finish: ends the span of a call that has returned.
    """

    __bound_function_wrapper__ = BoundProxy

    def __init__(self, target: Any, begin: Open, driver: FindDriver, finish: Finish) -> None:
        self._self_given = begin, driver, finish
        super().__init__(target, caller(target, begin, driver, finish))

    def __copy__(self) -> Any:
        return self._self_wrap(copy.copy(self.__wrapped__))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._self_wrap(copy.deepcopy(self.__wrapped__, memo))

    def _self_wrap(self, copied: Any) -> Any:
        if copied is self.__wrapped__:
            return self
        return Proxy(copied, *self._self_given)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__reduce__()

    def __reduce__(self) -> Any:
        wrapped = self.__wrapped__
        try:
            name: object = wrapped.__qualname__
            if type(name) is str and attrgetter(name)(sys.modules[wrapped.__module__]) is self:
                return name
        except (AttributeError, KeyError, TypeError):
            pass  # it has no name by which it is found
        return Proxy, (wrapped, *self._self_given)


def caller(target: Any, begin: Open, driver: FindDriver, finish: Finish) -> Callable[..., Any]:
    """The function that wrapt calls in place of `target`, chosen once by the kind of its body."""
    body = body_of(target)
    code = getattr(body, "__code__", None)
    flags: int = 0 if code is None else code.co_flags
    made = driver(flags)
    assert made is not None  # it is loaded: this module imports it

    def call(wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # As the wrapper of a plain function does, which would be one more frame.
        if monotonic() < runtime.off_until:
            return wrapped(*args, **kwargs)
        span = begin()
        if span is None:
            return wrapped(*args, **kwargs)
        try:
            try:
                result = wrapped(*args, **kwargs)
            except BaseException as error:
                span.finish(error)
                raise
            return finish(result, span)
        except BaseException:
            # A signal handler may raise while the span ends: it is left nevertheless.
            span.finish(None)
            raise

    def start(wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        running = made(wrapped, begin)(*args, **kwargs)
        # By this name Python warns of a coroutine that was never awaited.
        body = body_of(wrapped)
        running.__name__, running.__qualname__ = body.__name__, body.__qualname__
        return running

    return start if flags & _RESUMABLE else call


def body_of(target: Any) -> Any:
    """The function that a call of `target` runs in the end."""
    while isinstance(target, partial):
        target = target.func
    if isinstance(target, MethodType):
        target = target.__func__
    if not isinstance(target, (FunctionType, BuiltinFunctionType)):
        target = next(
            (vars(c)["__call__"] for c in type(target).__mro__ if "__call__" in vars(c)), None
        )
    return target


# -- command objects of Click and Typer ------------------------------------------------------


def commands(target: Any, decorator: str) -> list[Any] | None:
    """The commands of a Click command or a Typer app; None for any other object.

    Args:
        target: the object that is decorated.
        decorator: how the decorator is written, for messages.

    Raises:
        DecorationError: it has no function to track.
    """
    found = find_commands(target)
    if found is None:
        return None
    nameless = [command.name for command in found if command.callback is None]
    if nameless or not found:
        what = f"the command {nameless[0]!r}" if nameless else "an app that has no commands yet"
        raise DecorationError(
            f"{decorator} cannot decorate {what}: there is no function to track; "
            "decorate the functions of its commands"
        )
    return found


def find_commands(target: Any) -> list[Any] | None:
    """The commands of an app and of its groups, if it is one."""
    # Recognised by attributes: Typer carries its own copy of Click, and either may be missing.
    kind = type(target)
    if hasattr(kind, "add_typer") and isinstance(
        getattr(target, "registered_commands", None), list
    ):
        inner = (find_commands(group.typer_instance) for group in target.registered_groups)
        return [*target.registered_commands, *(c for found in inner for c in found or ())]
    if hasattr(kind, "invoke") and hasattr(kind, "make_context") and hasattr(target, "callback"):
        return [target]
    return None


# -- third-party code, by name ---------------------------------------------------------------


# The patch that made a wrapper, by the id of the wrapper, as long as the wrapper exists.
_patches: WeakValueDictionary[int, Patch] = WeakValueDictionary()


class Patch:
    """A decoration by name; `undo()` takes it away, and nothing else.

    If something else was put in its place or over it meanwhile, a mock or another wrapper for
    instance, that stays. The wrapper then is inactive: it records nothing and calls what it wraps.
    It goes with the last wrapper of this library that was put over it.

    Also a context manager that undoes when it is left.

    Args:
        module: the module's name.
        path: the name inside it, with dots.
        decorator: the decorator to apply.
    """

    def __init__(self, module: str, path: str, decorator: SpanDecorator) -> None:
        self._decorator = decorator
        self._path = path
        self._module = module
        # What it decorates, and the attribute there; None before the import.
        self.owner: Any = None
        self.original: Any = None
        self.inherited = False
        self._wrapper: Any = None
        self.undone = False

    def apply(self, module: Any) -> None:
        """Decorate the attribute of a module that has been imported.

        Raises:
            DecorationError: there is no such attribute, or it cannot be decorated.
        """
        if self.undone or self.owner is not None:
            return
        *outer, name = self._path.split(".")
        try:
            owner = attrgetter(".".join(outer))(module) if outer else module
            found = getattr(owner, name)
        except AttributeError:
            raise DecorationError(f"{self._module} has no {self._path!r} to instrument") from None
        # As it is in the class: a classmethod must remain one.
        own = attributes(owner)
        classes = owner.__mro__ if isinstance(owner, type) else (owner,)
        original = next((attributes(c)[name] for c in classes if name in attributes(c)), found)
        self.original, self.inherited = below(original, owner, inherited=name not in own)
        self._wrapper = self._decorator.decorate(self.original, partial(OpenUntilUndone, self))
        try:
            setattr(owner, name, self._wrapper)
        except (AttributeError, TypeError) as error:
            raise DecorationError(
                f"{self._module}:{self._path} cannot be replaced: {error}"
            ) from None
        self.owner = owner
        if self._wrapper is not self.original:
            _patches[id(self._wrapper)] = self

    def apply_quietly(self, module: Any) -> None:
        """The same upon import, where a missing attribute must not fail the host's import."""
        try:
            self.apply(module)
        except Exception as error:
            swallow(error)

    def undo(self) -> None:
        """Take the decoration away; a module that is imported later is not changed any more."""
        self.undone = True
        owner = self.owner
        name = self._path.rpartition(".")[2]
        if owner is None or attributes(owner).get(name) is not self._wrapper:
            return
        original, inherited = below(self.original, owner, inherited=self.inherited)
        if inherited:
            delattr(owner, name)
        else:
            setattr(owner, name, original)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


class OpenUntilUndone:
    """Opens the spans of a patch, until it is undone.

    Args:
        patch: the patch, which exists as long as the wrapper that calls this.
        begin: opens a span of its decorator.
    """

    __slots__ = ("begin", "patch")

    def __init__(self, patch: Patch, begin: Open) -> None:
        self.patch = patch
        self.begin = begin

    def __call__(self) -> ActiveSpan | None:
        """Open a span; None once the patch is undone."""
        return None if self.patch.undone else self.begin()

    def __reduce__(self) -> Any:
        # In another process nothing can undo it.
        return self.begin.__reduce__()


def attributes(owner: Any) -> Mapping[str, Any]:
    """The attributes that an object itself has, not its class or its base classes."""
    found: Mapping[str, Any] = getattr(owner, "__dict__", {})
    return found


def below(found: Any, owner: Any, *, inherited: bool) -> tuple[Any, bool]:
    """What is below inactive wrappers on an object, and whether it is inherited there.

    Args:
        found: an attribute of the object, perhaps such a wrapper.
        owner: the object.
        inherited: whether the attribute is that of a base class.
    """
    patch = _patches.get(id(found))
    if inherited or patch is None or not patch.undone or patch.owner is not owner:
        return found, inherited
    return below(patch.original, owner, inherited=patch.inherited)


def instrument(target: str, decorator: SpanDecorator) -> Patch:
    """Decorate third-party code: now, or when its module is imported.

    Called at the top level of a module, it declares the names of the decorator.

    Args:
        target: `"package.module:function"` or `"package.module:Class.method"`.
        decorator: `tracks(...)` or `role_session(...)`.

    Returns:
        A handle whose `undo()` takes the decoration away, and nothing else, in any order. If
        another wrapper or a mock lies over it, the decoration stays below and records nothing.

    Raises:
        DecorationError: the target is not written like that, or an imported module has none.
        ConfigurationError: a name that it declares cannot be stored in plain text.

    Example:
        >>> import textwrap
        >>> from telemetry_kit import capture_events, instrument, tracks
        >>> with instrument("textwrap:dedent", tracks("command.executed", command="dedent")):
        ...     with capture_events() as captured:
        ...         textwrap.dedent("  text")
        'text'
        >>> [event["event_type"] for event in captured.events]
        ['command.executed', 'command.completed']
    """
    module, colon, path = target.partition(":")
    if not (module and colon and path) or not all(p.isidentifier() for p in path.split(".")):
        raise DecorationError(
            f"instrument({target!r}): write it as 'package.module:function' or "
            "'package.module:Class.method'"
        )
    decorator.declare_at(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
    patch = Patch(module, path, decorator)
    if module in sys.modules:
        patch.apply(import_module(module))
    else:
        wrapt.register_post_import_hook(patch.apply_quietly, module)
    return patch
