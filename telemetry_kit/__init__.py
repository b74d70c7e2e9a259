"""The face of telemetry_kit: show the users of a command-line tool how they use it.

Each name is imported from its room when it is first used, so that a short command pays only for
what it needs (PEP 562).
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from telemetry_kit._version import __version__
    from telemetry_kit.asking import ask_consent
    from telemetry_kit.calls import (
        child_environment,
        hash_pii,
        is_telemetry_enabled,
        track_role_event,
    )
    from telemetry_kit.capture import capture_events
    from telemetry_kit.control import disable_telemetry, enable_telemetry
    from telemetry_kit.events import RoleEvent
    from telemetry_kit.logger import get_logger
    from telemetry_kit.proxies import instrument
    from telemetry_kit.scope import current, propagate
    from telemetry_kit.session import role_session
    from telemetry_kit.settings import configure
    from telemetry_kit.tracking import tracks

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
    "role_session",
    "track_role_event",
    "tracks",
]

_ROOMS = {
    "RoleEvent": "events",
    "__version__": "_version",
    "ask_consent": "asking",
    "capture_events": "capture",
    "child_environment": "calls",
    "configure": "settings",
    "current": "scope",
    "disable_telemetry": "control",
    "enable_telemetry": "control",
    "get_logger": "logger",
    "hash_pii": "calls",
    "instrument": "proxies",
    "is_telemetry_enabled": "calls",
    "propagate": "scope",
    "role_session": "session",
    "track_role_event": "calls",
    "tracks": "tracking",
}


def __getattr__(name: str) -> object:
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # What importlib.import_module does, without its import.
    module = __import__(f"{__name__}.{room}", fromlist=[name])
    value: object = getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
