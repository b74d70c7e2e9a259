"""Functions that a program calls: record an event, hash a text, ask whether recording is on.

The modules that record are loaded only where recording is on.
"""

import os

from telemetry_kit._runtime import SUPPORTED, load, runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import date
    from typing import Any

    from telemetry_kit.privacy.hmac_sha256 import Mac

    Path = str | os.PathLike[str]

# The key of hashes that match nothing, once it is made.
_own_key: "list[Mac]" = []


def track_role_event(
    event: str,
    *,
    role: "str | None" = None,
    command: "str | None" = None,
    agent: "str | None" = None,
    workflow: "str | None" = None,
    source_agent: "str | None" = None,
    target_agent: "str | None" = None,
    previous_role: "str | None" = None,
    context: "Mapping[str, object] | None" = None,
    project_root: "Path | None" = None,
) -> "dict[str, Any] | None":
    """Record one event now.

    Names that were not declared are stored as pseudonyms. Context keys that were not declared are
    dropped and counted. It raises nothing, for any value.

    Args:
        event: a `RoleEvent` or its string value.
        role: the acting role.
        command: the command that runs.
        agent: the agent at work.
        workflow: the workflow that the event belongs to.
        source_agent: the agent that hands off.
        target_agent: the agent that takes over.
        previous_role: the role before a change.
        context: values for keys declared with `configure(context=...)`.
        project_root: a directory inside the project; the working directory by default.

    Returns:
        The record as it was written, or None when nothing was written.

    Example:
        >>> from telemetry_kit import RoleEvent, capture_events, track_role_event
        >>> with capture_events():
        ...     record = track_role_event(RoleEvent.ROLE_SELECTED, role="dev")
        >>> record["event_type"], record["role"]
        ('role.selected', 'dev')
    """
    fields: dict[str, Any] = {"event": event}
    pipeline = runtime.pipeline
    if pipeline is None or project_root is not None:
        if runtime.is_off():
            return None
        try:
            pipeline, fields["_metadata"] = load_pipeline(project_root)
        except Exception:
            return None  # recording is off there, or it is no directory
    # One by one: most are not given, and the processors look at each one that is.
    if role is not None:
        fields["role"] = role
    if command is not None:
        fields["command"] = command
    if agent is not None:
        fields["agent"] = agent
    if workflow is not None:
        fields["workflow"] = workflow
    if source_agent is not None:
        fields["source_agent"] = source_agent
    if target_agent is not None:
        fields["target_agent"] = target_agent
    if previous_role is not None:
        fields["previous_role"] = previous_role
    if context is not None:
        fields["context"] = context
    record: dict[str, Any] | None = pipeline.emit(fields)
    return record


def load_pipeline(project_root: "Path | None") -> "tuple[Any, Any]":
    """The pipeline where recording is on in a directory, and the metadata of an event there.

    Raises:
        LookupError: recording is off there.
        AttributeError: a module cannot be loaded now.
        TypeError, ValueError, OSError: it is no directory.
    """
    cache, scopes = load_consent()
    start = scopes.place(project_root)
    if not cache.is_allowed(start):
        raise LookupError("recording is off")
    if runtime.pipeline is None:
        # deferred: only where recording is on
        runtime.pipeline = load("telemetry_kit.recording.pipeline")
    return runtime.pipeline, runtime.pipeline.EventMetadata(start=start)


def load_consent() -> "tuple[Any, Any]":
    """The modules that know whether and where recording is on; None for one not loaded now."""
    # deferred: only where the user may have granted consent
    return load("telemetry_kit.consent.cache"), load("telemetry_kit.context")


def load_recorder() -> "Any":
    """The module with the keys and ids of a project; None when it cannot be loaded now."""
    return load("telemetry_kit.recording.recorder")  # deferred: only where recording is on


def is_telemetry_enabled(project_root: "Path | None" = None) -> bool:
    """Whether an event from here would be recorded now: consent allows it, and it can be written.

    Args:
        project_root: a directory inside the project; the working directory by default.

    Example:
        >>> from telemetry_kit import capture_events, is_telemetry_enabled
        >>> is_telemetry_enabled()
        False
        >>> with capture_events():
        ...     is_telemetry_enabled()
        True
    """
    if runtime.is_off():
        return False
    try:
        cache, _ = load_consent()
        root = None if project_root is None else os.path.realpath(os.fsdecode(project_root))
        if not cache.is_allowed(root):
            return False
        obstacles = load("telemetry_kit.consent.obstacles")  # deferred: only where recording is on
        found: bool = obstacles.is_recording(root)
        return found
    except Exception:
        return False


