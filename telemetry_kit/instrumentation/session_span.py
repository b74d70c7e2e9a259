"""One open session: its fields, and the events of its start and end.

`instrumentation.sessions` decides when one starts.
"""

from __future__ import annotations

from telemetry_kit import context as scopes
from telemetry_kit._runtime import load
from telemetry_kit.consent import cache
from telemetry_kit.errors import Refused, swallow
from telemetry_kit.instrumentation import spans

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Mapping


def begin(names: Mapping[str, object], start: str | os.PathLike[str] | None) -> Session | None:
    """Enter a session where recording is on.

    Args:
        names: role, command, agent, workflow; what is no text is left out.
        start: a directory in the project; None for the one of the scope around.

    Returns:
        The session, current from now on; None when nothing is recorded.
    """
    try:
        place = scopes.place(start)
        return Session(spans.texts(names), place) if cache.is_allowed(place) else None
    except Refused:
        return None
    except Exception as error:
        swallow(error)
        return None


class Session:
    """One entry into a `role_session`.

    Args:
        names: what it binds.
        start: a directory in the project; None for the working directory.
    """

    __slots__ = ("_workflow", "outer", "scope")

    def __init__(self, names: dict[str, str], start: str | None) -> None:
        # deferred: only where recording is on
        pipeline, recorder = (
            load("telemetry_kit.recording.pipeline"),
            load("telemetry_kit.recording.recorder"),
        )
        if pipeline is None or recorder is None:
            raise Refused("the chain is being loaded")
        self.outer = parent = scopes.innermost()
        # A session that the environment names goes on in this process.
        known = (parent is not None and parent.session_id is not None) or recorder.is_outside(
            "session_id"
        )
        self.scope: scopes.Scope | None = scopes.Scope(
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
            self._workflow = spans.begin("workflow.started", {}, "session", start)
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
