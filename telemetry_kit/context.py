"""The current scope: one `ContextVar`, and the immutable nodes in it.

A scope makes no event. It holds the fields that the next event inherits.
"""

from __future__ import annotations

import os

# contextvars itself only hands these names on, for a tenth of a millisecond.
from _contextvars import ContextVar

from telemetry_kit._runtime import runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, ParamSpec, TypeVar

    P = ParamSpec("P")
    R = TypeVar("R")


INHERITED = frozenset({"role", "command", "agent", "workflow"})


class Scope:
    """One open span or session, linked to the one around it.

    Args:
        owner: what opened it, so that only that one closes it.
        parent: the scope around it.
        names: the names that events inside inherit (role, command, agent, workflow).
        session_id: the session it belongs to; None inherits the parent's.
        span_id: its own id; None for a scope that is no span.
        start: a directory in the project that events inside belong to; None inherits it.
    """

    __slots__ = ("forks", "names", "open", "owner", "parent", "session_id", "span_id", "start")

    def __init__(
        self,
        owner: Any,
        parent: Scope | None,
        names: Mapping[str, str],
        session_id: str | None = None,
        span_id: str | None = None,
        start: str | None = None,
    ) -> None:
        self.owner = owner
        self.parent = parent
        self.names: dict[str, str] = {**parent.names, **names} if parent else dict(names)
        self.session_id: str | None = session_id or (parent.session_id if parent else None)
        self.start: str | None = start or (parent.start if parent else None)
        self.span_id = span_id
        self.open = True
        self.forks = _forks

    @property
    def is_ours(self) -> bool:
        """Whether this process opened it, and not the one it was forked from."""
        return self.forks == _forks

    @property
    def role(self) -> str | None:
        """Who is acting."""
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
        """The workflow it belongs to."""
        return self.names.get("workflow")

    @property
    def enclosing_span(self) -> str | None:
        """Id of the nearest span that is this scope or around it, in this process."""
        node: Scope | None = self
        while node is not None:
            if node.span_id is not None and node.open and node.is_ours:
                return node.span_id
            node = node.parent
        return None


variable: ContextVar[Scope | None] = ContextVar("telemetry_kit_scope", default=None)
_forks = 0


def _count_fork() -> None:
    global _forks
    _forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_count_fork)


def innermost() -> Scope | None:
    """The innermost scope that is still open, or None."""
    node = variable.get()
    while node is not None and not node.open:
        node = node.parent
    return node


def place(start: str | os.PathLike[str] | None) -> str | None:
    """The directory that an event belongs to: the one given, else the scope's, else None.

    Raises:
        TypeError, ValueError, OSError: what was given is no directory name.
    """
    if start is None:
        around = innermost()
        return around.start if around is not None else None
    return os.path.realpath(os.fsdecode(start))


def current() -> Scope | None:
    """Who is acting here: the innermost open session or span.

    Returns:
        Its role, command, agent, workflow, session_id and span_id; None outside of any, and
        where nothing is recorded.
    """
    return innermost()


def propagate(function: Callable[P, R], /) -> Callable[P, R]:
    """Carry the current session and span into a thread or an executor.

    Args:
        function: what will run there.

    Returns:
        A function that runs it with the scope in which `propagate()` was called, and leaves
        the thread's own as it was.
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
    """Close `scope`, and make its parent current where it is current.

    Left from another task or thread, it is only marked closed: what is current there belongs to
    somebody else.
    """
    scope.open = False
    if variable.get() is scope:
        variable.set(scope.parent)


def new_id() -> str:
    """A fresh id of 48 random bits, as 12 hex digits."""
    return runtime.random(6).hex()
