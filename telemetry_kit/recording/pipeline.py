"""The pipeline: the processors of an event, in order, and the direct driver that runs them.

They are structlog processors, `(logger, method_name, event_dict) -> event_dict`, and do not depend
on their driver. A processor that rejects an event raises `Refused`, and `Stale` if the driver must
run the pipeline once more.

    gate          is recording on here? the log is open and the key is loaded
    admit         keep known fields of the right shape; count the rest
    stamp         id, time, order
    bind          the fields of the scope: session, spans, names
    pseudonymize  names outside the vocabulary, and identifiers, become pseudonyms
    write         one canonical line
"""

from __future__ import annotations

import os

from telemetry_kit import context as scopes
from telemetry_kit._runtime import runtime
from telemetry_kit.consent import cache as gates
from telemetry_kit.errors import Off, Refused, Stale, swallow
from telemetry_kit.recording.recorder import Recorder, recorder_for, remember
from telemetry_kit.schema import catalog
from telemetry_kit.schema.encoding import encode, line_format
from telemetry_kit.schema.validation import (
    ERROR_NAMES,
    VALIDATORS,
    context_of,
    error_name,
    lost_keys,
    text,
)
from telemetry_kit.settings import decorated

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import EllipsisType
    from typing import Any

    from telemetry_kit.context import Scope
    from telemetry_kit.schema.encoding import LineFormat

    EventDict = dict[str, Any]
    Step = Callable[[Any, str, EventDict], EventDict]

_SECOND_LOOKS = 50
_MAX_STORED = 1_024
_MAX_NAME_CHARS = catalog.MAX_NAME_CHARS
_OWN_KEYS = frozenset({"event", "context", "_at", "_given"})


class Given:
    """What our own callers know of an event besides its fields. Hosts cannot set any of it.

    Args:
        source: how the event came in, one of `catalog.SOURCES`.
        scope: the scope it happens in, None for none; left out for the current one.
        span_id: the span that it begins or ends.
        error: class of the exception that ended the span.
        start: a directory in the project; None for the working directory.
    """

    __slots__ = ("error", "scope", "source", "span_id", "start")

    def __init__(
        self,
        source: str = "api",
        scope: Scope | EllipsisType | None = ...,
        span_id: str | None = None,
        error: type[BaseException] | None = None,
        start: str | None = None,
    ) -> None:
        self.source = source
        self.scope = scope
        self.span_id = span_id
        self.error = error
        self.start = start


# Most events: nothing is known of them but their fields.
_FROM_API = Given()


# -- the steps -------------------------------------------------------------------------------


