"""The structlog driver: `pipeline.PROCESSORS` as a private structlog logger.

It neither reads nor writes the host's structlog configuration.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import structlog

from telemetry_kit import context
from telemetry_kit._runtime import load
from telemetry_kit.consent import cache
from telemetry_kit.errors import Refused, Stale, swallow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

_Filtering: Any = structlog.make_filtering_bound_logger(0)
# Set while a processor of the host runs, and only then: what it logs would call it again.
_in_host: ContextVar[bool] = ContextVar("telemetry_kit_in_host", default=False)


class RoleLogger(_Filtering):  # type: ignore[misc]
    """A structlog logger whose `info(event, **fields)` records an event.

    It returns the record as it was written, or None when nothing was written, and never raises,
    whatever the fields are called. Values for context go into `context={...}`. Arguments by
    position after the event are ignored: nothing of the host is ever formatted.
    """

    def bind(self, /, **values: Any) -> Self:
        """A logger that adds these fields to each event."""
        return type(self)(self._logger, self._processors, {**self._context, **values})

    def new(self, /, **values: Any) -> Self:
        """A logger that adds these fields and no others."""
        return type(self)(self._logger, self._processors, values)

    def log(self, _level: int, event: str | None = None, /, *_: Any, **fields: Any) -> Any:
        """Record an event; no level is stored."""
        return self._record("info", event, fields)

    async def alog(self, _level: int, event: str | None = None, /, *_: Any, **fields: Any) -> Any:
        """Record an event; no level is stored."""
        return self._record("info", event, fields)

    def _record(self, method: str, event: str | None, fields: dict[str, Any]) -> Any:
        if _in_host.get():
            return None
        try:
            if not self._processors and not self._processors.fill():
                return None
            try:
                return self._process_event(method, event, fields)[1]
            except Stale:
                # deferred: only where recording is on
                pipeline = load("telemetry_kit.recording.pipeline")
                return pipeline.look_again(lambda: self._process_event(method, event, fields)[1])
        except (Refused, structlog.DropEvent):
            return None
        except Exception as error:
            swallow(error)
            return None


def _add_levels() -> None:
    def make(level: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
        def method(self: Any, event: str | None = None, /, *_: Any, **fields: Any) -> Any:
            return self._record(level, event, fields)

        # Writing is one system call: it needs no thread, as structlog's own would take.
        async def later(self: Any, event: str | None = None, /, *_: Any, **fields: Any) -> Any:
            return self._record(level, event, fields)

        return method, later

    for level in (
        *("debug", "info", "warning", "error", "critical"),
        *("exception", "fatal", "msg", "warn"),
    ):
        for name, method in zip((level, f"a{level}"), make(level), strict=True):
            method.__name__ = name
            method.__qualname__ = f"RoleLogger.{name}"
            method.__doc__ = "Record an event; no level is stored."
            setattr(RoleLogger, name, method)


_add_levels()


class _Nowhere:
    """What structlog believes to be the output; the last step has written the line."""


class _Chain(list[Any]):
    """The processors of a logger: the host's between ours, once there is something to record.

    Args:
        hosts: the processors of the host.
    """

    def __init__(self, hosts: Iterable[Any]) -> None:
        super().__init__()
        self._hosts = [_guarded(processor) for processor in hosts]

    def fill(self) -> bool:
        """Load the chain, where recording is on; whether it is."""
        if not cache.is_allowed(context.place(None)):
            return False
        pipeline = load("telemetry_kit.recording.pipeline")  # deferred: only where recording is on
        if pipeline is None:
            return False
        first, *rest = pipeline.PROCESSORS
        self[:] = [first, *self._hosts, *rest]
        return True


def get_logger(processors: Iterable[Any] = ()) -> RoleLogger:
    """A structlog logger around the chain.

    Args:
        processors: the host's own structlog processors; they run after the gate, so only where
            recording is on, and before values are admitted, so nothing they add is exempt.
            What they log through such a logger is not recorded, or it would never end.

    Returns:
        A bound logger: `bind()`, `unbind()`, `new()` and the level methods work as usual.
    """
    # Every argument is given: structlog takes those that are None from the host at each call.
    logger: RoleLogger = structlog.wrap_logger(
        _Nowhere(),
        processors=_Chain(processors),
        wrapper_class=RoleLogger,
        context_class=dict,
        cache_logger_on_first_use=True,
        logger_factory_args=(),
    ).bind()
    return logger


def _guarded(processor: Callable[..., Any]) -> Callable[..., Any]:
    """A host's processor that sees its event and nothing of ours."""

    def step(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        ours = {key: event.pop(key) for key in ("_at", "_given")}
        token = _in_host.set(True)
        try:
            event = processor(logger, method, event)
        finally:
            _in_host.reset(token)
        # A copy, because the processor may have kept its own.
        return {**event, **ours}

    return step
