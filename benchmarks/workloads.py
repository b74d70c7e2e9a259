"""The work measured inside one process: calls while recording is off, and events while it is on.

Other modules define how and where it is measured.
"""

import functools
import itertools
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from telemetry_kit import RoleEvent, configure, get_logger, role_session, track_role_event, tracks

AGENT = "backend-engineer"
COMMAND = "/flow:implement"

Work = Callable[[], object]


def implement(task: str) -> int:
    return len(task)


def passing(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that only passes the call on, which is the least any decorator costs."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def passing_wrapt(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same decorator, made with wrapt."""
    import wrapt

    @wrapt.decorator
    def wrapper(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
        return wrapped(*args, **kwargs)

    decorated: Callable[..., Any] = wrapper(function)
    return decorated


def holder(decorate: Callable[..., Any]) -> Any:
    """Make an object whose method `implement` is decorated."""
    return type("Holder", (), {"implement": decorate(lambda _self, task: len(task))})()


def calls() -> dict[str, tuple[str, dict[str, Any]]]:
    """Return statements that call one decorated function or method, with their globals."""
    decorate = tracks(RoleEvent.AGENT_INVOKED, agent=AGENT)
    functions = {
        "closure": passing(implement),
        "ours": decorate(implement),
        "wrapt": passing_wrapt(implement),
    }
    methods = {
        "closure_method": holder(passing),
        "ours_method": holder(decorate),
        "wrapt_method": holder(passing_wrapt),
    }
    return {
        **{name: ("call('a task')", {"call": f}) for name, f in functions.items()},
        **{name: ("thing.implement('a task')", {"thing": m}) for name, m in methods.items()},
    }


def spans() -> dict[str, Work]:
    """Return work that opens and closes a span of OpenTelemetry that is no agent, by processor.

    The work whose name ends in `_alone` is that of the processor, without that of the SDK.
    """
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

    from telemetry_kit.integrations.otel import AgentSpanProcessor

    configure(app="flowspec")
    attributes = {"http.request.method": "GET", "url.path": "/", "http.response.status_code": 200}
    ended: list[ReadableSpan] = []

    class Collector(SpanProcessor):
        """Keeps the spans that end."""

        def on_end(self, span: ReadableSpan) -> None:
            ended.append(span)

    def tracer_with(processor: SpanProcessor) -> Any:
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(processor)
        return provider.get_tracer("benchmark")

    def work(processor: SpanProcessor) -> Work:
        tracer = tracer_with(processor)
        return lambda: tracer.start_span("GET /", attributes=attributes).end()

    span = tracer_with(Collector()).start_span("GET /", attributes=attributes)
    span.end()

    def alone(processor: SpanProcessor) -> Work:
        return lambda: (processor.on_start(span, None), processor.on_end(ended[0]))

    nothing, ours = SpanProcessor(), AgentSpanProcessor()
    return {
        "nothing": work(nothing),
        "ours": work(ours),
        "nothing_alone": alone(nothing),
        "ours_alone": alone(ours),
    }


class Events:
    """Work that writes lines to disk, in the working directory.

    Use it inside a `role_session`, so that events have the same fields as in practice.
    """

    def __init__(self) -> None:
        configure(app="flowspec", commands=[COMMAND], agents=[AGENT])
        self.session = role_session("dev", command=COMMAND)
        self.log = Path(".flowspec/telemetry.jsonl")
        self.decorated = tracks(RoleEvent.AGENT_INVOKED, agent=AGENT)(implement)
        self.logger = get_logger()
        with self.session:
            if track_role_event(RoleEvent.AGENT_INVOKED, agent="a helper") is None:
                raise RuntimeError("recording is off: there is nothing to measure")
        self.line = self.log.read_bytes().splitlines(keepends=True)[-1]
        self.bare_log = Path("bare.jsonl")
        self.descriptor = os.open(self.bare_log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.other_log = Path("logging.jsonl")
        self._logger = logging.Logger("benchmark")  # not part of the host's tree of loggers
        self._handler = logging.FileHandler(self.other_log)
        self._logger.addHandler(self._handler)
        self._fields = json.loads(self.line)
        self._numbers = itertools.count()
        self._message = self.line.decode("ascii").rstrip()

    def bare(self) -> object:
        """Write one line with `os.write`, which is the least a line on disk costs."""
        return os.write(self.descriptor, self.line)

    def logging(self) -> None:
        """Write one line with the standard library's logging."""
        self._logger.info(self._message)

    def standard(self) -> None:
        """Make the same line with the standard library (id, time, order, JSON), and log it."""
        event = {
            **self._fields,
            "event_id": os.urandom(8).hex(),
            "timestamp": time.strftime("%Y-%m-%dT00:00:00Z", time.gmtime()),
            "seq": next(self._numbers),
        }
        self._logger.info(json.dumps(event, separators=(",", ":")))

    def api(self) -> object:
        """Record one event with an undeclared agent, which becomes a pseudonym."""
        return track_role_event(RoleEvent.AGENT_INVOKED, agent="a helper")

    def call(self) -> object:
        """Record two events with a decorated call."""
        return self.decorated("a task")

    def structlog_event(self) -> object:
        """Record one event through structlog."""
        return self.logger.info("agent.invoked", agent="a helper")

    def close(self) -> None:
        """Close the files that the library did not open."""
        self._handler.close()
        os.close(self.descriptor)

    @property
    def works(self) -> dict[str, tuple[Work, int, Path]]:
        """By name: the work, the number of lines it writes, and their file."""
        return {
            "bare": (self.bare, 1, self.bare_log),
            "logging": (self.logging, 1, self.other_log),
            "standard": (self.standard, 1, self.other_log),
            "api": (self.api, 1, self.log),
            "decorated": (self.call, 2, self.log),
            "warm_door": (self.structlog_event, 1, self.log),
        }
