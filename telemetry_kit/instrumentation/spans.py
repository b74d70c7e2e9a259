"""Open spans and sessions: the event at the start, the scope inside, the event at the end.

Loaded only if the user may have granted consent.
"""

from __future__ import annotations

from telemetry_kit import context as scopes
from telemetry_kit._runtime import load, runtime
from telemetry_kit.consent import cache
from telemetry_kit.context import Scope
from telemetry_kit.errors import Refused, swallow
from telemetry_kit.schema import catalog
from telemetry_kit.schema.validation import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from telemetry_kit.instrumentation.tracks import ActiveSpan

OK, ERROR, CANCELLED, CLOSED = catalog.OUTCOMES[0], "error", "cancelled", "closed"


def open_span(
    event: str,
    names: Mapping[str, object],
    source: str,
    start: str | os.PathLike[str] | None = None,
) -> Span | None:
    """Open a span and record its first event, where recording is on.

    Args:
        event: a known event type.
        names: names for its events.
        source: how the span was given, one of `catalog.SOURCES`.
        start: a directory in the project; None for that of the current scope.

    Returns:
        The span, current from now on; None when nothing is recorded.
    """
    try:
        directory = scopes.place(start)
        row = catalog.EVENTS[event]
        is_start = row.completed is not None
        # For an event at the start, a pipeline that is loaded checks consent itself.
        if runtime.pipeline is None or not is_start:
            load_pipeline(directory)
        span = Span(row, names, source, directory)
        if is_start and not span.emit(row.name):
            return None
        scopes.variable.set(span.scope)
    except Refused:
        return None
    except Exception as error:
        swallow(error)
        return None
    return span


def open_session(
    names: Mapping[str, object],
    start: str | os.PathLike[str] | None,
    previous_role: str | None = None,
) -> SessionSpan | None:
    """Open a session and record its role, where recording is on.

    Args:
        names: role, command, agent, workflow; a value that is no text is left out.
        start: a directory in the project; None for that of the current scope.
        previous_role: the role before, where no session of this process is open.

    Returns:
        The session, current from now on; None when nothing is recorded.
    """
    try:
        directory = scopes.place(start)
        load_pipeline(directory)
        return SessionSpan(texts(names), directory, previous_role)
    except Refused:
        return None
    except Exception as error:
        swallow(error)
        return None


def load_pipeline(start: str | None) -> None:
    """Load the pipeline where recording is on in a directory.

    Raises:
        Refused: recording is off there, or the pipeline cannot be loaded now.
    """
    if not cache.is_allowed(start):
        raise Refused("recording is off")
    if runtime.pipeline is None:
        # deferred: only where recording is on
        runtime.pipeline = load("telemetry_kit.recording.pipeline")
        if runtime.pipeline is None:
            raise Refused("the pipeline cannot be loaded now")


def innermost_of(entered: Sequence[ActiveSpan | None]) -> ActiveSpan | None:
    """The innermost open span or session around the caller that is one of these."""
    scope = scopes.variable.get()
    while scope is not None and not (scope.open and scope.owner in entered):
        scope = scope.parent
    owner: ActiveSpan | None = None if scope is None else scope.owner
    return owner


def texts(names: Mapping[str, object]) -> dict[str, str]:
    """Those names that are texts of 1 to 1,024 characters, as plain strings."""
    found = ((name, text(value)) for name, value in names.items())
    return {name: value for name, value in found if value is not None}


class Span:
    """An open span; `finish()` ends it, once.

    Args:
        row: the event that it was given.
        names: the names of its events.
        source: how it was given.
        start: a directory in the project; None for the working directory.
    """

    __slots__ = (
        *("_extra", "_id", "_names", "_row", "_source", "_start", "_started"),
        *("outer", "scope"),
    )

    def __init__(
        self, row: catalog.Event, names: Mapping[str, object], source: str, start: str | None
    ) -> None:
        self._row = row
        self._names = names
        self._source = source
        self._start = start
        self._extra: dict[str, object] = {}
        self.outer = outer = scopes.innermost()
        # Source and target of a hand-off are names of that hand-off alone.
        inherited = texts({k: v for k, v in names.items() if k in scopes.INHERITED})
        self._id = scopes.new_id()
        self.scope: Scope | None = Scope(self, outer, inherited, span_id=self._id, start=start)
        self._started = runtime.clock()

    def set(self, **values: object) -> None:
        """Add to the last event of this span.

        Args:
            values: `context` and `exit_code`. None leaves the earlier value; a second context is
                added to the first.
        """
        for field, value in values.items():
            before = self._extra.get(field)
            if type(before) is dict and type(value) is dict:
                try:
                    value = {**before, **value}  # noqa: PLW2901
                except Exception:
                    # The host's own keys cannot be compared: the later context replaces the first.
                    before = None
            if value is not None:
                self._extra[field] = value

    def finish(self, error: BaseException | None) -> None:
        """End the span and record its last event. It raises nothing.

        Args:
            error: the exception that the body raised; it decides the outcome and is not stored.
        """
        seconds = runtime.clock() - self._started
        scope, self.scope = self.scope, None
        if scope is None:
            return
        scopes.leave(scope)
        if not scope.is_ours:
            # A forked child leaves the block, too; its parent records the end.
            return
        try:
            outcome, code = outcome_of(error)
            failed = outcome in (ERROR, CANCELLED)
            name = last_event(self._row, failed)
            if name is None:
                return
            if not name.startswith("role."):
                self._extra["outcome"] = outcome
                self._extra["duration_ms"] = seconds * 1e3
            if code is not None and name.startswith("command."):
                self._extra["exit_code"] = code
            self.emit(name, type(error) if failed and error is not None else None)
        except Exception as trouble:
            swallow(trouble)

    def emit(self, name: str, error: type[BaseException] | None = None) -> bool:
        """Record an event of the span; whether it was written."""
        pipeline = runtime.pipeline
        span_id = None if name.startswith("role.") else self._id
        metadata = pipeline.EventMetadata(self._source, self.outer, span_id, error, self._start)
        event = {**self._names, **self._extra, "event": name, "_metadata": metadata}
        return pipeline.emit(event) is not None


