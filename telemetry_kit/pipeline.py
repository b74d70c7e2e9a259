"""The chain: the steps an event goes through, in order, and the cold door that walks them.

The steps are structlog processors, `(logger, method_name, event_dict) -> event_dict`. They know
nothing of who calls them; a step that will not have an event raises `Refused`.

    gate          is recording on here? the journal is open and the key is loaded
    admit         keep what the catalog knows and what has the right shape; count the rest
    stamp         id, time, order
    bind          what the scope adds: session, spans, names
    pseudonymize  names outside the vocabulary, and identifiers, become keyed codes
    write         one canonical line
"""

from __future__ import annotations

import itertools
import os
import time

from telemetry_kit import catalog, consent, ledger, privacy, settings
from telemetry_kit import gate as gates
from telemetry_kit import scope as scopes
from telemetry_kit.errors import ConsentError, KeyUnavailableError, Off, Refused, swallow
from telemetry_kit.journal.lease import Journal
from telemetry_kit.latch import latch
from telemetry_kit.ledger import Ledger
from telemetry_kit.private import NotPrivateError, name_of

TYPE_CHECKING = False
if not TYPE_CHECKING:
    try:
        # The C half of json; its Python half would load re and enum.
        from _json import encode_basestring_ascii as _quote
        from _json import make_encoder as _make_encoder
    except ImportError:
        from json.encoder import c_make_encoder as _make_encoder
        from json.encoder import encode_basestring_ascii as _quote
else:
    from collections.abc import Callable, Mapping, MutableMapping
    from types import EllipsisType
    from typing import Any, Protocol

    class Sink(Protocol):
        """Where lines go: the journal, or memory."""

        def append(self, line: bytes) -> bool:
            """Write one line; False asks for a second look at consent and key first."""
            raise NotImplementedError

    from telemetry_kit.home import Home
    from telemetry_kit.scope import Scope

    def _quote(text: str) -> str:
        raise NotImplementedError

    def _make_encoder(*_: object) -> Callable[[object, int], tuple[str, ...]]:
        raise NotImplementedError

    EventDict = MutableMapping[str, Any]
    Record = dict[str, Any]
    Step = Callable[[Any, str, EventDict], EventDict]

MAX_CONTEXT_ITEMS = 64
_SECOND_LOOKS = 50
_sequence = itertools.count()
_chunks = _make_encoder(None, None, _quote, None, ":", ",", False, False, False)


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


class Standing:
    """What the events of one place have in common, worked out at most every 20 ms.

    Args:
        verdict: the gate's answer it rests on.
        journal: the open journal.
        key: the key in force.
    """

    __slots__ = (
        "clear",
        "context",
        "dropped",
        "instant",
        "journal",
        "key",
        "ledger",
        "names",
        "outside",
        "plain",
        "project_id",
        "resolution",
        "sequence",
        "settings",
        "unseen",
        "unseen_tokens",
        "verdict",
    )

    def __init__(
        self, verdict: gates.Verdict, journal: Sink, key: privacy.Key, names_ledger: Ledger
    ) -> None:
        self.ledger = names_ledger
        self.verdict = verdict
        self.journal = journal
        self.key = key
        self.take_over_settings()
        self.project_id = key.pseudonym("project_id", verdict.home.root)
        self.instant = (0.0, 0.0, "")
        self.sequence = _sequence
        self.dropped: list[tuple[str, str]] | None = None
        self.outside = _outside(self.settings.prefix, key)

    def refresh(self) -> None:
        """Take over names and settings that were declared since, for a standing that stays."""
        if self.verdict.settings_generation != settings.generation():
            self.verdict.settings_generation = settings.generation()
            self.take_over_settings()

    def take_over_settings(self) -> None:
        """Names, context and resolution: what is declared, as far as the user said yes to it."""
        self.settings = now = settings.current()
        self.names = {v: _vocabulary(v, self.verdict.home) for v in catalog.VOCABULARIES}
        self.clear = {("roles", role) for role in catalog.ROLES}
        self.context = now.context
        self.resolution = now.resolution
        # Whether no declared name needs an escape in JSON, so that a line can be made by format.
        declared = now.errors.union(*self.names.values())
        self.plain = all(_quote(name) == f'"{name}"' for name in declared)
        self.unseen: frozenset[str] = frozenset()
        self.unseen_tokens: dict[str, frozenset[str]] = {}
        accepted = self.verdict.decision.accepted
        if accepted is None:
            return
        self.resolution = accepted.resolution(now.resolution)
        self.context = accepted.covered(now.context)
        if accepted.notice < catalog.NOTICE_VERSION:
            known = catalog.covered_events(accepted.notice) | catalog.covered_fields(
                accepted.notice
            )
            self.unseen = frozenset(catalog.EVENTS) | frozenset(catalog.FIELDS)
            self.unseen -= known
            self.unseen_tokens = catalog.later_tokens(accepted.notice)

    def keeps(self, kind: str, name: str) -> bool:
        """Whether a declared name may stand in clear: it is in the ledger, or was put there."""
        if (kind, name) not in self.clear:
            try:
                self.ledger.note(kind, name)
            except (OSError, NotPrivateError):
                return False
            self.clear.add((kind, name))
        return True

    def timestamp(self, now: float) -> str:
        """`now` in UTC, cut to the configured resolution."""
        begin, end, text = self.instant
        if not begin <= now < end:
            step = catalog.RESOLUTIONS[self.resolution]
            begin = now // step * step
            text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begin))
            self.instant = (begin, begin + step, text)
        return text


