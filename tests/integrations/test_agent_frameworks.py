"""Agents of real frameworks and instrumentors, with models that need no network.

The session `frameworks` installs all of them but CrewAI, which takes 1 GB and four minutes. A
missing one is skipped.
"""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import pytest

from telemetry_kit import configure, role_session
from tests.integrations.agents_helpers import (
    FRAMEWORKS,
    SECRET,
    is_installed,
    recorded,
    require,
    run_module,
    sections,
)

EXAMPLES = sections("agent-frameworks.md")
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.usefixtures("offline")]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("CREWAI_DISABLE_TELEMETRY", "CREWAI_DISABLE_TRACKING"):
        monkeypatch.setenv(name, "true")
    return


@pytest.mark.skipif("TELEMETRY_KIT_ALL_FRAMEWORKS" not in os.environ, reason="see noxfile.py")
def test_each_framework_is_installed() -> None:
    """The session `frameworks` skips no test of this file but that of CrewAI."""
    assert [name for name in FRAMEWORKS if not is_installed(name)] == []


def test_the_page_has_each_framework() -> None:
    """The page has one example for each of the four frameworks, and each has a test."""
    assert list(EXAMPLES) == ["LangGraph", "CrewAI", "Pydantic AI", "FastMCP"]


def test_open_telemetry(captured, capsys) -> None:
    """The example records an agent with its role."""
    require("opentelemetry.sdk.trace")
    (example,) = sections("opentelemetry.md").values()
    run_module(example.replace("trace.get_tracer", "provider.get_tracer"))["plan"]()

    assert capsys.readouterr().out == "planning\n"
    assert recorded(captured) == [
        ("agent.invoked", "dev", "planner", None),
        ("agent.completed", "dev", "planner", None),
    ]


def test_langgraph(captured) -> None:
    """The example records the workflow, and the agent inside of it."""
    require("langgraph.graph")
    names = run_module(EXAMPLES["LangGraph"])

    assert names["deliver"](SECRET) == {"task": f"a plan for {SECRET}"}
    assert [e["event_type"] for e in captured.events] == [
        *("role.selected", "workflow.started"),
        *("agent.invoked", "agent.completed", "workflow.completed"),
    ]

    workflow, agent = recorded(captured)[:2]

    assert agent == ("agent.invoked", "dev", "planner", workflow[2])
    assert captured.events[2]["parent_id"] == captured.events[1]["span_id"]


def test_pydantic_ai(captured) -> None:
    """The example records an agent that calls another one, and a failure."""
    require("pydantic_ai", "opentelemetry.sdk.trace")
    from pydantic_ai import Agent
    from pydantic_ai.models.function import FunctionModel
    from pydantic_ai.models.test import TestModel

    def fail(*_: object) -> Any:
        raise RuntimeError(SECRET)

    names = run_module(EXAMPLES["Pydantic AI"])
    planner, coder = names["planner"], names["coder"]
    try:
        with planner.override(model=TestModel()), coder.override(model=TestModel()):
            output = planner.run_sync(SECRET).output
        with pytest.raises(RuntimeError, match="jane"):
            coder.run_sync(SECRET, model=FunctionModel(fail))
    finally:
        Agent.instrument_all(False)

    assert "success" in output
    assert recorded(captured) == [
        ("agent.invoked", None, "planner", None),
        ("agent.invoked", None, "coder", "planner"),
        ("agent.completed", None, "coder", "planner"),
        ("agent.completed", None, "planner", None),
        ("agent.invoked", None, "coder", None),
        ("agent.failed", None, "coder", None),
    ]


def test_fastmcp(captured) -> None:
    """The example records a tool that a client calls."""
    require("fastmcp")
    mcp = run_module(EXAMPLES["FastMCP"])["mcp"]
    result = asyncio.run(mcp.call_tool("review", {"path": SECRET}))

    assert result.structured_content == {"result": f"reviewed {SECRET}"}
    assert [
        (row[0], e["command"]) for row, e in zip(recorded(captured), captured.events, strict=False)
    ] == [
        ("command.executed", "review"),
        ("command.completed", "review"),
    ]


