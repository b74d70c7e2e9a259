"""The public API of telemetry_kit: show the users of a command-line tool how they use it.

Each name is imported from its module when it is first used, so that a short command pays only for
what it needs (PEP 562).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from telemetry_kit._api import (
        child_environment,
        hash_pii,
        is_telemetry_enabled,
        read_events,
        track_role_event,
    )
    from telemetry_kit._version import __version__
    from telemetry_kit.consent.changes import disable_telemetry, enable_telemetry
    from telemetry_kit.consent.prompt import ask_consent
    from telemetry_kit.context import current, propagate
    from telemetry_kit.events import RoleEvent
    from telemetry_kit.instrumentation.proxies import instrument
    from telemetry_kit.instrumentation.sessions import role_session
    from telemetry_kit.instrumentation.tracks import tracks
    from telemetry_kit.recording.logger import get_logger
    from telemetry_kit.settings import configure
    from telemetry_kit.testing import capture_events

__all__ = [
    "RoleEvent",
    "__version__",
    "ask_consent",
    "capture_events",
    "child_environment",
    "configure",
    "current",
    "disable_telemetry",
    "enable_telemetry",
    "get_logger",
    "hash_pii",
    "instrument",
    "is_telemetry_enabled",
    "propagate",
    "read_events",
    "role_session",
    "track_role_event",
    "tracks",
]

_MODULES = {
    "RoleEvent": "events",
    "__version__": "_version",
    "ask_consent": "consent.prompt",
    "capture_events": "testing",
    "child_environment": "_api",
    "configure": "settings",
    "current": "context",
    "disable_telemetry": "consent.changes",
    "enable_telemetry": "consent.changes",
    "get_logger": "recording.logger",
    "hash_pii": "_api",
    "instrument": "instrumentation.proxies",
    "is_telemetry_enabled": "_api",
    "propagate": "context",
    "read_events": "_api",
    "role_session": "instrumentation.sessions",
    "track_role_event": "_api",
    "tracks": "instrumentation.tracks",
}


def __getattr__(name: str) -> object:
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        # What importlib.import_module does, without its import.
        loaded = __import__(f"{__name__}.{module}", fromlist=[name])
    except (OSError, ImportError, MemoryError) as error:
        missing = type(error) is ModuleNotFoundError and not str(error.name).startswith(__name__)
        if missing or name in _MUST_LOAD:
            raise
        return "0+unknown" if name == "__version__" else _Absent(name)
    value: object = getattr(loaded, name)
    globals()[name] = value
    return value


# -- names that cannot be loaded ---------------------------------------------------------------
#
# A program that has used up its descriptors can open no file of this package. It must go on as it
# does where recording is off. So each name then has a substitute that tries again at each use, and
# does nothing until that works. Loading all names at once would cost every program 60 ms.

# Without these the user's decision would be lost, or a test would capture no event.
_MUST_LOAD = ("disable_telemetry", "enable_telemetry", "capture_events")


class _Absent:
    """A name that cannot be loaded now: each use tries again, and does nothing until then."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> object:
        if attribute[0] == "_":
            raise AttributeError(attribute)
        found = __getattr__(self._name)
        if type(found) is not _Absent:
            return getattr(found, attribute)
        if self._name == "RoleEvent" and attribute.isupper():
            return attribute.lower().replace("_", ".", 1)
        raise AttributeError(attribute)

    def __call__(self, *args: "Any", **kwargs: "Any") -> object:
        found: Any = __getattr__(self._name)
        if type(found) is not _Absent:
            return found(*args, **kwargs)
        if self._name == "propagate":
            return args[0]
        if self._name == "hash_pii":
            import os  # deferred: the interpreter has it already

            return os.urandom(6).hex()
        if self._name in ("is_telemetry_enabled", "ask_consent"):
            return False
        if self._name == "track_role_event":
            return None
        if self._name == "read_events":
            raise OSError("telemetry_kit cannot be loaded now, so no event can be read")
        if self._name == "current":
            return _NoScope()
        return {} if self._name == "child_environment" else _Nothing()


class _Nothing:
    """A decorator, context manager, logger or handle that does nothing."""

    def __call__(self, target: "Any") -> "Any":
        return target

    def __enter__(self) -> "Any":
        return self

    def __exit__(self, *_: object) -> None:
        return None

    async def __aenter__(self) -> "Any":
        return self

    async def __aexit__(self, *_: object, **__: object) -> None:
        return None

    def __getattr__(self, name: str) -> "Any":
        if name[0] == "_":
            raise AttributeError(name)
        if name in ("bind", "new", "unbind", "try_unbind"):
            return lambda *_, **__: self
        if name[:1] == "a" and name != "apply":
            return self.__aexit__
        return lambda *_, **__: None


class _NoScope:
    """What `current()` returns outside of any session and span."""

    role = command = agent = workflow = session_id = span_id = None

    def __bool__(self) -> bool:
        return False

    def set(self, **_: object) -> None:
        """Do nothing."""


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
