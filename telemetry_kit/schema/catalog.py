"""The catalog: each event and each field, with its class and its purpose.

Validation, the order of keys in a line, and the documents for the user (notice, data dictionary,
JSON Schema) all come from these two tables.
"""

from __future__ import annotations

import builtins

from telemetry_kit import settings
from telemetry_kit.errors import UnknownEventError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

SCHEMA_VERSION = "1.0"
# The beginning of each line, by which the reader finds events inside a damaged line.
LINE_PREFIX = f'{{"schema_version":"{SCHEMA_VERSION}","event_id":"'
NOTICE_VERSION = 1

# The classes of fields. The class alone decides what is done with a value.
CONSTANT = "constant"
RANDOM = "random"
TOKEN = "token"
TIME = "time"
MEASURE = settings.MEASURE
IDENTIFIER = settings.IDENTIFIER
CONTEXT_CLASSES = settings.CONTEXT_CLASSES
ROLES = settings.ROLES
RESOLUTIONS = settings.RESOLUTIONS
VOCABULARIES = settings.VOCABULARIES
MAX_DECLARED_BYTES = settings.MAX_DECLARED_BYTES
PSEUDONYM_PREFIX = settings.PSEUDONYM_PREFIX
NAME = "name"
VERSION = "version"
MAPPING = "mapping"

OUTCOMES = ("ok", "error", "cancelled", "closed")
SOURCES = (
    *("api", "decorator", "session", "logger", "cli", "hook", "otel", "openai-agents", "click"),
    *("argparse", "import"),
)
# The failures that coding agents report by a word.
FAILURES = (
    *("authentication_failed", "billing_error", "invalid_request", "max_output_tokens"),
    *("model_not_found", "oauth_org_not_allowed", "overloaded", "rate_limit", "server_error"),
)
INVOKERS = ("person", "claude-code", "codex", "copilot", "cursor", "gemini", "other-agent")

MAX_LINE_BYTES = 4_096
MAX_NAME_CHARS = 1_024
MAX_MEASURE = 10**12


class Event:
    """One row of the event table.

    Args:
        name: the value stored in `event_type`.
        question: the question that this event answers for the user.
        completed: the event that follows if the operation succeeds, or None.
        failed: the event that follows if the operation fails, or None.
        owner: the people who are responsible for its collection.
        since: version of the notice that first named it.
    """

    __slots__ = ("completed", "failed", "name", "owner", "question", "since")

    def __init__(
        self,
        name: str,
        question: str,
        completed: str | None = None,
        failed: str | None = None,
        owner: str = "maintainers",
        since: int = 1,
    ) -> None:
        self.name = name
        self.question = question
        self.completed = completed
        self.failed = failed
        self.owner = owner
        self.since = since


