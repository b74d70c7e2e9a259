"""One measured call or block: its first event, the scope inside it, its last event.

The caller chooses the function.
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
    from collections.abc import Mapping
    from typing import Any, TypeVar

    T = TypeVar("T")

OK, ERROR, CANCELLED, CLOSED = catalog.OUTCOMES[0], "error", "cancelled", "closed"


class Span:
    """An open span; `finish()` ends it, once.

    Args:
        row: the event it was given.
        names: the names of the event.
        source: how it came in.
        start: a directory in the project; None for the working directory.
    """

    __slots__ = ("_began", "_extra", "_names", "_row", "_source", "_start", "outer", "scope")

    def __init__(
        self, row: catalog.Event, names: Mapping[str, str], source: str, start: str | None
    ) -> None:
        self._row = row
        self._names = names
        self._source = source
        self._start = start
        self._extra: dict[str, object] = {}
        self.outer = outer = scopes.innermost()
        # Who hands off to whom belongs to that hand-off alone.
        inherited = {k: v for k, v in names.items() if k in scopes.INHERITED}
        self.scope: Scope | None = Scope(
            self, outer, inherited, span_id=scopes.new_id(), start=start
        )
        self._began = runtime.clock()

    def set(self, **values: object) -> None:
        """Add to the last event of this span.

        Args:
            values: fields of the catalog that a caller may give: names, `context`, `exit_code`.
                None leaves what was set before; a second context is added to the first.
        """
        for field, value in values.items():
            before = self._extra.get(field)
            if type(before) is dict and type(value) is dict:
                try:
                    value = {**before, **value}  # noqa: PLW2901
                except Exception:
                    # The host's own keys would not be compared: the later context stands.
                    before = None
            if value is not None:
                self._extra[field] = value

    def finish(self, error: BaseException | None) -> None:
        """End the span.

        Args:
            error: what the body raised; it decides the outcome and is not kept.
        """
        took = runtime.clock() - self._began
        scope, self.scope = self.scope, None
        if scope is None:
            return
        scopes.leave(scope)
        if not scope.is_ours:
            # A forked child leaves the block, too; the end is the parent's to record.
            return
        try:
            self._end(scope, error, took)
        except Exception as trouble:
            swallow(trouble)

    def start_event(self) -> bool:
        """Record the event at entry; False when it was not written, so that no span is open."""
        if self._row.completed is None and self._row.failed is None:
            return True
        return self._emit(self._row.name, {}, None) is not None

    def _end(self, scope: Scope, error: BaseException | None, seconds: float) -> None:
        outcome, code = outcome_of(error)
        bad = outcome in (ERROR, CANCELLED)
        name = last_event(self._row, bad)
        if name is None:
            return
        fields: dict[str, object] = dict(self._extra)
        if not name.startswith("role."):
            fields["outcome"] = outcome
            fields["duration_ms"] = seconds * 1e3
        if code is not None and name.startswith("command."):
            fields["exit_code"] = code
        self._emit(name, fields, type(error) if bad and error is not None else None, scope)

    def _emit(
        self,
        name: str,
        fields: Mapping[str, object],
        kind: type[BaseException] | None,
        scope: Scope | None = None,
    ) -> Any:
        chain = _chain()
        inner = scope or self.scope
        span_id = None if inner is None or name.startswith("role.") else inner.span_id
        given = chain.Given(self._source, self.outer, span_id, kind, self._start)
        return chain.enter({**self._names, **fields, "event": name, "_given": given})


_pipeline: Any = None


def _chain() -> Any:
    """The chain.

    Raises:
        Refused: it cannot be loaded now.
    """
    global _pipeline
    if _pipeline is None:
        _pipeline = load("telemetry_kit.recording.pipeline")  # deferred: only where recording is on
        if _pipeline is None:
            raise Refused("the chain is being loaded")
    return _pipeline


def begin(
    event: str,
    names: Mapping[str, object],
    source: str,
    start: str | os.PathLike[str] | None = None,
) -> Span | None:
    """Open a span and record its first event, where recording is on.

    Args:
        event: a known event type.
        names: names for its events; what is no text is left out.
        source: how it came in.
        start: a directory in the project; None for the one of the scope around.

    Returns:
        The span, current from now on; None when nothing is recorded.
    """
    try:
        place = scopes.place(start)
        if not cache.is_allowed(place):
            return None
        span = Span(catalog.EVENTS[event], texts(names), source, place)
        if not span.start_event():
            return None
        scopes.variable.set(span.scope)
    except Refused:
        return None
    except Exception as error:
        swallow(error)
        return None
    return span


def texts(names: Mapping[str, object]) -> dict[str, str]:
    """Those names that are text of 1 to 1,024 characters, freed of any subclass."""
    found = ((name, text(value)) for name, value in names.items())
    return {name: value for name, value in found if value is not None}


def outcome_of(error: BaseException | None) -> tuple[str, int | None]:
    """How a body ended, and its exit code where it has one.

    An exception that carries an `exit_code`, and SystemExit, are exits: 0 and None are successes.
    They are known by shape, because Typer vendors Click's. GeneratorExit is an early end.
    Everything that is no `Exception` (Ctrl-C, cancellation) is a cancellation.
    """
    if error is None:
        return OK, None
    if isinstance(error, GeneratorExit):
        return CLOSED, None
    if isinstance(error, SystemExit):
        # Python itself exits with 1 for anything that is no number; False is one.
        return _exit(_number(error.code, 1))
    if not isinstance(error, Exception):
        return CANCELLED, None
    try:
        code: object = getattr(error, "exit_code", ...)
    except Exception:
        code = ...
    number = _number(code, ...)
    if number is not ...:
        return _exit(number)
    return (CANCELLED if _is_abort(type(error)) else ERROR), None


def _number(code: object, otherwise: T) -> int | T | None:
    """An exit code as a plain number; a subclass of int (an enum, a bool) is freed of it."""
    if code is None:
        return None
    return int.__index__(code) if isinstance(code, int) else otherwise


def _exit(code: int | None) -> tuple[str, int | None]:
    return (ERROR, code) if code else (OK, 0)


def _is_abort(kind: type[BaseException]) -> bool:
    # Click's word for Ctrl-C and for a prompt that was left; Typer has its own copy of it.
    # Asked through `type` itself: a metaclass of the host may answer anything.
    if type.__dict__["__name__"].__get__(kind) != "Abort":
        return False
    module: object = type.__dict__["__module__"].__get__(kind)
    return type(module) is str and module.partition(".")[0] in ("click", "typer")


def last_event(row: catalog.Event, bad: bool) -> str | None:
    """The event that ends a span.

    Args:
        row: the event that was given to `tracks`.
        bad: whether the outcome is an error or a cancellation.

    Returns:
        Its type, or None where nothing is recorded.
    """
    if row.completed is not None or row.failed is not None:
        return row.failed if bad else row.completed
    return row.name if row.name.endswith(".failed") == bad else None