def gate(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Let an event in only where recording is on."""
    given = event.get("_given")
    if type(given) is not Given:
        given = event["_given"] = _FROM_API
    # The directory that it belongs to: the one given, else its scope's, else the working directory.
    start = given.start
    if start is None:
        scope = scopes.innermost() if given.scope is ... else given.scope
        start = None if scope is None else scope.start
    event["_at"] = recorder_for(start)
    return event


def admit(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Take over what the catalog knows, each value of the shape its class demands."""
    name = text(event.get("event"))
    if name not in catalog.EVENTS:
        raise Refused("unknown event type")
    at: Recorder = event["_at"]
    if name in at.unseen:
        raise Off("the notice that was accepted does not name this event")
    given: Given = event["_given"]
    out: EventDict = {
        "_at": at,
        "_given": given,
        "schema_version": catalog.SCHEMA_VERSION,
        "event_type": name,
        "source": given.source,
        "project_id": at.project_id,
        "key_epoch": at.key.epoch,
    }
    dropped = 0
    for key, value in event.items():
        if value is None or key in _OWN_KEYS:
            continue
        take = VALIDATORS.get(key)
        if take is text and type(value) is str and 0 < len(value) <= _MAX_NAME_CHARS:
            out[key] = value  # what text() would say, for nearly all of them
            continue
        taken = None if take is None else take(value)
        if taken is not None:
            out[key] = taken
            continue
        dropped += 1
        if at.dropped is not None:
            at.dropped.append((name, key))
    context = event.get("context")
    if context is not None:
        out["context"], lost = context_of(context, at.context)
        dropped += lost
        if lost and at.dropped is not None:
            at.dropped += lost_keys(name, context, out["context"])
    if given.error is not None:
        out["error_type"] = error_name(given.error, at.settings.errors)
    if dropped:
        out["dropped"] = dropped
    return out


def stamp(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Give the event its id, its time and its place in the order."""
    at: Recorder = event["_at"]
    world = runtime.world
    random = world.random
    event["event_id"] = _next_id() if random is os.urandom else random(8).hex()
    now = world.now()
    begin, end, day = at.instant
    event["timestamp"] = day if begin <= now < end else at.timestamp(now)
    event["seq"] = next(at.sequence)
    return event


# Random ids made at once: asking the system for each costs a microsecond.
_ids: list[str] = []
_IDS = 64

if hasattr(os, "register_at_fork"):
    # A child with the same ones would record events under the ids of its parent.
    os.register_at_fork(after_in_child=_ids.clear)


def _next_id() -> str:
    try:
        return _ids.pop()
    except IndexError:
        digits = os.urandom(8 * _IDS).hex()
        found = [digits[at : at + 16] for at in range(0, 16 * _IDS, 16)]
        _ids.extend(found[1:])
        return found[0]


def bind(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Add what the scope says: session, the span around, and names that were not given."""
    given: Given = event["_given"]
    scope = scopes.innermost() if given.scope is ... else given.scope
    if given.span_id is not None:
        event["span_id"] = given.span_id
    if scope is not None:
        for name, value in scope.names.items():
            if name not in event:
                event[name] = value
        if scope.session_id is not None:
            event["session_id"] = scope.session_id
        span = scope.enclosing_span
        if span is not None:
            event["parent_id"] = span
    outside = event["_at"].outside
    if outside:
        for field, value in outside.items():
            event.setdefault(field, value)
    return event


def pseudonymize(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Keep the names that are declared; a keyed code takes the place of every other one."""
    at: Recorder = event["_at"]
    shaped = line_format(tuple(event))
    for field in shaped.names:
        value = event[field]
        event[field] = at.stored[field].get(value) or _stored(at, field, value)
    error = event.get("error_type")
    if error is not None and error not in ERROR_NAMES and not at.keeps("errors", error):
        event["error_type"] = "other"
    formatted = at.plain
    if at.unseen or at.unseen_tokens:
        formatted = False
        _leave_out_unseen(event, at)
    if "context" in event:
        formatted = False
        event["context"] = {
            k: at.key.pseudonym(f"context.{k}", v) if kind == catalog.IDENTIFIER else v
            for k, (kind, v) in event["context"].items()
            if at.keeps("context", k) and (type(v) is not str or _keeps_token(at, k, kind, v))
        }
        if not event["context"]:
            del event["context"]
    event["_layout"] = shaped if formatted else None
    return event


def _stored(at: Recorder, field: str, value: str) -> str:
    """A name as it is stored: itself when it is declared, else a pseudonym."""
    vocabulary = catalog.NAMES[field]
    declared = value in at.names[vocabulary] or value in decorated[vocabulary]
    if value in at.clear[vocabulary] or (declared and at.keeps(vocabulary, value)):
        found = value
    else:
        found = at.key.pseudonym(field, value)
        if at.undeclared is not None:
            at.undeclared.append((field, value))
            return found
    if len(at.stored[field]) < _MAX_STORED:
        at.stored[field][value] = found
    return found


def _keeps_token(at: Recorder, key: str, kind: object, value: str) -> bool:
    return kind == catalog.IDENTIFIER or at.keeps(f"context.{key}", value)


def _leave_out_unseen(event: EventDict, at: Recorder) -> None:
    """Take out what the accepted notice did not name."""
    for field in list(event):
        tokens = at.unseen_tokens.get(field)
        if field in at.unseen or (tokens is not None and event[field] in tokens):
            del event[field]


def write(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Put the event on file as one line, and hand it back as it was written: in schema order.

    Raises:
        Stale: nothing was written; look again.
    """
    at: Recorder = event.pop("_at")
    shaped: LineFormat | None = event.pop("_layout")
    del event["_given"]
    if shaped is not None:
        record = shaped.blank | event
        line = (shaped.template % tuple(record.values())).encode("ascii")
    else:
        record = _ordered(event)
        line = encode(record)
    if len(line) > catalog.MAX_LINE_BYTES:
        event["dropped"] = event.get("dropped", 0) + len(event.pop("context", ()))
        record = _ordered(event)
        line = encode(record)
    if not at.journal.append(line):
        raise Stale("the log was replaced")
    return record


def _ordered(event: EventDict) -> EventDict:
    return {field: event[field] for field in catalog.ORDER if field in event}


PROCESSORS: tuple[Step, ...] = (gate, admit, stamp, bind, pseudonymize, write)


# -- the direct driver ---------------------------------------------------------------------------


def walk(event: EventDict) -> EventDict:
    """Drive one event through the steps without structlog.

    Args:
        event: `event` (the type), fields of the catalog, and `_given`.

    Returns:
        The record as it was written.

    Raises:
        Refused: the event was not recorded.
    """
    try:
        return _once(event)
    except Stale:
        return look_again(lambda: _once(event))


def _once(event: EventDict) -> EventDict:
    for step in PROCESSORS:
        event = step(None, "info", event)
    return event


def look_again(drive: Callable[[], EventDict]) -> EventDict:
    """Drive an event through the steps that found the log sealed, cleared or replaced.

    Args:
        drive: asks consent, key and log for everything, from the first step on.

    Returns:
        The record as it was written.

    Raises:
        Refused: the event was not recorded.
    """
    for _ in range(_SECOND_LOOKS):
        gates.forget()
        try:
            return drive()
        except Stale:
            continue
    raise Refused("the log is being replaced all the time")


def emit(
    name: object, fields: Mapping[str, object], given: Given | None = None
) -> EventDict | None:
    """The same for callers inside the host: never raises, and says None when nothing was written.

    Raises:
        Exception: an internal error, when a test is running.
    """
    return enter({**fields, "event": name, "_given": given})


def enter(event: EventDict) -> EventDict | None:
    """`emit()` for callers who made the event themselves, with `event` and `_given` in it."""
    try:
        return walk(event)
    except Refused:
        return None
    except Exception as error:
        at = event.get("_at")
        if type(at) is Recorder:
            remember(at.verdict.home, error_name(type(error), frozenset()))
        swallow(error)
        return None
