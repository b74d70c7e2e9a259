"""Hosts that use OpenTelemetry: a span processor that records the agents and workflows in traces.

It reads three conventions: those of OpenTelemetry for generative AI, OpenInference and Traceloop.
Of a span it reads its kind, its name in that convention, status, duration and parent.
"""

from __future__ import annotations

from telemetry_kit.integrations.agent_spans import AgentSpans, swallow

try:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.trace import StatusCode, get_current_span
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "telemetry_kit.integrations.otel needs OpenTelemetry: pip install 'telemetry-kit[otel]'",
        name="opentelemetry",
    ) from None

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import ReadableSpan, Span

    # The first event of a pair, the field of its name, and the attributes that may hold the name.
    Row = tuple[str, str, tuple[str, ...]]

_AGENT, _WORKFLOW = ("agent.invoked", "agent"), ("workflow.started", "workflow")
# By the attribute that tells what a span is, and its value. The first of these attributes that a
# span has decides: Traceloop sets `invoke_agent` on its workflows and tasks as well.
_KINDS: dict[str, dict[object, Row]] = {
    "traceloop.span.kind": {
        "agent": (*_AGENT, ("traceloop.entity.name", "gen_ai.agent.name")),
        "workflow": (*_WORKFLOW, ("traceloop.entity.name", "gen_ai.agent.name")),
    },
    "openinference.span.kind": {"AGENT": (*_AGENT, ("agent.name", "gen_ai.agent.name"))},
    "gen_ai.operation.name": {
        "invoke_agent": (*_AGENT, ("gen_ai.agent.name",)),
        # Before version 0.1.0 of the conventions, the name was in the second one.
        "invoke_workflow": (*_WORKFLOW, ("gen_ai.agent.name", "gen_ai.workflow.name")),
    },
}

# Shared by all processors, so that a span that two of them see counts once.
_spans = AgentSpans("otel")


class AgentSpanProcessor(SpanProcessor):
    """Record each agent and workflow in the spans of OpenTelemetry as a pair of events.

    The start is recorded when the span starts. If kind or name are set later, it is recorded before
    the first span inside, or else at the end. Spans that a sampler drops are not seen. It raises
    and prints nothing, and where recording is off, it does nothing.

    Example:
        >>> from opentelemetry.sdk.trace import TracerProvider
        >>> from telemetry_kit import capture_events, configure
        >>> from telemetry_kit.integrations.otel import AgentSpanProcessor
        >>> provider = TracerProvider()
        >>> provider.add_span_processor(AgentSpanProcessor())
        >>> tracer = provider.get_tracer("acme")
        >>> agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "planner"}
        >>> with configure(app="acme", agents=["planner"]), capture_events() as captured:
        ...     with tracer.start_as_current_span("invoke_agent planner", attributes=agent):
        ...         pass
        >>> [(event["event_type"], event["agent"]) for event in captured.events]
        [('agent.invoked', 'planner'), ('agent.completed', 'planner')]
    """

    def __init__(self) -> None:
        # The latest span whose children were seen: it is no agent that is not recorded yet.
        self._parent = 0

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Record the start of an agent, or follow a span inside of one."""
        try:
            row = row_of(span)
            parent = span.parent
            if parent is not None and parent.span_id != self._parent:
                self._parent = parent.span_id
                self._open_late(get_current_span(parent_context), parent.span_id)
            if row is not None and is_named(row, span):
                self._open(span, row)
            elif parent is not None and _spans.followed:
                _spans.follow(span, id_of(span), parent.span_id)
        except Exception as error:
            swallow(error)

    def on_end(self, span: ReadableSpan) -> None:
        """Record the end of an agent, and its start if that is not recorded yet."""
        try:
            row = row_of(span)
            if row is None and not _spans.followed:
                return
            failed = span.status.status_code is StatusCode.ERROR
            began, ended = span.start_time or 0, span.end_time or 0
            seconds = max(ended - began, 0) / 1e9
            # A forked child also ends the spans of its parent, which records them.
            is_ours = began >= _spans.forked_at
            key = id_of(span)
            if not _spans.close(key, failed, seconds) and row is not None and is_ours:
                event, names = event_of(row, span)
                _spans.record(key, parent_of(span), event, names, failed, seconds)
        except Exception as error:
            swallow(error)

    def _open_late(self, span: Any, key: int) -> None:
        """Record the start of an agent whose attributes were set after its start."""
        around = _spans.followed.get(key)
        if span.is_recording() and (around is None or around.opened is None):
            row = row_of(span)
            if row is not None:
                self._open(span, row)

    def _open(self, span: Span, row: Row) -> None:
        event, names = event_of(row, span)
        _spans.open(span, id_of(span), parent_of(span), event, names)


def row_of(span: Any) -> Row | None:
    """The row of the table that a span belongs to; None if it is no agent and no workflow."""
    try:
        # The dictionary of the SDK itself. The mapping around it takes longer than all the rest
        # here, and every span of the host is looked at.
        attributes = span._attributes._dict
    except AttributeError:
        attributes = dict(getattr(span, "attributes", None) or {})
    for key, rows in _KINDS.items():
        if key in attributes:
            value = attributes[key]
            return rows.get(value) if isinstance(value, str) else None
    return None


def is_named(row: Row, span: ReadableSpan) -> bool:
    """Whether a span has its name."""
    attributes = span.attributes or {}
    return any(attributes.get(key) for key in row[2])


def event_of(row: Row, span: ReadableSpan) -> tuple[str, dict[str, object]]:
    """The first event of a span, and its name."""
    event, field, keys = row
    attributes = span.attributes or {}
    found = (attributes.get(key) for key in keys)
    return event, {field: next((name for name in found if name), None)}


def id_of(span: ReadableSpan) -> int:
    """The id of a span."""
    context = span.get_span_context()
    return 0 if context is None else context.span_id


def parent_of(span: ReadableSpan) -> int:
    """The id of the span around a span; 0 if there is none."""
    return 0 if span.parent is None else span.parent.span_id
