"""Callables other than plain functions: wrapt's transparent proxies, and instrumentation by name.

Loaded only if such an object is decorated, because wrapt costs eight bare interpreters.
"""

from __future__ import annotations

import copy
import inspect
import sys
from functools import partial
from importlib import import_module
from operator import attrgetter
from types import BuiltinFunctionType, FunctionType, MethodType

import wrapt

from telemetry_kit.errors import DecorationError, swallow
from telemetry_kit.instrumentation import coroutines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Self

    from telemetry_kit.instrumentation.decorate import Around, Begin, Driver

_IN_STEPS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


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
    """A transparent proxy around whose calls something is opened.

    It is copied as what it wraps is, and pickled by reference where it has a name of its own.

    Args:
        target: what is called.
        begin: opens something around each call.
        driver: makes the wrapper of a function, by the flags of its code.
    """

    __bound_function_wrapper__ = BoundProxy

    def __init__(self, target: Any, begin: Begin, driver: Driver) -> None:
        self._self_begin = begin
        self._self_driver = driver
        super().__init__(target, _caller(target, begin, driver))

    def __copy__(self) -> Any:
        return self._around(copy.copy(self.__wrapped__))

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._around(copy.deepcopy(self.__wrapped__, memo))

    def _around(self, copied: Any) -> Any:
        if copied is self.__wrapped__:
            return self
        return Proxy(copied, self._self_begin, self._self_driver)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.__reduce__()

    def __reduce__(self) -> Any:
        wrapped = self.__wrapped__
        name = getattr(wrapped, "__qualname__", None)
        module = getattr(wrapped, "__module__", None)
        if isinstance(name, str) and isinstance(module, str) and _is_found(self, module, name):
            return name
        return Proxy, (wrapped, self._self_begin, self._self_driver)


def _is_found(proxy: Any, module: str, name: str) -> bool:
    try:
        return attrgetter(name)(sys.modules[module]) is proxy
    except (AttributeError, KeyError):
        return False


def _caller(target: Any, begin: Begin, driver: Driver) -> Callable[..., Any]:
    """The wrapper function, as wrapt calls it, for `target`, chosen once by what its body is."""
    flags = _flags(target)
    made = driver(flags)
    assert made is not None  # it is had wherever this module is, which needs `steps` as well

    def call(wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            return made(wrapped, begin)(*args, **kwargs)
        except BaseException as error:
            # This frame is taken out again: the host sees one more than without us, not two.
            coroutines.untouched(error)
            raise

    def start(wrapped: Any, _instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        running = made(wrapped, begin)(*args, **kwargs)
        # By this name Python warns of a coroutine that nobody awaited.
        body = _body(wrapped)
        running.__name__, running.__qualname__ = body.__name__, body.__qualname__
        return running

    return start if flags & _IN_STEPS else call


def _flags(target: Any) -> int:
    """Code flags of the function that a call of `target` runs in the end; 0 for C code."""
    code = getattr(_body(target), "__code__", None)
    return code.co_flags if code is not None else 0


def _body(target: Any) -> Any:
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
    """The commands of a Click command or a Typer app; None for anything else.

    Args:
        target: what is decorated.
        decorator: how the decorator is written, for messages.

    Raises:
        DecorationError: it has no function to track.
    """
    found = _commands(target)
    if found is None:
        return None
    if not found:
        raise _without_function(decorator, "an app that has no commands yet")
    for command in found:
        if command.callback is None:
            raise _without_function(decorator, f"the command {command.name!r}")
    return found


def _commands(target: Any) -> list[Any] | None:
    # Known by shape: Typer carries its own copy of Click, and either may be missing.
    kind = type(target)
    if hasattr(kind, "add_typer") and isinstance(
        getattr(target, "registered_commands", None), list
    ):
        inner = (_commands(group.typer_instance) for group in target.registered_groups)
        return [*target.registered_commands, *(c for found in inner for c in found or ())]
    if hasattr(kind, "invoke") and hasattr(kind, "make_context") and hasattr(target, "callback"):
        return [target]
    return None


def _without_function(decorator: str, what: str) -> DecorationError:
    return DecorationError(
        f"{decorator} cannot decorate {what}: there is no function to track; "
        "decorate the functions of its commands"
    )


# -- code of others, by name ---------------------------------------------------------------


class Instrumented:
    """Something decorated by name; `undo()` puts the original back.

    Also a context manager that undoes when it is left.

    Args:
        module: the module's name.
        path: the name inside it, with dots.
        around: what to decorate with.
    """

    def __init__(self, module: str, path: str, around: Around) -> None:
        self._around = around
        self._path = path
        self._module = module
        self._original: Any = None
        self._owner: Any = None
        self._inherited = False
        self._undone = False

    def apply(self, module: Any) -> None:
        """Decorate the attribute of a module that has been imported.

        Raises:
            DecorationError: there is no such attribute, or it cannot be decorated.
        """
        if self._undone or self._owner is not None:
            return
        *outer, name = self._path.split(".")
        try:
            owner = attrgetter(".".join(outer))(module) if outer else module
            found = getattr(owner, name)
        except AttributeError:
            raise DecorationError(f"{self._module} has no {self._path!r} to instrument") from None
        # As it stands in the class: a classmethod must stay one.
        self._inherited = name not in vars(owner)
        self._original = found if self._inherited else vars(owner)[name]
        if self._inherited and isinstance(owner, type):
            for base in owner.__mro__:
                if name in vars(base):
                    self._original = vars(base)[name]
                    break
        setattr(owner, name, self._around(self._original))
        self._owner = owner

    def apply_quietly(self, module: Any) -> None:
        """The same upon import, where a missing attribute must not fail somebody's import."""
        try:
            self.apply(module)
        except Exception as error:
            swallow(error)

    def undo(self) -> None:
        """Put the original back; a module that is not imported yet stays as it will be."""
        self._undone = True
        owner, self._owner = self._owner, None
        if owner is None:
            return
        name = self._path.rpartition(".")[2]
        if self._inherited:
            delattr(owner, name)
        else:
            setattr(owner, name, self._original)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.undo()


def instrument(target: str, around: Around) -> Instrumented:
    """Decorate code that one does not own: now, or when its module is imported.

    Called at the top level of a module, it declares the names that `around` gives.

    Args:
        target: `"package.module:function"` or `"package.module:Class.method"`.
        around: `tracks(...)` or `role_session(...)`.

    Returns:
        A handle whose `undo()` puts the original back.

    Raises:
        DecorationError: the target is not written like that, or an imported module has none.
        ConfigurationError: a name that it declares cannot be stored in clear.
    """
    module, colon, path = target.partition(":")
    if not (module and colon and path) or not all(p.isidentifier() for p in path.split(".")):
        raise DecorationError(
            f"instrument({target!r}): write it as 'package.module:function' or "
            "'package.module:Class.method'"
        )
    around.declare_at(sys._getframe(1))  # pyright: ignore[reportPrivateUsage]
    made = Instrumented(module, path, around)
    if module in sys.modules:
        made.apply(import_module(module))
    else:
        wrapt.register_post_import_hook(made.apply_quietly, module)
    return made
