"""The trace processor, under the OpenAI Agents SDK with models that need no network."""

import asyncio
import doctest
import gc
import re
from collections.abc import Iterator
from typing import Any

import pytest

from telemetry_kit import configure
from tests.integrations.agents_helpers import (
    HOW_TO,
    SECRET,
    recorded,
    run_module,
    sections,
)

pytest.importorskip("agents")

from agents import Agent, Runner, agent_span, custom_span, handoff, set_trace_processors, trace
from agents.items import ModelResponse
from agents.models.interface import Model
from agents.usage import Usage
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from telemetry_kit.integrations import openai_agents
from telemetry_kit.integrations.openai_agents import AgentTracingProcessor

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("offline")]


class FakeModel(Model):
    """Returns, or raises, one output after the other."""

    def __init__(self, *outputs: Any) -> None:
        self.outputs = list(outputs)

    async def get_response(self, *_: object, **__: object) -> ModelResponse:
        output = self.outputs.pop(0)
        if isinstance(output, Exception):
            raise output
        return ModelResponse(output=[output], usage=Usage(), response_id=None)

    def stream_response(self, *_: object, **__: object) -> Any:
        raise NotImplementedError


def say(text: str) -> ResponseOutputMessage:
    """Return an answer of a model."""
    part = ResponseOutputText(type="output_text", text=text, annotations=[])
    given: dict[str, Any] = {"type": "message", "role": "assistant", "status": "completed"}
    return ResponseOutputMessage(id="m", content=[part], **given)


def call(tool: str) -> ResponseFunctionToolCall:
    """Return a call of a tool, or a hand-off."""
    given: dict[str, Any] = {"type": "function_call", "arguments": '{"input": "jane"}'}
    return ResponseFunctionToolCall(id=f"i{tool}", call_id=f"c{tool}", name=tool, **given)


@pytest.fixture(autouse=True)
def _processors() -> Iterator[None]:
    """Two processors see each span, and no test leaves a span open."""
    set_trace_processors([AgentTracingProcessor(), AgentTracingProcessor()])
    with configure(agents=["triage", "billing"]):
        yield
    set_trace_processors([])

    assert openai_agents._spans.followed == {}


def test_the_example_of_the_page(captured) -> None:
    """It records the events that the page lists, and returns the answer."""
    page = "openai-agents.md"
    (example,) = sections(page).values()
    names = run_module(example.replace("add_trace_processor(", "print("))
    names["triage"].model = FakeModel(call("transfer_to_billing"))
    names["billing"].model = FakeModel(say("paid"))
    (listing,) = re.findall(r"(?ms)^```text\n(.*?)^```", (HOW_TO / page).read_text())

    assert names["answer"](SECRET) == "paid"

    lines = []
    for event in captured.events:
        name = event.get("agent", "")
        if "target_agent" in event:
            name = f"{event['source_agent']} > {event['target_agent']}"
        lines.append(f"{event['event_type']:19}{event['role']:5}{name}".rstrip() + "\n")

    assert listing == "".join(lines)
    assert recorded(captured)[2] == ("handoff.completed", "dev", "triage", "triage")
    assert {e["source"] for e in captured.events} == {"session", "openai-agents"}
    assert (captured.events[3]["outcome"], captured.events[3]["duration_ms"] > 0) == ("ok", True)


def test_the_example_of_the_class() -> None:
    """The example in the docstring runs."""
    found = doctest.DocTestFinder().find(AgentTracingProcessor, "AgentTracingProcessor")
    (example,) = [test for test in found if test.examples]

    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0


def test_an_agent_that_is_a_tool(captured) -> None:
    """An agent that another one calls as a tool has it as its parent."""
    billing = Agent(name="billing", model=FakeModel(say("paid")))
    tools = [billing.as_tool("ask_billing", "Ask.")]
    triage = Agent(name="triage", model=FakeModel(call("ask_billing"), say("done")), tools=tools)

    assert Runner.run_sync(triage, SECRET).final_output == "done"
    assert recorded(captured) == [
        ("agent.invoked", None, "triage", None),
        ("agent.invoked", None, "billing", "triage"),
        ("agent.completed", None, "billing", "triage"),
        ("agent.completed", None, "triage", None),
    ]


def test_failures(captured) -> None:
    """A failure of the model fails the agent. A hand-off that fails has no target and no end."""

    async def fail(_: object) -> None:
        raise ValueError(SECRET)

    broken = [handoff(Agent(name="billing"), on_handoff=fail)]
    model = FakeModel(call("transfer_to_billing"))
    first = Agent(name="triage", model=model, handoffs=broken)
    second = Agent(name="triage", model=FakeModel(RuntimeError(SECRET)))
    for agent in (first, second):
        with pytest.raises(Exception, match="jane"):
            Runner.run_sync(agent, SECRET)

    assert recorded(captured) == [
        ("agent.invoked", None, "triage", None),
        ("handoff.clicked", None, "triage", "triage"),
        ("agent.failed", None, "triage", None),
        ("agent.invoked", None, "triage", None),
        ("agent.failed", None, "triage", None),
    ]
    assert captured.events[1]["source_agent"] == "triage"
    assert not any("target_agent" in e or "error_type" in e for e in captured.events)


def test_names_that_were_not_declared(captured) -> None:
    """The name of an agent that was not declared is a pseudonym."""
    Runner.run_sync(Agent(name=SECRET, model=FakeModel(say("done"))), "x")

    assert [e["agent"][:2] for e in captured.events] == ["h:", "h:"]


def test_many_runs_at_once(captured) -> None:
    """Agents of many tasks have one pair each."""

    async def run() -> None:
        agents = [Agent(name="billing", model=FakeModel(say("paid"))) for _ in range(20)]
        await asyncio.gather(*(Runner.run(agent, SECRET) for agent in agents))

    asyncio.run(run())

    assert recorded(captured).count(("agent.completed", None, "billing", None)) == 20
    assert len(captured.events) == 40


def test_spans_that_never_end(captured) -> None:
    """A span that the host drops is forgotten, and its agent stays without an end."""
    with trace("acme"):
        span = agent_span("billing")
        span.start()
        inner = custom_span("x", parent=span)
        inner.start()

        assert len(openai_agents._spans.followed) == 2

        del span, inner
        gc.collect()

    assert recorded(captured) == [("agent.invoked", None, "billing", None)]


def test_nothing_is_recorded_when_off(undecided) -> None:
    """Without consent, a run gives the same result, and writes no file."""
    agent = Agent(name="billing", model=FakeModel(say("paid")))

    assert Runner.run_sync(agent, SECRET).final_output == "paid"
    assert undecided.tree() == []
