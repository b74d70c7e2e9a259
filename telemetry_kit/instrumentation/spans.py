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
    from collections.abc import Collection, Mapping
    from types import EllipsisType

    from telemetry_kit.instrumentation.tracks import ActiveSpan

OK, ERROR, CANCELLED, CLOSED = catalog.OUTCOMES[0], "error", "cancelled", "closed"


def open_span(
    event: str,
    names: Mapping[str, object],
    source: str,
    start: str | os.PathLike[str] | None = None,
    context: object = None,
    inside: Scope | EllipsisType | None = ...,
) -> Span | None:
    """Open a span and record its first event, where recording is on.

    Args:
        event: a known event type.
        names: names for its events.
        source: how the span was given, one of `catalog.SOURCES`.
        start: a directory in the project; None for that of the current scope.
        context: the context of its events.
        inside: the scope of the span around it, as another tracing library knows it; None for a
            span without one. Such a span does not become current.

    Returns:
        The span, current from now on unless `inside` is given; None when nothing is recorded.
    """
    try:
        if inside is ...:
            directory, outer = scopes.place(start), scopes.innermost()
        else:
            outer = scope_around(inside, names)
            directory = None if outer is None else outer.start
        row = catalog.EVENTS[event]
        is_start = row.completed is not None
        # For an event at the start, a pipeline that is loaded checks consent itself.
        if runtime.pipeline is None or not is_start:
            load_pipeline(directory)
        span = Span(row, names, source, directory, outer, context)
        if is_start and not span.emit(row.name):
            return None
        if inside is ...:
            # At last, in one step: what raises before leaves the former scope current.
            scopes.enter(span.scope)
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
        names: role, command, agent, workflow; a value that is no text is dropped and counted.
        start: a directory in the project; None for that of the current scope.
        previous_role: the role before, where no session of this process is open.

    Returns:
        The session, current from now on; None when nothing is recorded.
    """
    try:
        directory = scopes.place(start)
        load_pipeline(directory)
        session = SessionSpan(names, directory, previous_role)
        scopes.enter(session.scope)
    except Refused:
        return None
    except Exception as error:
        swallow(error)
        return None
    return session


def scope_around(inside: Scope | None, names: Mapping[str, object]) -> Scope | None:
    """The scope around a span of another tracing library.

    That is the span around it, unless a session or span of this library was opened between the two.

    Args:
        inside: the scope of the span around it.
        names: its names. A name that is None hides that of the span around it.
    """
    outer = scopes.innermost()
    node = inside
    while node is not None and node is not outer:
        node = node.parent
    if node is not None or outer is None:
        outer = inside
    hidden = {k: None for k, value in names.items() if value is None}
    return Scope(None, outer, hidden) if hidden and outer is not None else outer


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


def unrecorded(entered: Collection[object]) -> Unrecorded | None:
    """An entry that is not recorded; None if the object is not entered around the caller."""
    return None if innermost_of(entered) is None else Unrecorded()


def hold(entry: ActiveSpan) -> None:
    """Make an entry of a `with` statement current."""
    scopes.hold(entry.scope, entry.outer)


def innermost_of(entered: Collection[object]) -> ActiveSpan | None:
    """The innermost open span or session around the caller that is one of these."""
    scope = scopes.variable.get()
    while scope is not None and not (scope.open and scope.owner in entered):
        scope = scope.parent
    owner: ActiveSpan | None = None if scope is None else scope.owner
    return owner


def inherited_names(names: Mapping[str, object]) -> dict[str, str | None]:
    """The names that events inside a scope inherit, as plain strings; None for what is no text."""
    return {k: text(value) for k, value in names.items() if k in scopes.INHERITED}


class Span:
    """An open span; `finish()` ends it, once.

    Args:
        row: the event that it was given.
        names: the names of its events.
        source: how it was given.
        start: a directory in the project; None for the working directory.
        outer: the scope around it.
        context: the context of its events.
    """

    __slots__ = (
        *("_extra", "_id", "_is_finished", "_names", "_row", "_source", "_start", "_started"),
        *("outer", "scope"),
    )

    def __init__(
        self,
        row: catalog.Event,
        names: Mapping[str, object],
        source: str,
        start: str | None,
        outer: Scope | None,
        context: object = None,
    ) -> None:
        self._row = row
        self._names = names
        self._source = source
        self._start = start
        self._extra: dict[str, object] = {} if context is None else {"context": context}
        self._is_finished = False
        self.outer = outer
        # Source and target of a hand-off are names of that hand-off alone.
        inherited = inherited_names(names)
        self._id = scopes.new_id()
        self.scope = Scope(self, outer, inherited, span_id=self._id, start=start)
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

    def finish(
        self, error: BaseException | None, failed: bool = False, seconds: float | None = None
    ) -> None:
        """End the span and record its last event. It raises nothing.

        If a signal handler raises meanwhile, a second call does what was not done.

        Args:
            error: the exception that the body raised; it decides the outcome and is not stored.
            failed: whether it failed by an exception that the caller does not have.
            seconds: how long it took; None for the time since it was opened.
        """
        if self._is_finished:
            return
        if seconds is None:
            seconds = runtime.clock() - self._started
        scopes.leave(self.scope)
        self._is_finished = True
        if not self.scope.is_ours:
            # A forked child leaves the block, too; its parent records the end.
            return
        try:
            is_command = self._row.name.startswith("command.")
            outcome, code = outcome_of(error, is_command)
            given = self._extra.get("exit_code")
            exits = is_command and code is None and type(given) is int and given != 0
            if outcome == OK and (failed or exits):
                outcome = ERROR
            failed = outcome in (ERROR, CANCELLED)
            name = last_event(self._row, failed)
            if name is None:
                return
            if not name.startswith("role."):
                self._extra["outcome"] = outcome
                self._extra["duration_ms"] = seconds * 1e3
            if code is not None and is_command:
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

    __slots__ = ("_own", "_workflow", "outer", "scope")

    def __init__(
        self, names: Mapping[str, object], start: str | None, previous_role: str | None = None
    ) -> None:
        # deferred: loaded along with the pipeline
        from telemetry_kit.recording.recorder import has_session

        self.outer = parent = scopes.innermost()
        # A session that the environment names continues in this process.
        known = (parent is not None and parent.session_id is not None) or has_session()
        inherited = inherited_names(names)
        self._own = self.scope = Scope(
            self, parent, inherited, session_id=None if known else scopes.new_id(), start=start
        )
        before = parent.names.get("role") if parent is not None else previous_role
        pipeline = runtime.pipeline
        event = {**names, "_metadata": pipeline.EventMetadata("session", self.scope, start=start)}
        if before is None or inherited.get("role") in (before, None):
            pipeline.emit({**event, "event": "role.selected"})
        else:
            pipeline.emit({**event, "event": "role.changed", "previous_role": before})
        self._workflow = None
        if inherited.get("workflow") is not None:
            row = catalog.EVENTS["workflow.started"]
            workflow = Span(row, {}, "session", start, self._own)
            if workflow.emit(row.name):
                self._workflow = workflow
                # The block runs inside the workflow, so that a generator switches that scope.
                self.scope = workflow.scope

    def finish(self, error: BaseException | None) -> None:
        """Leave the session.

        Args:
            error: the exception that the block raised; it decides the outcome of the workflow.
        """
        scopes.leave(self.scope)
        scopes.leave(self._own)
        if self._workflow is not None:
            self._workflow.finish(error)


class Unrecorded:
    """An entry that is not recorded, into an object that is entered around it.

    Its scope adds nothing. It shows which of the two entries ends.
    """

    __slots__ = ("outer", "scope")

    def __init__(self) -> None:
        self.outer = scopes.innermost()
        self.scope = Scope(self, self.outer, {})

    def finish(self, _error: BaseException | None) -> None:
        """Leave the scope."""
        scopes.leave(self.scope)


def outcome_of(error: BaseException | None, is_command: bool) -> tuple[str, int | None]:
    """The outcome of a body, and its exit code where it has one.

    SystemExit and the Exit of Click end the program: 0 and None are successes. The `exit_code` of
    another exception counts only for a command, and only if it is a whole number. GeneratorExit is
    an early end. Any other exception outside of `Exception` (Ctrl-C, cancellation) is a
    cancellation.

    Args:
        error: the exception that the body raised.
        is_command: whether the body is that of a command.
    """
    if error is None:
        return OK, None
    kind = type(error)
    if issubclass(kind, GeneratorExit):
        return CLOSED, None
    if not issubclass(kind, (Exception, SystemExit)):
        return CANCELLED, None
    ends_program = issubclass(kind, SystemExit) or is_of_click(kind, "Exit")
    code: object = ...
    if ends_program or is_command:
        try:
            # Of a subclass, either attribute may be code of the host.
            name = "code" if issubclass(kind, SystemExit) else "exit_code"
            code = scopes.call_host(getattr, error, name)
        except Exception:
            code = ...  # there is none
    if ends_program:
        # As Python itself exits: with 0 for None, and with 1 for any other object.
        code = 0 if code is None else code if issubclass(type(code), int) else 1
    elif type(code) is bool or not issubclass(type(code), int):
        return (CANCELLED if is_of_click(kind, "Abort") else ERROR), None
    number: int = int.__index__(code)  # type: ignore[arg-type]  # a plain number, also of an enum
    return (ERROR if number else OK), number


def is_of_click(kind: type[BaseException], name: str) -> bool:
    """Whether a class is the Exit or Abort (Ctrl-C at a prompt) of Click, or of Typer's copy."""
    # Asked through `type` itself: a metaclass of the host may answer anything.
    if type.__dict__["__name__"].__get__(kind) != name:
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
