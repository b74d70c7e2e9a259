"""The processors that turn an event into a line of the log, and the direct driver that runs them.

Each one is a structlog processor, `(logger, method_name, event_dict) -> event_dict`, and works the
same under both drivers. A processor that rejects an event raises `Refused`.

    check_consent  is recording on here? find the recorder with its log and key
    validate       keep the fields that the catalog knows, and count the others
    add_metadata   id, time, order
    add_context    session, spans and names of the current scope
    pseudonymize   replace undeclared names and identifiers by pseudonyms
    write          write one line
"""

from __future__ import annotations

import os

from telemetry_kit import context as scopes
from telemetry_kit._runtime import runtime
from telemetry_kit.consent import cache
from telemetry_kit.errors import Off, Refused, Stale, swallow
from telemetry_kit.recording.recorder import Recorder, recorder_for, save_error
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
    from collections.abc import Callable
    from types import EllipsisType
    from typing import Any

    from telemetry_kit.context import Scope
    from telemetry_kit.schema.encoding import LineFormat

    EventDict = dict[str, Any]
    Processor = Callable[[Any, str, EventDict], EventDict]

# The key of the `EventMetadata` in an event dictionary.
METADATA = "_metadata"
# While other processes keep replacing the log, the pipeline runs this often for one event.
_RUNS = range(51)
_MAX_STORED_NAMES = 1_024
_MAX_NAME_CHARS = catalog.MAX_NAME_CHARS
_NAMES = frozenset(catalog.NAMES)
_NO_FIELDS = frozenset({"event", "context", METADATA})


class EventMetadata:
    """The facts about an event that are no fields of it, for the processors. Hosts set none.

    Args:
        source: how the event was given, one of `catalog.SOURCES`.
        scope: the scope it happens in; None for no scope, `...` for the current one.
        span_id: the span that it starts or ends.
        error: class of the exception that ended the span.
        start: a directory in the project; None for that of the scope.
    """

    __slots__ = ("error", "line_format", "recorder", "scope", "source", "span_id", "start")
    # Set by processors: `check_consent` and `pseudonymize`.
    recorder: Recorder
    line_format: LineFormat | None

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


# -- the processors ----------------------------------------------------------------------------


