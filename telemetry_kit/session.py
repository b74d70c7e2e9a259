"""`role_session()`: who is acting, for everything inside.

How a function is wrapped lives in `wrapping`, what a span is in `span`.
"""

from __future__ import annotations

from time import monotonic

from telemetry_kit import catalog, settings, span
from telemetry_kit import gate as gates
from telemetry_kit import scope as scopes
from telemetry_kit.errors import swallow
from telemetry_kit.scope import Scope
from telemetry_kit.wrapping import Around

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os


class role_session(Around):  # noqa: N801 - it is used like a function
    """Bind a role, and names, to everything that happens inside.

    A context manager (also `async with`) and a decorator; one object can be entered again and
    again, also while it is entered. On entry it records `role.selected`, or `role.changed` inside
    a session of another role; with `workflow=` also that workflow's start and end. Used as a
    decorator, its names are declared and stored in clear.

    Args:
        role: who is acting, `"dev"` for instance.
        command: the command that runs.
        agent: the agent at work.
        workflow: the workflow that the block is.
        project_root: a directory inside the project; the working directory by default.

    Raises:
        ConfigurationError: as a decorator, a name that cannot be stored in clear.
        DecorationError: as a decorator, on something that cannot be decorated.
    """

    __slots__ = ("_names", "_start")

    def __init__(
        self,
        role: str,
        *,
        command: str | None = None,
        agent: str | None = None,
        workflow: str | None = None,
        project_root: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__()
        given = {"role": role, "command": command, "agent": agent, "workflow": workflow}
        self._names = {k: v for k, v in given.items() if v is not None}
        self._start = project_root

    def __enter__(self) -> role_session:
        self._enter()
        return self

    async def __aenter__(self) -> role_session:
        self._enter()
        return self

    def _declare(self) -> str:
        for field, name in self._names.items():
            settings.declare(catalog.NAMES[field], name)
        return f"@role_session({self._names.get('role')!r})"

    def _begin(self) -> _Session | None:
        if monotonic() < gates.latch.until:
            return None
        try:
            place = span.place_of(self._start)
            if not gates.is_open(place):
                return None
            return _Session(span.texts(self._names), place)
        except Exception as error:
            swallow(error)
            return None


class _Session:
    """One entry into a `role_session`."""

    __slots__ = ("_workflow", "scope")

    def __init__(self, names: dict[str, str], start: str | None) -> None:
        from telemetry_kit import pipeline  # deferred: only where recording is on

        parent = scopes.innermost()
        known = parent is not None and parent.session_id is not None
        self.scope: Scope | None = Scope(
            self, parent, names, session_id=None if known else scopes.new_id(), start=start
        )
        scopes.variable.set(self.scope)
        before = parent.names.get("role") if parent is not None else None
        changed = before is not None and before != names.get("role")
        pipeline.emit(
            "role.changed" if changed else "role.selected",
            {"previous_role": before} if changed else {},
            pipeline.Given("session", self.scope, start=start),
        )
        self._workflow = None
        if "workflow" in names:
            row = catalog.EVENTS["workflow.started"]
            self._workflow = span.begin(row, {}, "session", start)
            if self._workflow is not None:
                # The block runs inside the workflow, so that is what gets switched with it.
                self.scope = self._workflow.scope

    def finish(self, error: BaseException | None) -> None:
        """Leave the session; what came out of the block decides how its workflow ended."""
        scope, self.scope = self.scope, None
        if self._workflow is not None:
            self._workflow.finish(error)
            scope = scope and scope.parent
        if scope is not None:
            scopes.leave(scope)
