"""The current scope: the fields that the next event inherits.

It is one `ContextVar` with linked nodes. A scope makes no event.
"""

from __future__ import annotations

import os

# The module contextvars only re-exports this name, which takes a tenth of a millisecond.
from _contextvars import ContextVar

from telemetry_kit._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextvars import Token
    from typing import Any, ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")


INHERITED = frozenset({"role", "command", "agent", "workflow"})


class Scope:
    """One span or session, linked to the one around it.

    Names, session and directory hold for everything that was started inside, also when it runs
    after the scope was closed. A closed span is no parent of later events.

    Args:
        owner: the span or session that opened it, and alone closes it.
        parent: the enclosing scope.
        names: the names that events inside inherit (role, command, agent, workflow). None for one
            that cannot be stored: it hides that of the enclosing scope.
        session_id: the session it belongs to; None inherits the parent's.
        span_id: its own id; None for a scope that is no span.
        start: a directory in the project that events inside belong to; None inherits it.
    """

    __slots__ = (
        *("forks", "names", "open", "owner", "parent", "session_id", "span_id", "start"),
        "token",
    )

    def __init__(
        self,
        owner: Any,
        parent: Scope | None,
        names: Mapping[str, str | None],
        session_id: str | None = None,
        span_id: str | None = None,
        start: str | None = None,
    ) -> None:
        self.owner = owner
        self.parent = parent
        self.names: dict[str, str | None] = {**parent.names, **names} if parent else dict(names)
        self.session_id: str | None = session_id or (parent.session_id if parent else None)
        self.start: str | None = start or (parent.start if parent else None)
        self.span_id = span_id
        self.open = True
        self.forks = runtime.forks
        # Of a `with` statement: made by the context that runs it, until that context leaves it.
        self.token: Token[Scope | None] | None = None

    @property
    def is_ours(self) -> bool:
        """Whether this process opened it, and not the process that it was forked from."""
        return self.forks == runtime.forks

    @property
    def role(self) -> str | None:
        """The acting role."""
        return self.names.get("role")

    @property
    def command(self) -> str | None:
        """The command that runs."""
        return self.names.get("command")

    @property
    def agent(self) -> str | None:
        """The agent at work."""
        return self.names.get("agent")

    @property
    def workflow(self) -> str | None:
        """The workflow that it belongs to."""
        return self.names.get("workflow")

    @property
    def enclosing_span(self) -> str | None:
        """Id of the nearest span that is open in this process: the scope itself, or around it."""
        node: Scope | None = self
        while node is not None:
            if node.span_id is not None and node.open and node.is_ours:
                return node.span_id
            node = node.parent
        return None

    def set(
        self, *, context: Mapping[str, object] | None = None, exit_code: int | None = None
    ) -> None:
        """Add to the event that ends the innermost tracked call or block.

        Outside of any, after its end, and where nothing is recorded, it does nothing.

        Args:
            context: values for keys declared with `configure(context=...)`. A second context is
                added to the first.
            exit_code: the exit code of a command; any other than 0 makes it a failed one.
        """
        node: Scope | None = self if self.open else None
        while node is not None and (node.span_id is None or not node.open):
            node = node.parent
        if node is not None:
            node.owner.set(context=context, exit_code=exit_code)


