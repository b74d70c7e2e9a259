"""`role_session()`: set the acting role for everything inside.

`instrumentation.decorate` wraps the functions, and `instrumentation.spans` defines the span.
"""

from telemetry_kit._runtime import load, runtime
from telemetry_kit.instrumentation.decorate import Around

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Self

    from telemetry_kit.instrumentation.session_span import Session


class role_session(Around):  # noqa: N801 - it is used like a function
    """Bind a role, and names, to everything that happens inside.

    A context manager (also `async with`) and a decorator; one object can be entered again and
    again, also while it is entered. On entry it records `role.selected`, or `role.changed` inside
    a session of another role; with `workflow=` also that workflow's start and end. As a decorator
    that is made or applied at the top level of a module or class body, it declares its names, so
    that they are stored in clear.

    Args:
        role: who is acting, `"dev"` for instance.
        command: the command that runs.
        agent: the agent at work.
        workflow: the workflow that the block is.
        project_root: a directory inside the project; the working directory by default.

    Raises:
        ConfigurationError: a name that it declares cannot be stored in clear.
        DecorationError: as a decorator, on something that cannot be decorated.
    """

    __slots__ = ("_start",)

    def __init__(
        self,
        role: str,
        *,
        command: "str | None" = None,
        agent: "str | None" = None,
        workflow: "str | None" = None,
        project_root: "str | os.PathLike[str] | None" = None,
    ) -> None:
        super().__init__({"role": role, "command": command, "agent": agent, "workflow": workflow})
        self._start = project_root

    def __enter__(self) -> "Self":
        self._enter()
        return self

    async def __aenter__(self) -> "Self":
        self._enter()
        return self

    def _written(self) -> str:
        return f"@role_session({self._names.get('role')!r})"

    def _begin(self) -> "Session | None":
        if runtime.is_off():
            return None
        # deferred: only where somebody may have said yes
        bound = load("telemetry_kit.instrumentation.session_span")
        opened: Session | None = None
        if bound is not None:
            opened = bound.begin(self._names, self._start)
        return opened