_standings: dict[tuple[str, str], Standing] = {}
_journals: dict[tuple[str, str], Journal] = {}
# Standings of `capture_events()`, the innermost last: every event goes there while there is one.
captures: list[Standing] = []


def stand(start: str | None = None) -> Standing:
    """The standing of a directory: recording is on, the journal is open, the key is loaded.

    Raises:
        Refused: one of the three is not so.
    """
    if captures:
        captures[-1].refresh()
        return captures[-1]
    verdict = gates.verdict(start)
    if verdict.standing is not None:
        standing: Standing = verdict.standing
        return standing
    if not verdict.allowed:
        raise Off(verdict.decision.rule.says)
    home = verdict.home
    known = _standings.get((home.app, home.root))
    _key(home, known)
    journal = _journals.get((home.app, home.root))
    if journal is None:
        journal = _journals[home.app, home.root] = Journal(home, _asker(home))
    journal.open()
    # Once more, now that the log is open: a clear in between has deleted the key.
    key = _key(home, known)
    if known is not None and known.key is key:
        names_ledger = known.ledger
    else:
        names_ledger = Ledger(ledger.path_of(home, consent.place_of(home) or ""), _quote)
    found = _standings[home.app, home.root] = Standing(verdict, journal, key, names_ledger)
    verdict.standing = found
    return found


def _asker(home: Home) -> Callable[[], bool]:
    return lambda: consent.decide(home, latch.world.environ).allowed


def _key(home: Home, known: Standing | None) -> privacy.Key:
    try:
        place = consent.place_of(home)
        if place is None:
            raise Refused("there is no key")
        path = privacy.key_path(home, place)
        if not os.path.isdir(os.path.dirname(path)):
            # A yes for all projects meets this one for the first time.
            privacy.create(path, latch.world.now())
        key = privacy.renew_if_old(path, privacy.load(path), latch.world.now())
    except (ConsentError, KeyUnavailableError) as error:
        raise Refused(str(error)) from None
    except OSError as error:
        raise Refused(f"the key cannot be made ({name_of(error)})") from None
    # The one in use knows its pseudonyms already.
    return known.key if known is not None and known.key.equals(key) else key


def _vocabulary(name: str, home: Home) -> frozenset[str]:
    more: list[str] = []
    for path in (home.repository_files[0][0], home.user_file):
        listed = (settings.read_toml(path) or {}).get(name)
        if isinstance(listed, list):
            more += [n for n in listed if settings.storable(n) is None]
    return settings.vocabulary(name, more)


# -- the steps -------------------------------------------------------------------------------