@pytest.mark.skipif(
    not is_installed("crewai") or not is_installed("opentelemetry.instrumentation.crewai"),
    reason="CrewAI is installed by hand",
)
def test_crewai(captured, monkeypatch) -> None:
    """The example records each agent of a crew, under the crew."""
    for name in ("CREWAI_DISABLE_TELEMETRY", "CREWAI_DISABLE_TRACKING"):
        monkeypatch.setenv(name, "true")
    from crewai import Agent, BaseLLM, Crew, Task

    class FakeModel(BaseLLM):
        def call(self, *_: object, **__: object) -> str:
            return "Thought: done\nFinal Answer: built"

    instrumentor = run_module(EXAMPLES["CrewAI"])["CrewAIInstrumentor"]()
    agents = [
        Agent(role=name, goal="g", backstory="b", llm=FakeModel(model="fake"))
        for name in ("planner", "coder")
    ]
    tasks = [Task(description=SECRET, expected_output="x", agent=agent) for agent in agents]
    try:
        result = Crew(agents=agents, tasks=tasks).kickoff()
    finally:
        instrumentor.uninstrument()

    assert str(result) == "built"
    assert recorded(captured) == [
        ("agent.invoked", None, None, None),
        ("agent.invoked", None, "planner", None),
        ("agent.completed", None, "planner", None),
        ("agent.invoked", None, "coder", None),
        ("agent.completed", None, "coder", None),
        ("agent.completed", None, None, None),
    ]
    crew = captured.events[0]["span_id"]
    assert [e.get("parent_id") for e in captured.events] == [None, *[crew] * 4, None]


# -- instrumentors -----------------------------------------------------------------------------


def provider_with_processor() -> Any:
    """Return a provider of tracers whose agents are recorded."""
    from opentelemetry.sdk.trace import TracerProvider

    from telemetry_kit.integrations.otel import AgentSpanProcessor

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(AgentSpanProcessor())
    return provider


class State(TypedDict):
    """The state of the graphs."""

    messages: list[Any]


def run_graphs(instrumentor: Any) -> None:
    """Run a graph whose node is a graph that calls a model, followed by an instrumentor."""
    from langchain_core.language_models import GenericFakeChatModel
    from langgraph.graph import START, StateGraph

    def call_model(state: State) -> dict[str, Any]:
        model = GenericFakeChatModel(messages=iter(["built"]))
        return {"messages": [*state["messages"], model.invoke(state["messages"])]}

    def graph_of(name: str, node: Any) -> Any:
        graph = StateGraph(State)
        graph.add_node("work", node)
        graph.add_edge(START, "work")
        return graph.compile(name=name)

    instrumentor.instrument(tracer_provider=provider_with_processor())
    names = ["delivery", "coder_agent"]
    with configure(agents=names, workflows=names), role_session("dev"):
        inner = graph_of("coder_agent", call_model)
        result = graph_of("delivery", inner).invoke({"messages": [("user", SECRET)]})

    assert result["messages"][-1].content == "built"


TRACELOOP = """
import json, socket, sys
socket.socket.connect = None
sys.path.append({root!r})
from opentelemetry.instrumentation.langchain import LangchainInstrumentor
from telemetry_kit import capture_events
from tests.integrations.agents_helpers import recorded
from tests.integrations.test_agent_frameworks import run_graphs

with capture_events() as captured:
    run_graphs(LangchainInstrumentor())
print(json.dumps([recorded(captured), captured.events[3]["workflow"]]))
"""


def test_the_instrumentor_of_traceloop(undecided) -> None:
    """Its graphs are agents, the outer one also a workflow. Its attributes are set late."""
    require("langgraph.graph", "opentelemetry.instrumentation.langchain")
    # In its own process, because the instrumentor cannot be taken away completely.
    done = undecided.python("-c", TRACELOOP.format(root=str(Path(__file__).parents[2])))
    rows, workflow = json.loads(done.stdout)

    assert [tuple(row) for row in rows] == [
        ("agent.invoked", "dev", "delivery", None),
        ("workflow.started", "dev", "delivery", "delivery"),
        ("agent.invoked", "dev", "coder_agent", "delivery"),
        ("agent.completed", "dev", "coder_agent", "delivery"),
        ("workflow.completed", "dev", "delivery", "delivery"),
        ("agent.completed", "dev", "delivery", None),
    ]
    assert workflow == "delivery"


def test_the_instrumentor_of_openinference(captured) -> None:
    """Its agents are known at their end, and have no name."""
    require("langchain_core", "openinference.instrumentation.langchain")
    from langchain_core.runnables import RunnableLambda
    from openinference.instrumentation.langchain import LangChainInstrumentor

    instrumentor = LangChainInstrumentor()
    instrumentor.instrument(tracer_provider=provider_with_processor())
    coder = RunnableLambda(str.upper).with_config(run_name="coder_agent")
    try:
        with role_session("dev"):
            result = (coder | RunnableLambda(len)).invoke(SECRET)
    finally:
        instrumentor.uninstrument()

    assert result == len(SECRET)
    assert recorded(captured) == [
        ("agent.invoked", "dev", None, None),
        ("agent.completed", "dev", None, None),
    ]
