"""`@tracks`: the events around a function or a block.

The result of a decoration is a function of the same kind. `instrumentation.spans` makes the events.
"""

import sys
from functools import update_wrapper
from sys import _getframe  # pyright: ignore[reportPrivateUsage]
from time import monotonic
from types import AsyncGeneratorType, CoroutineType, FunctionType, GeneratorType

from telemetry_kit._runtime import load, runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping
    from types import FrameType, TracebackType
    from typing import Any, Protocol, TypeVar

    from telemetry_kit.context import Scope
    from telemetry_kit.instrumentation.spans import Span

    class ActiveSpan(Protocol):
        """An open span or session: the scope around it, and what to do at its end."""

        outer: Scope | None
        scope: Scope

        def finish(self, error: BaseException | None) -> None:
            """End it, once; `error` is the exception of the body. It raises nothing."""

    Open = Callable[[], ActiveSpan | None]
    Driver = Callable[[Any, Open], Any]
    T = TypeVar("T")

# Flags of code objects: CO_GENERATOR, CO_COROUTINE and CO_ASYNC_GENERATOR of `inspect`.
_RESUMABLE = 0x20 | 0x80 | 0x200
# CO_OPTIMIZED: the code of a function. That of a module or a class body has no such flag.
_OPTIMIZED = 0x1
# Up to Python 3.11 each comprehension is a function, and a generator expression still is.
_TRANSPARENT = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>")


class SpanDecorator:
    """A decorator and a (sync and async) context manager in one.

    One object can be entered by many tasks and threads at once, because each entry has a span of
    its own. It is made by the `__init__` of a subclass, whose caller decides whether its names
    are declared.

    Args:
        names: the names given, by field; None for a name that was not given.
    """

    __slots__ = ("_entered", "_is_declaration", "_names")

    def __init__(self, names: "dict[str, str | None]") -> None:
        # In order; an entry that is not recorded is a plain object.
        self._entered: dict[ActiveSpan | object, None] = {}
        self._names = {k: v for k, v in names.items() if v is not None}
        self._is_declaration = is_top_level(_getframe(2))

    def _open(self) -> "ActiveSpan | None":
        """Open a span; None when this entry is not recorded. It raises nothing."""
        raise NotImplementedError

    def __getstate__(self) -> "dict[str, object]":
        # What is open in this process is no part of a copy or a pickle.
        names = ("_is_declaration", "_names", *type(self).__slots__)
        return {name: getattr(self, name) for name in names}

    def __setstate__(self, state: "dict[str, object]") -> None:
        for name, value in state.items():
            setattr(self, name, value)
        self._entered = {}
        self.declare_at(None)

    def declare_at(self, frame: "FrameType | None") -> None:
        """Declare the names where the decorator is made or applied at the top level of a module.

        Args:
            frame: the frame that applies it.

        Raises:
            ConfigurationError: a name that cannot be stored in plain text.
        """
        if not (self._is_declaration or is_top_level(frame)):
            return
        # A pickle of it declares the names where it is loaded.
        self._is_declaration = True
        for field, name in self._names.items():
            if not runtime.declare(field, name):
                settings = load("telemetry_kit.settings")  # deferred: names are nearly always plain
                if settings is not None:
                    settings.allow_name(field, name)

    def __call__(self, target: "T", /) -> "T":
        """Decorate a function: each of its calls runs in a span.

        Raises:
            DecorationError: `target` cannot be decorated; the message says what can be.
            ConfigurationError: a name that cannot be stored in plain text.
        """
        self.declare_at(_getframe(1))
        decorated: T = wrap(target, self._open, f"@{self!r}")
        return decorated

    def decorate(self, target: "Any", around: "Callable[[Open], Open]") -> "Any":
        """Decorate a function for a patch.

        Args:
            target: the function.
            around: makes what opens the span of a call, from what this decorator opens it with.

        Raises:
            DecorationError: `target` cannot be decorated.
        """
        return wrap(target, around(self._open), f"@{self!r}")

    def _enter(self) -> "ActiveSpan | None":
        """Enter it once; None when this entry is not recorded.

        If a signal handler raises meanwhile, it is not entered.
        """
        entered, span = self._entered, self._open()
        entry: Any = span
        try:
            if span is None and entered:
                entry = runtime.spans and runtime.spans.unrecorded(entered)
            if entry is None:
                entry = object()
            else:
                runtime.spans.hold(entry)
            entered[entry] = None
        except BaseException as error:
            entered.pop(entry, None)
            _finish(entry, error)
            raise
        return span

    def __exit__(
        self,
        kind: "type[BaseException] | None",
        error: "BaseException | None",
        trace: "TracebackType | None",
    ) -> None:
        # Of a signal between the end of the block and this line nothing can be known here.
        ending: list[Any] = []
        try:
            self._leave(error, ending)
        except BaseException:
            # A signal handler raised: the scope is left nevertheless.
            self._leave(error, ending)
            raise

    async def __aexit__(
        self,
        kind: "type[BaseException] | None",
        error: "BaseException | None",
        trace: "TracebackType | None",
    ) -> None:
        # As in `__exit__`, without a call outside of `try`.
        ending: list[Any] = []
        try:
            self._leave(error, ending)
        except BaseException:
            self._leave(error, ending)
            raise

    def _leave(self, error: "BaseException | None", ending: "list[Any]") -> None:
        """End an entry.

        Args:
            error: the exception of the block.
            ending: gets the entry that ends. A second call with the same list does what a first one
                did not, because a signal handler raised.
        """
        entered = self._entered
        is_ours = bool(ending)
        while entered and not is_ours:
            ending[:] = [self._ending()]
            # One step, because another thread may end the same entry.
            is_ours = entered.pop(ending[0], ...) is None
        if is_ours:
            entered.pop(ending[0], None)
            _finish(ending[0], error)

    def _ending(self) -> "Any":
        """The entry that ends: the innermost one around the caller, else the latest."""
        entered = self._entered
        found = None if runtime.spans is None else runtime.spans.innermost_of(entered)
        if found is None:
            # An entry of the caller that is not recorded, else one that it ends for others.
            entries = list(entered)
            plain = [entry for entry in entries if type(entry) is object]
            found = next(reversed(plain or entries), None)
        return found