def hash_pii(value: str, *, field: str, project_root: "Path | None" = None) -> str:
    """The keyed hash of a value, as a stored event has it behind `h:`.

    Without a key, or where recording is off, the hash is made with a random key of this process.
    It is never unkeyed, and then matches no stored hash.

    Args:
        value: the text.
        field: the field it would be stored in, so that equal texts in two fields differ.
        project_root: a directory inside the project; the working directory by default.

    Returns:
        12 lower-case hex digits.

    Raises:
        TypeError: value or field is no string.

    Example:
        >>> from telemetry_kit import hash_pii
        >>> digits = hash_pii("jane@example.org", field="agent")
        >>> len(digits), digits == hash_pii("jane@example.org", field="agent")
        (12, True)
    """
    if not isinstance(value, str) or not isinstance(field, str):
        raise TypeError("hash_pii() takes two strings: the value, and the field it belongs to")
    field, value = str.__str__(field), str.__str__(value)
    if not runtime.is_off():
        try:
            cache, scopes = load_consent()
            cached = cache.lookup(scopes.place(project_root))
            if cached.allowed:
                key = load_recorder().current_key(cached.paths)
                digits: str = key.digits(field, value)
                return digits
        except Exception:
            pass  # there is no key: the random one of this process follows
    if not _own_key:
        # deferred: most programs never hash a text themselves
        mac = load("telemetry_kit.privacy.hmac_sha256")
        if mac is None:
            return os.urandom(6).hex()
        _own_key.append(mac.Mac(os.urandom(32)))
    return _own_key[0].code(field, value)


def child_environment() -> dict[str, str]:
    """Variables that tie the events of a child process to the session and span of this one.

    Their values carry a keyed signature, by which the child recognises the ids of this library.
    An id from another source is stored as a pseudonym only.

    Returns:
        The variables to add to the child's environment; empty where nothing is recorded or no
        session or span is open.

    Example:
        >>> import os
        >>> from telemetry_kit import capture_events, child_environment, configure, role_session
        >>> with configure(app="acme"), capture_events(), role_session("dev"):
        ...     env = {**os.environ, **child_environment()}
        >>> "ACME_TELEMETRY_SESSION_ID" in env
        True
    """
    if runtime.is_off():
        return {}
    try:
        cache, scopes = load_consent()
        scope = scopes.innermost()
        if scope is None or not cache.is_allowed(scope.start):
            return {}
    except Exception:
        return {}  # a module cannot be loaded now
    recorder = load_recorder()
    found: dict[str, str] = {} if recorder is None else recorder.child_environment(scope)
    return found


def read_events(
    project_root: "Path | None" = None,
    *,
    since: "str | date | None" = None,
    until: "str | date | None" = None,
    role: "str | None" = None,
    event: "str | None" = None,
) -> "Iterator[dict[str, Any]]":
    """Read the recorded events of a project, the newest last.

    It reads as the commands do: each event once, whatever the state of the files. It also works
    while recording is off, creates no file, and yields nothing where there are no events. The files
    are read as the events are asked for.

    Args:
        project_root: a directory inside the project; the working directory by default.
        since: the first day in UTC: `"2026-11-23"`, `"today"`, `"yesterday"`, `"7d"`, `"2w"` or
            `"3m"`, a time in ISO 8601, a `date` or a `datetime`. A time is cut to its day.
        until: the last day in UTC, in the same forms.
        role: only events of this role, in plain text or under its current pseudonym.
        event: only events of this type, a `RoleEvent` or its string value.

    Returns:
        An iterator of dictionaries, with the fields of `TELEMETRY.md` in their order. At its end it
        warns of each file that could not be read completely.

    Raises:
        ValueError: an argument is invalid, or `configure(app=...)` is missing.

    Example:
        >>> from telemetry_kit import configure, read_events
        >>> with configure(app="acme"):
        ...     for event in read_events(since="7d", role="dev"):
        ...         print(event["timestamp"][:10], event["event_type"])
    """
    if not SUPPORTED:
        return iter(())
    # deferred: it reads, and a program that only records needs none of it
    from telemetry_kit.insights import reading

    return reading.events(*reading.resolve(project_root, since, until, role, event))
