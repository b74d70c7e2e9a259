"""`get_logger()`: the structlog driver, a private structlog logger around `pipeline.PROCESSORS`.

It neither reads nor writes the host's structlog configuration.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from telemetry_kit import context
from telemetry_kit._runtime import load, runtime
from telemetry_kit.consent import cache
from telemetry_kit.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Self

    Processor = Callable[[Any, str, dict[str, Any]], Any]

_Filtering: Any = structlog.make_filtering_bound_logger(0)


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
        if not self._processors.are_loaded():
            return None
        fields = {**fields, "_metadata": runtime.pipeline.EventMetadata("logger")}

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

    def __init__(self, of_host: Iterable[Processor]) -> None:
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


def without_metadata(processor: Processor) -> Processor:
    """A processor that hides the metadata of an event from a processor of the host."""

    def hiding(logger: Any, method: str, event: dict[str, Any]) -> dict[str, Any]:
        metadata = event.pop("_metadata")
        event = context.call_host(processor, logger, method, event)
        # A copy, because the processor may have kept its own.
        return {**event, "_metadata": metadata}

    return hiding


def get_logger(name: str | None = None, *, processors: Iterable[Processor] = ()) -> RoleLogger:
    """A structlog logger that records events.

    Args:
        name: the name of a logger, `__name__` for instance. It is accepted because other loggers
            have one, and is not stored.
        processors: the host's own structlog processors. They run where recording is on, before
            the fields are validated, so nothing they add is exempt. Nothing that they record is
            recorded, because an event that they log would run them again.

    Returns:
        A bound logger: `bind()`, `unbind()`, `new()` and the level methods work as usual.

    Raises:
        TypeError: the name is no string, or the processors cannot be called.

    Example:
        >>> from telemetry_kit import capture_events, get_logger
        >>> log = get_logger(__name__).bind(role="dev")
        >>> with capture_events() as captured:
        ...     record = log.info("handoff.clicked", agent="planner")
        >>> captured.events[0]["role"], captured.events[0]["source"]
        ('dev', 'logger')
    """
    if name is not None and not isinstance(name, str):
        raise TypeError(
            f"get_logger() takes a logger's name, not a {type(name).__name__}: "
            "give processors as get_logger(processors=[...])"
        )
    try:
        of_host = tuple(processors)
    except TypeError:
        raise TypeError(
            f"processors= of get_logger() is a list of processors, not a "
            f"{type(processors).__name__}: write processors=[...]"
        ) from None
    for processor in of_host:
        if not callable(processor):
            raise TypeError(
                f"processors= of get_logger() has a {type(processor).__name__}: "
                "a processor is called as processor(logger, method_name, event_dict)"
            )
    return RoleLogger(None, Processors(of_host), {})
