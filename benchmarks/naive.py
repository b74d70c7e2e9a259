"""A naive implementation: a wrapt decorator, and structlog configured at the first event.

The library is compared with it, and does not use it. It records the same three events as
`hosts/session.py`, with the simplest possible paths, consent, log and error handling.
"""

import contextlib
import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import wrapt

FOLDER = Path(".flowspec")
NAMES = ("agent", "command")


class RoleEvent(StrEnum):
    AGENT_INVOKED = "agent.invoked"


_logger: Any = None


def configure(**_: object) -> None:
    """Accept the program's settings and ignore them."""


def logger() -> Any:
    global _logger
    if _logger is None:
        import structlog

        FOLDER.mkdir(mode=0o700, exist_ok=True)
        structlog.configure(
            processors=[
                structlog.contextvars.merge_contextvars,
                add_metadata,
                pseudonymize,
                structlog.processors.JSONRenderer(),
            ],
            logger_factory=structlog.WriteLoggerFactory(
                file=(FOLDER / "telemetry.jsonl").open("a", buffering=1)
            ),
            cache_logger_on_first_use=True,
        )
        _logger = structlog.get_logger()
    return _logger


def add_metadata(_logger: Any, _method: str, event: Any) -> Any:
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return {"event_id": secrets.token_hex(8), "timestamp": day.isoformat(), **event}


def pseudonymize(_logger: Any, _method: str, event: Any) -> Any:
    for name in NAMES:
        if name in event:
            digest = hmac.new(key(), event[name].encode(), hashlib.sha256)
            event[name] = "h:" + digest.hexdigest()[:12]
    return event


def key() -> bytes:
    path = Path.home() / ".local" / "state" / "naive.key"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(secrets.token_bytes(32))
    return path.read_bytes()


def tracks(event: RoleEvent, **names: str) -> Callable[..., Any]:
    @wrapt.decorator
    def wrapper(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
        began = time.monotonic()
        logger().info(event.value, **names)
        try:
            result = wrapped(*args, **kwargs)
        except BaseException as error:
            logger().info("agent.failed", error_type=type(error).__name__, **names)
            raise
        took = round((time.monotonic() - began) * 1e3)
        logger().info("agent.completed", duration_ms=took, **names)
        return result

    return wrapper


@contextlib.contextmanager
def role_session(role: str, **names: str) -> Iterator[None]:
    from structlog.contextvars import bound_contextvars

    with bound_contextvars(role=role, session_id=secrets.token_hex(6), **names):
        logger().info("role.selected")
        yield