class NoScope(Scope):
    """The scope outside of any session and span: it is false, and has no names and no ids."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False


nowhere = NoScope(None, None, {})
nowhere.open = False

variable: ContextVar[Scope | None] = ContextVar("telemetry_kit_scope", default=None)


def scope_variable() -> ContextVar[Scope | None]:
    """The variable of the current scope, for modules whose functions are pickled by value.

    The pickle of a wrapper may hold the globals of its module, and no `ContextVar` can be pickled.
    """
    return variable


def count_fork() -> None:
    """Mark that this process is a forked child, in which the spans of its parent do not end."""
    runtime.forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=count_fork)


def innermost() -> Scope | None:
    """The innermost scope around the caller, or None.

    It may be closed, in a task for instance that has outlived the scope in which it was started.
    """
    node = variable.get()
    # In the context that entered it, a scope that was left in another one does not hold.
    while node is not None and not node.open and restore(node):
        node = variable.get()
    return node


# While code of the host runs inside the recorder: a list that is emptied when that code returns.
# A task that it starts has the same list, and may record later.
in_host: ContextVar[list[bool] | None] = ContextVar("telemetry_kit_in_host", default=None)


def call_host(function: Callable[..., R], *args: Any) -> R:
    """Call a function of the host from inside the recorder: nothing that it does is recorded.

    Raises:
        Refused: code of the host already runs inside the recorder, and would run again.
    """
    before = in_host.get()
    if before:
        from telemetry_kit.errors import Refused  # deferred: most programs never come here

        raise Refused("code of the host runs inside the recorder")
    running = [True]
    try:
        in_host.set(running)
        return function(*args)
    finally:
        running.clear()
        in_host.set(before)


def enter(scope: Scope) -> None:
    """Make `scope` current; a signal handler that raises meanwhile leaves the former one."""
    before = variable.get()
    try:
        variable.set(scope)
    except BaseException:
        variable.set(before)
        raise


def hold(scope: Scope, outer: Scope | None) -> None:
    """Make `scope` current, and remember that the current context runs its `with` statement.

    Args:
        scope: the scope inside the statement.
        outer: the scope around it.
    """
    variable.set(outer)
    scope.token = variable.set(scope)


def restore(scope: Scope) -> bool:
    """Make the scope around a `with` statement current, in the context that runs the statement."""
    token = scope.token
    if token is None:
        return False
    try:
        variable.reset(token)
    except (ValueError, RuntimeError) as error:
        # Of another context, or used; but frames below this one are those of a signal handler.
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            raise
        return False
    scope.token = None
    return True


def place(start: str | os.PathLike[str] | None) -> str | None:
    """The directory that an event belongs to: the one given, else the scope's, else None.

    Raises:
        TypeError, ValueError, OSError: the object given is no directory name.
    """
    if start is None:
        scope = innermost()
        return scope.start if scope is not None else None
    return os.path.realpath(start if type(start) is str else call_host(os.fsdecode, start))


def current() -> Scope:
    """The innermost open session or tracked call, and a way to add to its last event.

    `current().set(context=..., exit_code=...)` adds to the event that ends the tracked call or
    block around it: of nested ones the innermost. It raises nothing, and does nothing outside of
    any, after the end, in another thread without `propagate()`, and where nothing is recorded.
    In a task that runs longer than the session in which it was started, the scope is that session.

    Returns:
        Its role, command, agent, workflow, session_id and span_id, each None if there is none.
        Outside of any, and where nothing is recorded, all of them are None, and it is false.

    Example:
        >>> from telemetry_kit import capture_events, configure, current, role_session, tracks
        >>> @tracks("command.executed", command="build")
        ... def build(files):
        ...     current().set(context={"files": len(files)}, exit_code=0 if files else 3)
        ...     return current().role
        >>> with configure(context={"files": "measure"}), capture_events() as captured:
        ...     with role_session("dev"):
        ...         build(["a", "b"])
        'dev'
        >>> captured.events[-1]["context"], captured.events[-1]["exit_code"]
        ({'files': 2}, 0)
        >>> build([]), bool(current())
        (None, False)
    """
    return innermost() or nowhere


def propagate(function: Callable[P, R], /) -> Callable[P, R]:
    """Carry the current session and span into a thread or an executor.

    Args:
        function: the function that will run there.

    Returns:
        A function that runs it with the scope in which `propagate()` was called, also after that
        scope was left. It leaves the thread's own scope as it was.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from telemetry_kit import capture_events, current, propagate, role_session
        >>> with capture_events(), role_session("dev"), ThreadPoolExecutor() as pool:
        ...     pool.submit(propagate(lambda: current().role)).result()
        'dev'
    """
    scope = innermost()

    def carried(*args: P.args, **kwargs: P.kwargs) -> R:
        before = variable.get()
        variable.set(scope)
        try:
            return function(*args, **kwargs)
        finally:
            variable.set(before)

    return carried


def leave(scope: Scope) -> None:
    """Close `scope`, and make its parent current where it is current. It may be repeated.

    Left from another task or thread, it is only marked closed: the current scope there belongs
    to that task or thread.
    """
    parent, node = scope.parent, variable.get()
    if node is scope:
        restore(scope)
        variable.set(parent)
    # Left before a scope inside it, which from now on leads past it.
    while node is not None and node is not parent:
        if node.parent is scope:
            node.parent = parent
            break
        node = node.parent
    scope.open = False
    # Tasks that start one another would keep all their scopes: a closed one leads to an open one.
    while parent is not None and not parent.open:
        parent = parent.parent
    scope.parent = parent


def new_id() -> str:
    """A fresh id of 48 random bits, as 12 hex digits."""
    return runtime.random(6).hex()