class SessionSpan:
    """One entry into a `role_session`.

    Args:
        names: the names that it sets.
        start: a directory in the project; None for the working directory.
        previous_role: the role before, where no session of this process is open.
    """

    __slots__ = ("_workflow", "outer", "scope")

    def __init__(
        self, names: dict[str, str], start: str | None, previous_role: str | None = None
    ) -> None:
        # deferred: loaded along with the pipeline
        from telemetry_kit.recording.recorder import has_session

        self.outer = parent = scopes.innermost()
        # A session that the environment names continues in this process.
        known = (parent is not None and parent.session_id is not None) or has_session()
        self.scope: Scope | None = Scope(
            self, parent, names, session_id=None if known else scopes.new_id(), start=start
        )
        scopes.variable.set(self.scope)
        before = parent.names.get("role") if parent is not None else previous_role
        pipeline = runtime.pipeline
        event = {"_metadata": pipeline.EventMetadata("session", self.scope, start=start)}
        if before is None or before == names.get("role"):
            pipeline.emit({**event, "event": "role.selected"})
        else:
            pipeline.emit({**event, "event": "role.changed", "previous_role": before})
        self._workflow = None
        if "workflow" in names:
            self._workflow = open_span("workflow.started", {}, "session", start)
            if self._workflow is not None:
                # The block runs inside the workflow, so that a generator switches that scope.
                self.scope = self._workflow.scope

    def finish(self, error: BaseException | None) -> None:
        """Leave the session.

        Args:
            error: the exception that the block raised; it decides the outcome of the workflow.
        """
        scope, self.scope = self.scope, None
        if self._workflow is not None:
            self._workflow.finish(error)
            scope = scope and scope.parent
        if scope is not None:
            scopes.leave(scope)


def outcome_of(error: BaseException | None) -> tuple[str, int | None]:
    """The outcome of a body, and its exit code where it has one.

    An exception that carries an `exit_code`, and SystemExit, are exits: 0 and None are successes.
    They are recognised by that attribute, because Typer carries its own copy of Click's classes.
    GeneratorExit is an early end. Any other exception outside of `Exception` (Ctrl-C,
    cancellation) is a cancellation.
    """
    if error is None:
        return OK, None
    if isinstance(error, GeneratorExit):
        return CLOSED, None
    code: object = ...
    if isinstance(error, SystemExit):
        code = error.code
        if code is not None and not isinstance(code, int):
            code = 1  # as Python itself exits
    elif not isinstance(error, Exception):
        return CANCELLED, None
    else:
        try:
            code = getattr(error, "exit_code", ...)
        except Exception:
            code = ...
    if code is None:
        return OK, 0
    if isinstance(code, int):
        # A subclass of int, an enum or a bool, becomes a plain number.
        number = int.__index__(code)
        return (ERROR if number else OK), number
    return (CANCELLED if is_abort(type(error)) else ERROR), None


def is_abort(kind: type[BaseException]) -> bool:
    """Whether a class is the one that Click, or Typer's copy, raises for Ctrl-C at a prompt."""
    # Asked through `type` itself: a metaclass of the host may answer anything.
    if type.__dict__["__name__"].__get__(kind) != "Abort":
        return False
    module: object = type.__dict__["__module__"].__get__(kind)
    return type(module) is str and module.partition(".")[0] in ("click", "typer")


def last_event(row: catalog.Event, failed: bool) -> str | None:
    """The event that ends a span.

    Args:
        row: the event that was given to `tracks`.
        failed: whether the outcome is an error or a cancellation.

    Returns:
        Its type, or None where nothing is recorded.
    """
    if row.completed is not None:
        return row.failed if failed else row.completed
    return row.name if row.name.endswith(".failed") == failed else None
