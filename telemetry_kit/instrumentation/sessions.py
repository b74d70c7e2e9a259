"""`role_session()`: the acting role of a block or a function."""

from telemetry_kit._runtime import runtime
from telemetry_kit.instrumentation.tracks import SpanDecorator, load_spans

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from typing import Self

    from telemetry_kit.instrumentation.spans import SessionSpan


class role_session(SpanDecorator):  # noqa: N801 - it is used like a function
    """Set a role, and names, for all events inside.

    It is a context manager (also `async with`) and a decorator. One object can be entered many
    times, also while it is entered. On entry it records `role.selected`, or `role.changed` inside
    a session of another role. With `workflow=` it also records that workflow's start and end. A
    decorator that is made or applied at the top level of a module or class body declares its
    names, so that they are stored in plain text.

    Args:
        role: the acting role, `"dev"` for instance.
        command: the command that runs.
        agent: the agent at work.
        workflow: the workflow that the block is.
        project_root: a directory inside the project; the working directory by default.

    Raises:
        ConfigurationError: a name that it declares cannot be stored in plain text.
        DecorationError: as a decorator, on an object that cannot be decorated.

    Example:
        >>> from telemetry_kit import capture_events, role_session, track_role_event
        >>> with capture_events() as captured, role_session("dev"):
        ...     record = track_role_event("handoff.clicked")
        >>> [(event["event_type"], event["role"]) for event in captured.events]
        [('role.selected', 'dev'), ('handoff.clicked', 'dev')]
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

    def __repr__(self) -> str:
        return f"role_session({self._names.get('role')!r})"

    def __enter__(self) -> "Self":
        self._enter()
        return self

    async def __aenter__(self) -> "Self":
        return self.__enter__()

    def _open(self) -> "SessionSpan | None":
        if runtime.is_off():
            return None
        spans = runtime.spans or load_spans()
        found: SessionSpan | None = None
        if spans is not None:
            found = spans.open_session(self._names, self._start)
        return found