def _finish(entry: "Any", error: "BaseException | None") -> None:
    """End an entry, if it is recorded."""
    if entry is not None and type(entry) is not object:
        entry.finish(error)


class tracks(SpanDecorator):  # noqa: N801 - it is used like a function
    """Record the start and the end of a function or a block.

    Given the first event of a pair (`agent.invoked`, `agent.started`, `command.executed`,
    `workflow.started`, `handoff.clicked`), it records that event at entry and `*.completed` or
    `*.failed` at the end. Both have the same span id. Given any other event, it records that event
    at the end: `*.failed` after a failure, the others after a success.

    It is a decorator and a context manager (also `async with`). One object can be used many times,
    also at once. A decorator that is made or applied at the top level of a module or class body
    declares its names, so that they are stored in plain text. Inside a running function it declares
    nothing: a name may be a text that a user typed, and is stored as a pseudonym unless it is
    declared elsewhere.

    Args:
        event: a `RoleEvent` or its string value.
        role: the acting role.
        command: the command that runs.
        agent: the agent at work.
        workflow: the workflow that the function belongs to.
        source_agent: the agent that hands off.
        target_agent: the agent that takes over.
        context: values for keys declared with `configure(context=...)`, for each of its events.
            `current().set(context=...)` adds more from inside of a call.
        project_root: a directory inside the project; the working directory by default.

    Raises:
        UnknownEventError: the event is unknown; the message names the nearest ones.
        ConfigurationError: a name that it declares cannot be stored in plain text.
        DecorationError: as a decorator, on an object that cannot be decorated.

    Example:
        >>> from telemetry_kit import RoleEvent, capture_events, tracks
        >>> @tracks(RoleEvent.AGENT_INVOKED, agent="planner")
        ... def plan(task):
        ...     return f"a plan for {task}"
        >>> with capture_events() as captured:
        ...     plan("tests")
        'a plan for tests'
        >>> [event["event_type"] for event in captured.events]
        ['agent.invoked', 'agent.completed']
    """

    __slots__ = ("_context", "_event", "_start")

    def __init__(
        self,
        event: str,
        *,
        role: "str | None" = None,
        command: "str | None" = None,
        agent: "str | None" = None,
        workflow: "str | None" = None,
        source_agent: "str | None" = None,
        target_agent: "str | None" = None,
        context: "Mapping[str, object] | None" = None,
        project_root: "str | os.PathLike[str] | None" = None,
    ) -> None:
        super().__init__(
            {
                "role": role,
                "command": command,
                "agent": agent,
                "workflow": workflow,
                "source_agent": source_agent,
                "target_agent": target_agent,
            }
        )
        if type(event) is str or type(event).__module__ != "telemetry_kit.events":
            if not isinstance(event, str):
                raise _mistake("tracks() needs an event: @tracks(RoleEvent.AGENT_INVOKED)")
            catalog = load("telemetry_kit.schema.catalog")  # deferred: a RoleEvent needs no look-up
            # Where the catalog cannot be loaded now, the pipeline rejects an unknown event.
            event = event if catalog is None else catalog.event(event).name
        self._event = event
        # A copy: what the host changes later is no part of the decoration.
        self._context = {**context} if type(context) is dict else context
        self._start = project_root

    def __repr__(self) -> str:
        return f"tracks({str(self._event)!r})"

    def __enter__(self) -> "Call":
        call = Call()
        call.span = self._enter()
        return call

    async def __aenter__(self) -> "Call":
        return self.__enter__()

    def _open(self) -> "Span | None":
        if runtime.is_off():
            return None
        spans = runtime.spans or load_spans()
        found: Span | None = None
        if spans is not None:
            found = spans.open_span(
                self._event, self._names, "decorator", self._start, self._context
            )
        return found


