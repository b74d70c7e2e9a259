"""`get_logger()`: the structlog driver, a private structlog logger around `pipeline.PROCESSORS`.

It neither reads nor writes the host's structlog configuration.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import structlog

from telemetry_kit import context
from telemetry_kit._runtime import load, runtime
from telemetry_kit.consent import cache
from telemetry_kit.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

_Filtering: Any = structlog.make_filtering_bound_logger(0)
# Set only while a processor of the host runs: an event that it logs would run it again.
_in_host: ContextVar[bool] = ContextVar("telemetry_kit_in_host", default=False)


class RoleLogger(_Filtering):  # type: ignore[misc]
    """A structlog logger whose `info(event, **fields)` records an event.

    It returns the record as it was written, or None when nothing was written. It raises nothing,
    also for a field named as an argument of structlog. Values for context are given as
    `context={...}`. Positional arguments after the event are ignored: no message is formatted.
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
        if _in_host.get() or not self._processors.are_loaded():
            return None

        def drive(_: dict[str, Any]) -> Any:
            try:
                return self._process_event(method, event, fields)[1]
            except structlog.DropEvent:
                raise Refused("a processor of the host dropped the event") from None

        return runtime.pipeline.emit(fields, drive)


def add_level(level: str) -> None:
    """Give `RoleLogger` the method of a level, and the one that can be awaited."""

    def method(self: Any, event: str | None = None, /, *_: Any, **fields: Any) -> Any:
        return self._record(level, event, fields)

    # Writing is one system call, so it runs in no thread, as structlog's own methods do.
    async def awaited(self: Any, event: str | None = None, /, *_: Any, **fields: Any) -> Any:
        return self._record(level, event, fields)

    for name, function in ((level, method), (f"a{level}", awaited)):
        function.__name__ = name
        function.__qualname__ = f"RoleLogger.{name}"
        function.__doc__ = "Record an event; no level is stored."
        setattr(RoleLogger, name, function)


for _level in (
    *("debug", "info", "warning", "error", "critical"),
    *("exception", "fatal", "msg", "warn"),
):
    add_level(_level)


class Processors(list[Any]):
    """The processors of a logger: the host's between ours, once there is an event to record.

    Args:
        of_host: the processors of the host.
    """

    def __init__(self, of_host: Iterable[Any]) -> None:
        super().__init__()
        self.of_host = [without_metadata(processor) for processor in of_host]

    def are_loaded(self) -> bool:
        """Load the pipeline where recording is on; whether it is loaded."""
        if not self and cache.is_allowed(context.place(None)):
            # deferred: only where recording is on
            runtime.pipeline = runtime.pipeline or load("telemetry_kit.recording.pipeline")
            if runtime.pipeline is not None:
                first, *others = runtime.pipeline.PROCESSORS
                self[:] = [first, *self.of_host, *others]
        return bool(self)


def without_metadata(processor: Callable[..., Any]) -> Callable[..., Any]:
    """A processor that hides the metadata of an event from a processor of the host."""

    def hiding(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        metadata = event.pop("_metadata")
        token = _in_host.set(True)
        try:
            event = processor(logger, method, event)
        finally:
            _in_host.reset(token)
        # A copy, because the processor may have kept its own.
        return {**event, "_metadata": metadata}

    return hiding


def get_logger(processors: Iterable[Any] = ()) -> RoleLogger:
    """A structlog logger that records events.

    Args:
        processors: the host's own structlog processors. They run where recording is on, before
            the fields are validated, so nothing they add is exempt. Events that they log through
            such a logger are not recorded, because each would run them again.

    Returns:
        A bound logger: `bind()`, `unbind()`, `new()` and the level methods work as usual.

    Example:
        >>> from telemetry_kit import capture_events, get_logger
        >>> log = get_logger().bind(role="dev")
        >>> with capture_events() as captured:
        ...     record = log.info("handoff.clicked", agent="planner")
        >>> captured.events[0]["role"]
        'dev'
    """
    return RoleLogger(None, Processors(processors), {})