class Field:
    """One row of the field table.

    Args:
        name: the key in the stored line.
        kind: its class.
        meaning: one line for the data dictionary.
        domain: the tokens, the lowest and the highest measure, the number of random bits, or the
            vocabulary of a name.
        given: whether a caller may set it. The pipeline sets the other fields.
        since: version of the notice that first named it.
        later: tokens that a later notice than `since` first named, each with its version.
    """

    __slots__ = ("domain", "given", "kind", "later", "meaning", "name", "since")

    def __init__(
        self,
        name: str,
        kind: str,
        meaning: str,
        domain: Any = None,
        given: bool = False,
        since: int = 1,
        later: Mapping[str, int] | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.meaning = meaning
        self.domain = domain
        self.given = given
        self.since = since
        self.later = later or {}


_EVENTS = (
    Event("role.selected", "Which roles are selected most?"),
    Event("role.changed", "How often do people change roles within a session?"),
    Event(
        "agent.invoked",
        "Which agents work for which role?",
        completed="agent.completed",
        failed="agent.failed",
    ),
    Event(
        "agent.started",
        "Which agents work for which role?",
        completed="agent.completed",
        failed="agent.failed",
    ),
    Event("agent.completed", "Which agents finish, and how long do they take?"),
    Event("agent.failed", "Which agents fail, and with what kind of error?"),
    Event(
        "handoff.clicked",
        "Are hand-offs followed or ignored?",
        completed="handoff.completed",
    ),
    Event("handoff.completed", "Which followed hand-offs reach the next agent?"),
    Event(
        "command.executed",
        "Which commands does each role use?",
        completed="command.completed",
        failed="command.failed",
    ),
    Event("command.completed", "Which commands finish, and how long do they take?"),
    Event("command.failed", "Which commands fail, and with what kind of error?"),
    Event(
        "workflow.started",
        "Which workflows are started?",
        completed="workflow.completed",
        failed="workflow.failed",
    ),
    Event("workflow.completed", "Which workflows are completed?"),
    Event("workflow.failed", "Which workflows fail?"),
)

_FIELDS = (
    Field("schema_version", CONSTANT, "version of this table", SCHEMA_VERSION),
    Field("event_id", RANDOM, "distinguishes events; contains no time", 64),
    Field("event_type", TOKEN, "what happened", tuple(e.name for e in _EVENTS)),
    Field("timestamp", TIME, "UTC, cut to the configured resolution (default: the day)"),
    Field("seq", MEASURE, "order within one process", (0, 2**53)),
    Field("role", NAME, "the acting role", "roles", given=True),
    Field("command", NAME, "the running command", "commands", given=True),
    Field("agent", NAME, "the agent at work", "agents", given=True),
    Field("workflow", NAME, "the workflow it belongs to", "workflows", given=True),
    Field("source_agent", NAME, "the agent that hands off", "agents", given=True),
    Field("target_agent", NAME, "the agent that takes over", "agents", given=True),
    Field("previous_role", NAME, "the role before a change", "roles", given=True),
    Field("project_id", IDENTIFIER, "pseudonym of the project root's real path"),
    Field("session_id", RANDOM, "links the events of one session", 48),
    Field("span_id", RANDOM, "links the start and the end of one span", 48),
    Field("parent_id", RANDOM, "the enclosing span", 48),
    Field("outcome", TOKEN, "how it ended", OUTCOMES, given=True),
    Field(
        "error_type", TOKEN, "class of the exception, or the failure of a coding agent", FAILURES
    ),
    Field("exit_code", MEASURE, "exit code of a command", (-(2**31), 2**31 - 1), given=True),
    Field("duration_ms", MEASURE, "rounded up to two significant digits", (1, 2**53), given=True),
    Field("source", TOKEN, "the interface that recorded the event", SOURCES),
    Field("invoker", TOKEN, "a person, or the coding agent that ran the program", INVOKERS),
    Field("app_version", VERSION, "the version of the program, as it declared it"),
    Field("key_epoch", MEASURE, "number of the key that made the pseudonyms", (1, 2**53)),
    Field("dropped", MEASURE, "number of values that were left out", (1, 2**53)),
    Field("context", MAPPING, "declared keys, each of a declared class", given=True),
)

EVENTS: dict[str, Event] = {e.name: e for e in _EVENTS}
FIELDS: dict[str, Field] = {f.name: f for f in _FIELDS}
ORDER: tuple[str, ...] = tuple(FIELDS)
NAMES: dict[str, str] = {f.name: str(f.domain) for f in _FIELDS if f.kind == NAME}

# By the identity of the class, so that looking one up runs no code of the host. A host may have
# added classes of its own to `builtins`.
BUILTIN_ERRORS: dict[int, str] = {
    id(value): value.__name__
    for name, value in vars(builtins).items()
    if isinstance(value, type)
    and issubclass(value, BaseException)
    and value.__module__ == "builtins"
    and value.__name__ == name
    and name.isascii()
    and name.isidentifier()
}


def covered_events(notice: int) -> frozenset[str]:
    """Return the event types that a version of the notice named."""
    return frozenset(e.name for e in _EVENTS if e.since <= notice)


def covered_fields(notice: int) -> frozenset[str]:
    """Return the fields that a version of the notice named."""
    return frozenset(f.name for f in _FIELDS if f.since <= notice)


def later_tokens(notice: int) -> dict[str, frozenset[str]]:
    """Return the tokens that a version of the notice did not name, by field."""
    return {
        f.name: frozenset(t for t, since in f.later.items() if since > notice)
        for f in _FIELDS
        if any(since > notice for since in f.later.values())
    }


def event(name: str) -> Event:
    """Return the row of an event type.

    Args:
        name: a `RoleEvent` or its string value.

    Raises:
        UnknownEventError: no such event; the message suggests the closest ones.
    """
    row = EVENTS.get(name) if isinstance(name, str) else None
    if row is None:
        text = name if isinstance(name, str) else type(name).__name__
        raise UnknownEventError(text, nearest(text, EVENTS))
    return row


def nearest(name: str, names: object) -> tuple[str, ...]:
    """Return one to three of `names` that are most similar to `name`, best first."""
    import difflib  # deferred: 10 ms, and only needed for an unknown name

    pool = list(names)  # type: ignore[call-overload]
    found = difflib.get_close_matches(name[:100].lower(), pool, n=3, cutoff=0.5)
    return tuple(found or difflib.get_close_matches(name[:100], pool, n=3, cutoff=0.0))
