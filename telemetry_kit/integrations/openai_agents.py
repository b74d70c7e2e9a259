"""Hosts that use the OpenAI Agents SDK: a trace processor that records agents and hand-offs.

Of a span it reads its kind, the names of its agents, whether it has an error, times and parent.
"""

from __future__ import annotations

from telemetry_kit._runtime import runtime
from telemetry_kit.integrations.agent_spans import AgentSpans, swallow

try:
    from agents.tracing import AgentSpanData, HandoffSpanData, TracingProcessor
except ModuleNotFoundError:
    raise ModuleNotFoundError(
        "telemetry_kit.integrations.openai_agents needs the OpenAI Agents SDK: "
        "pip install openai-agents",
        name="agents",
    ) from None

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from agents.tracing import Span, Trace

# Shared by all processors, so that a span that two of them see counts once.
_spans = AgentSpans("openai-agents")


class AgentTracingProcessor(TracingProcessor):
    """Record each agent and each hand-off of the OpenAI Agents SDK as a pair of events.

    It raises and prints nothing, and where recording is off, it does nothing.

    Example:
        >>> from agents import add_trace_processor
        >>> from telemetry_kit.integrations.openai_agents import AgentTracingProcessor
        >>> add_trace_processor(AgentTracingProcessor())
    """

    def on_span_start(self, span: Span[Any]) -> None:
        """Record the start of an agent, or follow a span inside of one."""
        if runtime.is_off():
            return
        try:
            data = span.span_data
            if isinstance(data, AgentSpanData):
                names = {"agent": data.name}
                _spans.open(span, span.span_id, span.parent_id, "agent.invoked", names)
            else:
                _spans.follow(span, span.span_id, span.parent_id)
        except Exception as error:
            swallow(error)

    def on_span_end(self, span: Span[Any]) -> None:
        """Record the end of an agent, or a hand-off: its target is not known before."""
        try:
            data, key = span.span_data, span.span_id
            _spans.close(key, span.error is not None, None)
            if isinstance(data, HandoffSpanData):
                names = {"source_agent": data.from_agent, "target_agent": data.to_agent}
                _spans.record(
                    *(key, span.parent_id, "handoff.clicked", names),
                    failed=data.to_agent is None,
                    seconds=seconds_of(span),
                )
        except Exception as error:
            swallow(error)

    def on_trace_start(self, trace: Trace) -> None:
        """Do nothing: a trace is no agent."""

    def on_trace_end(self, trace: Trace) -> None:
        """Do nothing: a trace is no agent."""

    def shutdown(self) -> None:
        """Do nothing: each event is on disk already."""

    def force_flush(self) -> None:
        """Do nothing: each event is on disk already."""


def seconds_of(span: Span[Any]) -> float:
    """How long a span took, in seconds."""
    from datetime import datetime  # deferred: only for a hand-off

    times = [datetime.fromisoformat(at) for at in (span.started_at, span.ended_at) if at]
    return max((times[-1] - times[0]).total_seconds(), 0.0) if times else 0.0