class Call:
    """The handle of `with tracks(...) as call` on its open span."""

    __slots__ = ("span",)

    def __init__(self) -> None:
        # None when nothing is recorded.
        self.span: Any = None

    def set(
        self, *, context: "Mapping[str, object] | None" = None, exit_code: "int | None" = None
    ) -> None:
        """Add to the event that ends the span.

        Args:
            context: values for keys declared with `configure(context=...)`. A second context is
                added to the first.
            exit_code: the exit code of a command; any other than 0 makes it a failed one.
        """
        if self.span is not None:
            self.span.set(context=context, exit_code=exit_code)


def load_spans() -> "Any":
    """Load the module that opens spans; None when it cannot be loaded now."""
    # deferred: only where the user may have granted consent
    runtime.spans = load("telemetry_kit.instrumentation.spans")
    return runtime.spans


def is_top_level(frame: "FrameType | None") -> bool:
    """Whether a frame runs at the top level of a module, or of a class body at that level.

    A name written there comes from the source code. In a running function it may as well be a text
    that a user typed.
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


# -- wrapping a function -------------------------------------------------------------------------


def wrap(target: "Any", begin: "Open", decorator: str) -> "Any":
    """A function of the same kind as `target`, each of whose calls runs in a span.

    Args:
        target: a callable, but no class.
        begin: opens the span of a call; None means that the call is not recorded.
        decorator: how the decorator is written, for messages.

    Raises:
        DecorationError: `target` cannot be decorated.
    """
    kind = type(target)
    if kind is FunctionType:
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
        raise _mistake(f"{decorator} cannot decorate {_advice(target)}")
    # deferred: wrapt, eight times a bare interpreter
    proxies = load("telemetry_kit.instrumentation.proxies")
    if proxies is None:
        # It cannot be loaded now, without a free descriptor for instance: nothing is recorded.
        return target
    commands = proxies.commands(target, decorator)
    if commands is None:
        return proxies.Proxy(target, begin, driver, finish)
    for command in commands:
        command.callback = wrap(command.callback, begin, decorator)
    return target


def driver(flags: int) -> "Driver | None":
    """What makes the wrapper of a function, by the flags of its code; None if it is not loaded."""
    if not flags & _RESUMABLE:
        return _plain
    coroutines = load_coroutines()
    found: Driver | None = None if coroutines is None else coroutines.driver(flags)
    return found


def load_coroutines() -> "Any":
    """The module that wraps generators and coroutines; None when it cannot be loaded now."""
    # deferred: only for generators and coroutines
    return load("telemetry_kit.instrumentation.coroutines")


def _plain(function: "Callable[..., Any]", begin: "Open") -> "Callable[..., Any]":
    # A pickle by value holds the cells of the wrapper, and may hold all globals of this module: the
    # cells are the arguments here, and each global is a function, a class or pickled by its name.
    def wrapper(*args: "Any", **kwargs: "Any") -> "Any":
        if monotonic() < runtime.off_until:
            return function(*args, **kwargs)
        span = begin()
        if span is None:
            return function(*args, **kwargs)
        try:
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                span.finish(error)
                raise
            return finish(result, span)
        except BaseException:
            # A signal handler may raise while the span ends: it is left nevertheless.
            span.finish(None)
            raise

    return wrapper


def finish(result: "Any", span: "ActiveSpan") -> "Any":
    """End the span of a function that has returned, or follow what it returned to its end.

    Args:
        result: what the function returned. The caller has one reference to it.
        span: the span of the call.

    Returns:
        What the call returns: `result`, or one of its kind that follows it.
    """
    kind = type(result)
    # By identity: the metaclass of another type may define what equals it.
    if kind is CoroutineType or kind is GeneratorType or kind is AsyncGeneratorType:
        try:
            # deferred: only for such a function
            followed = load("telemetry_kit.instrumentation.returned").follow(result, span)
        except Exception:
            # It cannot be loaded or followed: the host gets what its function returned.
            followed = None
        if followed is not None:
            return followed
    span.finish(None)
    return result


def _dressed(wrapper: "Any", function: "Any") -> "Any":
    """Give a wrapper the name, docstring, attributes and signature of its function."""
    update_wrapper(wrapper, function)
    if "inspect" in sys.modules:
        # deferred: inspect, 10 ms
        signatures = load("telemetry_kit.instrumentation.signatures")
        if signatures is not None:
            signatures.copy_signature(wrapper, function)
    return wrapper


def _advice(target: "Any") -> str:
    """The kind of an object that cannot be decorated, and what to decorate in its place."""
    kind = type(target)
    if isinstance(target, type):
        return f"the class {target.__qualname__}: decorate the method that does the work"
    advice = "decorate something that can be called"
    if isinstance(target, property):
        advice = "put it under @property"
    elif kind.__name__ in ("cached_property", "singledispatchmethod"):
        advice = f"put it under @{kind.__name__}"
    elif kind.__name__ == "partialmethod":
        advice = "decorate the method it is made of"
    return f"a {kind.__qualname__} object: {advice}"


def _mistake(message: str) -> TypeError:
    from telemetry_kit.errors import DecorationError  # deferred: only for a mistake

    return DecorationError(message)