def gate(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Let an event in only where recording is on."""
    given = event.get("_given")
    if type(given) is not Given:
        given = event["_given"] = Given()
    event["_at"] = stand(given.start)
    return event


def admit(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Take over what the catalog knows, each value of the shape its class demands."""
    name = text(event.get("event"))
    if name not in catalog.EVENTS:
        raise Refused("unknown event type")
    at: Standing = event["_at"]
    if name in at.unseen:
        raise Off("the notice that was accepted does not name this event")
    given: Given = event["_given"]
    out: EventDict = {"_at": at, "_given": given, "event_type": name, "source": given.source}
    dropped = 0
    for key, value in event.items():
        if value is None:
            continue
        take = _TAKE.get(key)
        if take is None and key in _OWN_KEYS:
            continue
        taken = take(value) if take is not None else None
        if taken is None:
            dropped += 1
            if at.dropped is not None:
                at.dropped.append((name, key))
        else:
            out[key] = taken
    context = event.get("context")
    if context is not None:
        out["context"], lost = _context(context, at.context)
        dropped += lost
        if lost and at.dropped is not None:
            at.dropped += _lost_keys(name, context, out["context"])
    if given.error is not None:
        out["error_type"] = error_name(given.error, at.settings.errors)
    if dropped:
        out["dropped"] = dropped
    return out


def stamp(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Give the event its id, its time and its place in the order."""
    event["schema_version"] = catalog.SCHEMA_VERSION
    at: Standing = event["_at"]
    event["event_id"] = latch.world.random(8).hex()
    now = latch.world.now()
    begin, end, day = at.instant
    event["timestamp"] = day if begin <= now < end else at.timestamp(now)
    event["seq"] = next(at.sequence)
    return event


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
    """Make the record: keys in schema order, names kept when declared, else a keyed code."""
    at: Standing = event["_at"]
    key, names, clear = at.key, at.names, at.clear
    event["project_id"] = at.project_id
    event["key_epoch"] = key.epoch
    record: Record = {}
    shape = tuple(event)
    layout = _layouts.get(shape) or _layout(shape)
    for field, vocabulary in layout.fields:
        value = event[field]
        if (
            vocabulary is not None
            and (vocabulary, value) not in clear
            and not (value in names[vocabulary] and at.keeps(vocabulary, value))
        ):
            value = key.pseudonym(field, value)
        record[field] = value
    event["_template"] = layout.template if at.plain else None
    if at.unseen or at.unseen_tokens:
        event["_template"] = None
        _leave_out_unseen(record, at)
    if "context" in record:
        record["context"] = {
            k: key.pseudonym(f"context.{k}", v) if kind == catalog.IDENTIFIER else v
            for k, (kind, v) in record["context"].items()
            if at.keeps("context", k) and (type(v) is not str or _keeps_token(at, k, kind, v))
        }
        if not record["context"]:
            del record["context"]
    error = record.get("error_type")
    if error is not None and error not in _ERROR_NAMES and not at.keeps("errors", error):
        record["error_type"] = "other"
    event["_record"] = record
    return event


def _keeps_token(at: Standing, key: str, kind: object, value: str) -> bool:
    return kind == catalog.IDENTIFIER or at.keeps(f"context.{key}", value)


def _leave_out_unseen(record: Record, at: Standing) -> None:
    """Take out what the accepted notice did not name."""
    for field in list(record):
        tokens = at.unseen_tokens.get(field)
        if field in at.unseen or (tokens is not None and record[field] in tokens):
            del record[field]


def write(_logger: Any, _method: str, event: EventDict) -> Record:
    """Put the record on file as one line, and hand it back as it was written."""
    for _ in range(_SECOND_LOOKS):
        record: Record = event["_record"]
        template: str | None = event["_template"]
        if template is not None:
            line = (template % tuple(record.values())).encode("ascii")
        else:
            line = encode(record)
        if len(line) > catalog.MAX_LINE_BYTES:
            record["dropped"] = record.get("dropped", 0) + len(record.pop("context", ()))
            line = encode({f: record[f] for f in catalog.ORDER if f in record})
        at: Standing = event["_at"]
        if at.journal.append(line):
            return record
        # Sealed, cleared or replaced: ask consent and key again before the next try.
        gates.forget()
        event["_at"] = stand(event["_given"].start)
        pseudonymize(None, "", event)
    raise Refused("the log is being replaced all the time")


STEPS: tuple[Step, ...] = (gate, admit, stamp, bind, pseudonymize, write)


# -- the cold door ---------------------------------------------------------------------------


def walk(event: EventDict) -> Record:
    """Drive one event through the steps without structlog.

    Args:
        event: `event` (the type), fields of the catalog, and `_given`.

    Returns:
        The record as it was written.

    Raises:
        Refused: the event was not recorded.
    """
    for step in STEPS[:-1]:
        event = step(None, "info", event)
    return write(None, "info", event)


def emit(name: object, fields: Mapping[str, object], given: Given | None = None) -> Record | None:
    """The same for callers inside the host: never raises, and says None when nothing was written.

    Raises:
        Exception: an internal error, when a test is running.
    """
    return enter({**fields, "event": name, "_given": given})


def enter(event: EventDict) -> Record | None:
    """`emit()` for callers who made the event themselves, with `event` and `_given` in it."""
    try:
        return walk(event)
    except Refused:
        return None
    except Exception as error:
        swallow(error)
        return None


def track_role_event(
    event: str,
    *,
    role: str | None = None,
    command: str | None = None,
    agent: str | None = None,
    workflow: str | None = None,
    source_agent: str | None = None,
    target_agent: str | None = None,
    context: Mapping[str, object] | None = None,
    project_root: str | os.PathLike[str] | None = None,
) -> Record | None:
    """Record one event now.

    Names outside the declared vocabulary are stored as pseudonyms; context keys that were not
    declared are dropped and counted. Nothing is raised, whatever is given.

    Args:
        event: a `RoleEvent` or its string value.
        role: who is acting.
        command: the command that runs.
        agent: the agent at work.
        workflow: the workflow it belongs to.
        source_agent: who hands off.
        target_agent: who takes over.
        context: values for keys declared with `configure(context=...)`.
        project_root: a directory inside the project; the working directory by default.

    Returns:
        The record as it was written, or None when nothing was written.
    """
    start = None if project_root is None else _directory(project_root)
    return enter(
        {
            "role": role,
            "command": command,
            "agent": agent,
            "workflow": workflow,
            "source_agent": source_agent,
            "target_agent": target_agent,
            "context": context,
            "event": event,
            "_given": Given("api", ..., None, None, start),
        }
    )


def hash_pii(value: str, *, field: str, project_root: str | os.PathLike[str] | None = None) -> str:
    """The keyed hash of a value, as it would stand in a stored event behind `h:`.

    Where there is no key, or recording is off, the hash is made with a random key that only this
    process has: it is never unkeyed, and matches nothing that is stored.

    Args:
        value: the text.
        field: the field it would be stored in, so that equal texts in two fields differ.
        project_root: a directory inside the project; the working directory by default.

    Returns:
        12 lower-case hex digits.

    Raises:
        TypeError: value or field is no string.
    """
    if not isinstance(value, str) or not isinstance(field, str):
        raise TypeError("hash_pii() takes two strings: the value, and the field it belongs to")
    try:
        verdict = gates.require(_directory(project_root))
        key = _key(verdict.home, _standings.get((verdict.home.app, verdict.home.root)))
    except Refused:
        key = _ephemeral()
    return key.digits(str.__str__(field), str.__str__(value))


_own_key: list[privacy.Key] = []


def _ephemeral() -> privacy.Key:
    if not _own_key:
        _own_key.append(privacy.ephemeral())
    return _own_key[0]


def child_environment() -> dict[str, str]:
    """Variables that tie the events of a child process to the session and span of this one.

    Their values carry a keyed code, by which the child knows that this library made them; an id
    that somebody else put there is stored as a pseudonym only.

    Returns:
        The variables to add to the child's environment; empty where nothing is recorded or no
        session or span is open.
    """
    scope = scopes.innermost()
    if scope is None:
        return {}
    try:
        at = stand(scope.start)
    except Refused:
        return {}
    ids = {"session_id": scope.session_id, "parent_id": scope.enclosing_span}
    return {
        _OUTSIDE[field].format(at.settings.prefix): f"{value}-{at.key.digits(field, value)}"
        for field, value in ids.items()
        if value is not None
    }


_OUTSIDE = {"session_id": "{}_TELEMETRY_SESSION_ID", "parent_id": "{}_TELEMETRY_PARENT_ID"}


def is_outside(field: str) -> bool:
    """Whether the environment carries this id (`session_id` or `parent_id`)."""
    variable = _OUTSIDE[field].format(settings.current().prefix)
    return bool(latch.world.environ.get(variable))


def _outside(prefix: str, key: privacy.Key) -> dict[str, str]:
    """Session and parent that the environment carries, fit to be stored."""
    found: dict[str, str] = {}
    for field, variable in _OUTSIDE.items():
        given = text(latch.world.environ.get(variable.format(prefix)))
        if given is not None:
            value, _, code = given.partition("-")
            ours = len(value) == 12 and code == key.digits(field, value)
            found[field] = value if ours else key.pseudonym(field, given)
    return found


def _directory(path: str | os.PathLike[str] | None) -> str | None:
    try:
        return None if path is None else os.path.realpath(os.fsdecode(path))
    except (OSError, ValueError, TypeError):
        return "\0"  # no such place, which the gate will say


# -- values ----------------------------------------------------------------------------------


def encode(record: Mapping[str, object]) -> bytes:
    """A record as one canonical line: ASCII JSON, no spaces, a newline last."""
    return ("".join(_chunks(record, 0)) + "\n").encode("ascii")


class _Layout:
    """The fields that an event of one shape has, in the order of the line.

    Args:
        fields: each with its vocabulary, or None where the value stays as it is.
        template: the line for values that need no escape; None where it has a context.
    """

    __slots__ = ("fields", "template")

    def __init__(self, fields: tuple[tuple[str, str | None], ...]) -> None:
        self.fields = fields
        names = [field for field, _ in fields]
        measures = {f for f in names if catalog.FIELDS[f].kind == catalog.MEASURE}
        parts = [f'"{f}":%s' if f in measures else f'"{f}":"%s"' for f in names]
        self.template = None if "context" in names else "{" + ",".join(parts) + "}\n"


def _layout(shape: tuple[str, ...]) -> _Layout:
    if len(_layouts) >= _MAX_SHAPES:
        _layouts.clear()
    fields = tuple((f, catalog.NAMES.get(f)) for f in catalog.ORDER if f in shape)
    found = _layouts[shape] = _Layout(fields)
    return found


def text(value: object) -> str | None:
    """A string of 1 to 1,024 characters, freed of any subclass; None for anything else."""
    if type(value) is not str:
        if not isinstance(value, str):
            return None
        value = str.__str__(value)
    return value if 0 < len(value) <= catalog.MAX_NAME_CHARS else None


def measure(value: object) -> int | float | None:
    """A bounded number with three significant digits; None for anything else."""
    if type(value) is int:
        if abs(value) >= catalog.MAX_MEASURE:
            return None
        # Three digits tell how much; ten tell a telephone number.
        step: int = 10 ** max(0, len(str(abs(value))) - 3)
        return round(value / step) * step
    if type(value) is float and abs(value) < catalog.MAX_MEASURE:  # false for nan
        return float(f"{value:.3g}")
    return None


def power_of_two(milliseconds: object) -> int | None:
    """A duration rounded up to a power of two, at least 1; None for anything else."""
    if type(milliseconds) is float and 0 <= milliseconds < catalog.MAX_MEASURE:
        milliseconds = int(-(-milliseconds // 1))
    if type(milliseconds) is not int or not 0 <= milliseconds < catalog.MAX_MEASURE:
        return None
    return 1 << max(milliseconds - 1, 0).bit_length()


def error_name(kind: type[BaseException], declared: frozenset[str]) -> str:
    """The storable name of an exception class."""
    builtin = catalog.BUILTIN_ERRORS.get(kind)
    if builtin is not None:
        return builtin
    name = text(type.__dict__["__name__"].__get__(kind))
    return name if name is not None and name in declared else "other"


def _outcome(value: object) -> str | None:
    found = text(value)
    return found if found in catalog.OUTCOMES else None


def _exit_code(value: object) -> int | None:
    return value if type(value) is int and -(2**31) <= value < 2**31 else None


_TAKE: dict[str, Callable[[object], object]] = {
    **dict.fromkeys(catalog.NAMES, text),
    "outcome": _outcome,
    "exit_code": _exit_code,
    "duration_ms": power_of_two,
}
_ERROR_NAMES = frozenset(catalog.BUILTIN_ERRORS.values()) | {"other"}
_layouts: dict[tuple[str, ...], _Layout] = {}
_MAX_SHAPES = 256
_OWN_KEYS = frozenset({"event", "context", "_at", "_given"})


def _context(
    given: object, declared: Mapping[str, str | frozenset[str]]
) -> tuple[dict[str, tuple[object, object]], int]:
    """Declared keys with (class, value), and how many were dropped."""
    if not isinstance(given, dict):
        return {}, 1
    kept: dict[str, tuple[object, object]] = {}
    # dict's own methods: a subclass may have made theirs do anything.
    for key, value in itertools.islice(dict.items(given), MAX_CONTEXT_ITEMS):
        name = text(key)
        kind = declared.get(name) if name is not None else None
        taken = None if kind is None else _context_value(kind, value)
        if taken is not None and name is not None:
            kept[name] = (kind, taken)
    return dict(sorted(kept.items())), dict.__len__(given) - len(kept)


def _lost_keys(name: str, given: object, kept: Mapping[str, object]) -> list[tuple[str, str]]:
    if not isinstance(given, dict):
        return [(name, "context")]
    keys: list[str | None] = [text(key) for key in dict.keys(given)]
    return [(name, f"context.{key or '?'}") for key in keys if key not in kept]


def _context_value(kind: str | frozenset[str], value: object) -> object:
    if kind == catalog.MEASURE:
        return measure(value)
    if kind == "flag":
        return value if type(value) is bool else None
    if kind == catalog.IDENTIFIER:
        if type(value) is int and value.bit_length() <= 64:
            return str(value)
        return text(value)
    found = text(value)
    return found if found is not None and found in kind else None