def check_consent(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Find the recorder of the event's project.

    Raises:
        Refused: recording is off there, the log or the key cannot be used, or the event happens
            in code of the host that the recorder itself calls.
    """
    if scopes.in_host.get():
        raise Refused("code of the host runs inside the recorder")
    metadata = event.get(METADATA)
    if type(metadata) is not EventMetadata:
        metadata = event[METADATA] = EventMetadata()
    scope = metadata.scope
    if scope is ...:
        scope = metadata.scope = scopes.innermost()
    start = metadata.start
    if start is None and scope is not None:
        start = scope.start
    metadata.recorder = recorder_for(start)
    return event


def validate(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Keep the fields that the catalog knows, where the value fits the field; count the others.

    Raises:
        Refused: the type of the event is unknown, or the user has not seen it in a notice.
    """
    name = event.get("event")
    if type(name) is not str:
        name = text(name)
    if name not in catalog.EVENTS:
        raise Refused("unknown event type")
    metadata: EventMetadata = event[METADATA]
    recorder = metadata.recorder
    if name in recorder.uncovered:
        raise Off("the accepted notice does not name this event")
    out: EventDict = {
        METADATA: metadata,
        **recorder.constants,
        "event_type": name,
        "source": metadata.source,
    }
    dropped = 0
    for key, value in event.items():
        if key in _NAMES and type(value) is str and 0 < len(value) <= _MAX_NAME_CHARS:
            out[key] = value  # what text() would return, for nearly all values
            continue
        if value is None or key in _NO_FIELDS:
            continue
        take = VALIDATORS.get(key)
        if key == "exit_code" and not name.startswith("command."):
            take = None
        taken = None if take is None else take(value)
        if taken is not None:
            out[key] = taken
            continue
        dropped += 1
        if recorder.dropped is not None:
            recorder.dropped.append((name, key))
        scope: Any = metadata.scope
        if key in _NAMES and scope is not None:
            # Nor is the name of the scope the one that was given.
            metadata.scope = scopes.Scope(None, scope, {key: None})
    context = event.get("context")
    if context is not None:
        out["context"], lost = context_of(context, recorder.context)
        dropped += lost
        if lost and recorder.dropped is not None:
            recorder.dropped += lost_keys(name, context, out["context"])
    if metadata.error is not None:
        out["error_type"] = error_name(metadata.error, recorder.settings.errors)
    if dropped:
        out["dropped"] = dropped
    return out


def add_metadata(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Add id, time and sequence number."""
    recorder = event[METADATA].recorder
    random = runtime.random
    event["event_id"] = _next_id() if random is os.urandom else random(8).hex()
    now = runtime.now()
    begin, end, timestamp = recorder.period
    event["timestamp"] = timestamp if begin <= now < end else recorder.timestamp(now)
    event["seq"] = next(recorder.sequence)
    return event


# Random ids made at once: asking the system for each costs a microsecond.
_ids: list[str] = []
_IDS = 64

if hasattr(os, "register_at_fork"):
    # A child with the same ids would record events under those of its parent.
    os.register_at_fork(after_in_child=_ids.clear)


def _next_id() -> str:
    try:
        return _ids.pop()
    except IndexError:
        digits = os.urandom(8 * _IDS).hex()
        found = [digits[at : at + 16] for at in range(0, 16 * _IDS, 16)]
        _ids.extend(found[1:])
        return found[0]


def add_context(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Add session, enclosing span and names of the scope; a name of the event itself wins."""
    metadata = event[METADATA]
    if metadata.span_id is not None:
        event["span_id"] = metadata.span_id
    scope = metadata.scope
    if scope is not None:
        for name, value in scope.names.items():
            if value is not None and name not in event:
                event[name] = value
        if scope.session_id is not None:
            event["session_id"] = scope.session_id
        span = scope.enclosing_span
        if span is not None:
            event["parent_id"] = span
    if metadata.recorder.environment_ids:
        for field, value in metadata.recorder.environment_ids.items():
            event.setdefault(field, value)
    return event


def pseudonymize(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Keep declared names, and replace every other name and identifier by a keyed pseudonym."""
    metadata: EventMetadata = event[METADATA]
    recorder = metadata.recorder
    found = line_format(tuple(event))
    for field in found.names:
        value, known = event[field], recorder.stored_names[field]
        event[field] = known[value] if value in known else stored_name(recorder, field, value)
    if "error_type" in event:
        error = event["error_type"]
        if error not in ERROR_NAMES and not recorder.allows("errors", error):
            event["error_type"] = "other"
    # After the names: one of them may be the first that needs an escape.
    metadata.line_format = found if recorder.needs_no_escape else None
    if recorder.uncovered or recorder.uncovered_tokens:
        metadata.line_format = None
        for field in list(event):
            tokens = recorder.uncovered_tokens.get(field, ())
            if field in recorder.uncovered or (tokens and event[field] in tokens):
                del event[field]
    if "context" in event:
        metadata.line_format = None
        context, pseudonym = {}, recorder.key.pseudonym
        for key, (kind, value) in event.pop("context").items():
            if not recorder.allows("context", key):
                continue
            if kind == catalog.IDENTIFIER:
                context[key] = pseudonym(f"context.{key}", value)
            elif type(value) is not str or recorder.allows(f"context.{key}", value):
                context[key] = value
        if context:
            event["context"] = context
    return event


def stored_name(recorder: Recorder, field: str, value: str) -> str:
    """A name as it is stored: the name itself if it is declared, else a pseudonym."""
    vocabulary = catalog.NAMES[field]
    declared = value in recorder.names[vocabulary] or value in decorated[vocabulary]
    if value in recorder.allowed[vocabulary] or (declared and recorder.allows(vocabulary, value)):
        found = value
    else:
        found = recorder.key.pseudonym(field, value)
        if recorder.undeclared is not None:
            recorder.undeclared.append((field, value))
            return found
    if len(recorder.stored_names[field]) < _MAX_STORED_NAMES:
        recorder.stored_names[field][value] = found
    return found


def write(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Write the event as one line of JSON; the result is the record, its fields in that order.

    Raises:
        Stale: the log was replaced and nothing was written; the driver starts again.
        Refused: the line cannot be written.
    """
    metadata: Any = event.pop(METADATA)
    known: LineFormat | None = metadata.line_format
    if known is not None:
        record = known.blank | event
        line = (known.template % tuple(record.values())).encode("ascii")
    else:
        record = line_format(tuple(event)).blank | event
        line = encode(record)
    if len(line) > catalog.MAX_LINE_BYTES:
        event["dropped"] = event.get("dropped", 0) + len(event.pop("context", ()))
        record = line_format(tuple(event)).blank | event
        line = encode(record)
    if not metadata.recorder.writer.append(line):
        raise Stale("the log was replaced")
    return record


PROCESSORS: tuple[Processor, ...] = (
    check_consent,
    validate,
    add_metadata,
    add_context,
    pseudonymize,
    write,
)


# -- the drivers -------------------------------------------------------------------------------


def drive(event: EventDict) -> EventDict:
    """Pass an event through the processors, once, without structlog."""
    for processor in PROCESSORS:
        event = processor(None, "info", event)
    return event


def run(event: EventDict, drive: Callable[[EventDict], EventDict] = drive) -> EventDict:
    """Pass an event through the processors, again while the log is being replaced.

    Args:
        event: `event` (the type), fields of the catalog, and perhaps an `EventMetadata`.
        drive: passes the event through all processors; without structlog by default.

    Returns:
        The record as it was written.

    Raises:
        Refused: the event was not recorded.
    """
    for _ in _RUNS:
        try:
            return drive(event)
        except Stale:
            # Sealed, cleared or replaced: consent, key and log are all read again.
            cache.invalidate()
    raise Refused("the log is replaced again and again")


def emit(event: EventDict, drive: Callable[[EventDict], EventDict] = drive) -> EventDict | None:
    """The same for a host: it raises nothing, and returns None when nothing was written.

    Raises:
        Exception: an internal error, while a test is running.
    """
    try:
        return run(event, drive)
    except Refused:
        return None
    except Exception as error:
        recorder = getattr(event.get(METADATA), "recorder", None)
        if type(recorder) is Recorder:
            save_error(recorder.cached.paths, error_name(type(error), frozenset()))
        swallow(error)
        return None
