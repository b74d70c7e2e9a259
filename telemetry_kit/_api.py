"""Functions that a program calls: record an event, hash a text, ask whether recording is on.

The pipeline is loaded only when there is an event to record.
"""

import os

from telemetry_kit._runtime import load, runtime

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, MutableMapping
    from typing import Any

    from telemetry_kit.privacy.hmac_sha256 import Mac

    EventDict = MutableMapping[str, Any]
    Path = str | os.PathLike[str]


def track_role_event(
    event: str,
    *,
    role: "str | None" = None,
    command: "str | None" = None,
    agent: "str | None" = None,
    workflow: "str | None" = None,
    source_agent: "str | None" = None,
    target_agent: "str | None" = None,
    context: "Mapping[str, object] | None" = None,
    project_root: "Path | None" = None,
) -> "dict[str, Any] | None":
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
    made: EventDict = {"event": event}
    if project_root is not None:
        try:
            made["_given"] = _given(project_root)
        except Exception:
            return None  # no such place, and what was given may be anything
    # One by one: most are not given, and each that is costs the steps a look.
    if role is not None:
        made["role"] = role
    if command is not None:
        made["command"] = command
    if agent is not None:
        made["agent"] = agent
    if workflow is not None:
        made["workflow"] = workflow
    if source_agent is not None:
        made["source_agent"] = source_agent
    if target_agent is not None:
        made["target_agent"] = target_agent
    if context is not None:
        made["context"] = context
    return _enter(made)


def _first(made: "EventDict") -> "dict[str, Any] | None":
    """Load the chain for the first event that is to be recorded, and drive it through."""
    global _enter
    given = made.get("_given")
    if not _is_open(None if given is None else given.start):
        return None
    pipeline = load("telemetry_kit.recording.pipeline")  # deferred: only where recording is on
    if pipeline is None:
        return None
    _enter = pipeline.enter
    return _enter(made)


# The chain's own door, once it is loaded: later events pay nothing for the look before.
_enter: "Callable[[EventDict], dict[str, Any] | None]" = _first


def _is_open(start: "str | None") -> bool:
    """Whether recording is on in a directory; None for the one of the scope around."""
    if runtime.is_off():
        return False
    # deferred: only where somebody may have said yes
    cache, scope = load("telemetry_kit.consent.cache"), load("telemetry_kit.context")
    if cache is None or scope is None:
        return False
    found: bool = cache.is_allowed(scope.place(None) if start is None else start)
    return found


def _given(project_root: "Path") -> "Any":
    """What the chain is told of an event for another directory.

    Raises:
        LookupError: recording is off there, or nothing can be loaded now.
    """
    scope = None if runtime.is_off() else load("telemetry_kit.context")  # deferred: as above
    if scope is None:
        raise LookupError("recording is off")
    start = scope.place(project_root)
    # deferred: only where recording is on
    pipeline = load("telemetry_kit.recording.pipeline") if _is_open(start) else None
    if pipeline is None:
        raise LookupError("recording is off there")
    return pipeline.Given(start=start)


def is_telemetry_enabled(project_root: "Path | None" = None) -> bool:
    """Whether an event from here would be recorded now: consent allows it, and it can be written.

    Args:
        project_root: a directory inside the project; the working directory by default.
    """
    try:
        # deferred: as above
        cache = None if runtime.is_off() else load("telemetry_kit.consent.cache")
        if cache is None:
            return False
        root = None if project_root is None else os.path.realpath(os.fsdecode(project_root))
        if not cache.is_allowed(root):
            return False
        checks = load("telemetry_kit.consent.obstacles")  # deferred: only where recording is on
        found: bool = checks is not None and checks.is_recording(root)
        return found
    except Exception:
        return False


def hash_pii(value: str, *, field: str, project_root: "Path | None" = None) -> str:
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
    field, value = str.__str__(field), str.__str__(value)
    try:
        key = _key(project_root)
        if key is not None:
            digits: str = key.digits(field, value)
            return digits
    except Exception:
        key = None
    return _ephemeral(field, value)


def _key(project_root: "Path | None") -> "Any":
    """The key in force, or None where recording is off.

    Raises:
        AttributeError: nothing can be loaded now.
    """
    if runtime.is_off():
        return None
    # deferred: only where somebody may have said yes
    cache, scope = load("telemetry_kit.consent.cache"), load("telemetry_kit.context")
    cached = cache.lookup(scope.place(project_root))
    if not cached.allowed:
        return None
    # deferred: where recording is on
    return load("telemetry_kit.recording.recorder").key_of(cached.paths)


_own_key: "list[Mac]" = []


def _ephemeral(field: str, value: str) -> str:
    """The hash under a key that nobody keeps: it can never be linked to anything stored."""
    if not _own_key:
        # deferred: most programs never hash by themselves
        mac = load("telemetry_kit.privacy.hmac_sha256")
        if mac is None:
            return os.urandom(6).hex()
        _own_key.append(mac.Mac(os.urandom(32)))
    return _own_key[0].code(field, value)


def child_environment() -> dict[str, str]:
    """Variables that tie the events of a child process to the session and span of this one.

    Their values carry a keyed code, by which the child knows that this library made them; an id
    that somebody else put there is stored as a pseudonym only.

    Returns:
        The variables to add to the child's environment; empty where nothing is recorded or no
        session or span is open.
    """
    if runtime.is_off():
        return {}
    # deferred: only where somebody may have said yes
    errors, scope = load("telemetry_kit.errors"), load("telemetry_kit.context")
    if errors is None or scope is None:
        return {}
    try:
        around = scope.innermost()
        recorder = None
        if around is not None and _is_open(around.start):
            # deferred: only where recording is on
            recorder = load("telemetry_kit.recording.recorder")
        found: dict[str, str] = {} if recorder is None else recorder.environment_of(around)
        return found
    except errors.Refused:
        return {}
    except Exception as error:
        errors.swallow(error)
        return {}
