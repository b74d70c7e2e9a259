"""The span processor, under the SDK of OpenTelemetry with spans of three conventions."""

import doctest
import gc
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from telemetry_kit import configure, role_session, tracks

pytest.importorskip("opentelemetry.sdk.trace")

from opentelemetry import trace
from opentelemetry.sdk.trace import (
    ConcurrentMultiSpanProcessor,
    ReadableSpan,
    TracerProvider,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult

from telemetry_kit.integrations import otel
from telemetry_kit.integrations.otel import AgentSpanProcessor

SECRET = "jane@example.org wants a report"
# The pairs of an agent and of one inside it, with their names and the agent around each.
NESTED = [
    ("agent.invoked", "planner", None),
    ("agent.invoked", "coder", "planner"),
    ("agent.completed", "coder", "planner"),
    ("agent.completed", "planner", None),
]


def gen_ai(name: str, **more: object) -> dict[str, object]:
    """Return the attributes of an agent, as pydantic-ai sets them."""
    return {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": name,
        "gen_ai.request.model": "test",
        "gen_ai.conversation.id": SECRET,
        "pydantic_ai.all_messages": json.dumps([{"role": "user", "content": SECRET}]),
        **more,
    }


# For each convention: attributes as instrumentors set them, the pair of events, and the name.
DIALECTS = {
    "gen_ai agent": (gen_ai("planner"), "agent", "planner"),
    "gen_ai workflow": (
        {"gen_ai.operation.name": "invoke_workflow", "gen_ai.agent.name": "delivery"},
        *("workflow", "delivery"),
    ),
    "gen_ai workflow before 0.1.0": (
        {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": "delivery"},
        *("workflow", "delivery"),
    ),
    "openinference": (
        {
            "openinference.span.kind": "AGENT",
            "agent.name": "planner",
            "input.value": SECRET,
            "output.value": SECRET,
            "user.id": SECRET,
            "metadata": json.dumps({"x": SECRET}),
        },
        *("agent", "planner"),
    ),
    "traceloop agent": (
        {
            "traceloop.span.kind": "agent",
            "traceloop.entity.name": "planner",
            "traceloop.entity.path": SECRET,
            "traceloop.entity.input": SECRET,
        },
        *("agent", "planner"),
    ),
    "traceloop agent with a name of gen_ai": (
        {**gen_ai("planner"), "traceloop.span.kind": "agent", "crewai.agent.goal": SECRET},
        *("agent", "planner"),
    ),
    "traceloop workflow": (
        {
            **gen_ai("delivery"),
            "traceloop.span.kind": "workflow",
            "traceloop.entity.name": "delivery",
        },
        *("workflow", "delivery"),
    ),
}
OTHERS = {
    "chat": {"gen_ai.operation.name": "chat", "gen_ai.agent.name": "planner"},
    "tool": {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "planner"},
    "created, not run": {"gen_ai.operation.name": "create_agent", "gen_ai.agent.name": "planner"},
    "chain": {"openinference.span.kind": "CHAIN", **gen_ai("planner")},
    "task": {"traceloop.span.kind": "task", **gen_ai("planner")},
    "no text": {"gen_ai.operation.name": 7, "openinference.span.kind": ["AGENT"]},
    "none": {},
}
FIELDS = {
    *("schema_version", "event_id", "event_type", "timestamp", "seq", "key_epoch", "invoker"),
    *("agent", "workflow", "project_id", "span_id", "outcome", "duration_ms", "source"),
}


def tracer_with(*processors: object, **options: object) -> trace.Tracer:
    """Return a tracer whose spans these processors see."""
    provider = TracerProvider(shutdown_on_exit=False, **options)
    for processor in processors:
        provider.add_span_processor(processor)
    return provider.get_tracer("test")


@pytest.fixture(autouse=True)
def _names():
    """The names of the tests are declared, and no test leaves a span open."""
    with configure(agents=["planner", "coder"], workflows=["delivery"]):
        yield

    assert otel._spans.followed == {}


@pytest.fixture
def tracer() -> trace.Tracer:
    return tracer_with(AgentSpanProcessor())


def pairs(captured) -> list[tuple[str, str | None, str | None]]:
    """Return type, agent and the name of the span around it, for each event."""
    events = captured.events
    names = {e.get("span_id"): e.get("agent") or e.get("workflow") for e in events}
    return [(e["event_type"], e.get("agent"), names.get(e.get("parent_id"))) for e in events]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_pair_of_events_for_each_agent(captured, tracer, dialect: str) -> None:
    """An agent or workflow has one pair of events, and no other attribute is stored."""
    attributes, kind, name = DIALECTS[dialect]
    with tracer.start_as_current_span(f"run {SECRET}", attributes=attributes) as span:
        span.add_event("gen_ai.content.prompt", {"gen_ai.prompt": SECRET})
    first, last = captured.events

    assert ["agent.invoked", "workflow.started"][kind == "workflow"] == first["event_type"]
    assert f"{kind}.completed" == last["event_type"]
    assert (name, name) == (first[kind], last[kind])
    assert first["span_id"] == last["span_id"]
    assert ("ok", "otel") == (last["outcome"], last["source"])
    assert set(first) | set(last) <= FIELDS
    assert captured.dropped == captured.undeclared == []


def test_the_example_of_the_class() -> None:
    """The example in the docstring has the correct output."""
    found = doctest.DocTestFinder().find(AgentSpanProcessor, "AgentSpanProcessor")
    (example,) = [test for test in found if test.examples]

    assert doctest.DocTestRunner(verbose=False).run(example).failed == 0


@pytest.mark.parametrize("other", OTHERS)
def test_other_spans_are_not_recorded(captured, tracer, other: str) -> None:
    """Calls of models and tools, chains, tasks and all other spans write no event."""
    with tracer.start_as_current_span("other", attributes=OTHERS[other]):
        pass

    assert captured.events == []


def test_an_agent_inside_of_an_agent(captured, tracer) -> None:
    """The parent of an agent is the agent around it, whatever spans are between the two."""
    with tracer.start_as_current_span("a", attributes=gen_ai("planner")):
        with tracer.start_as_current_span("chat"):
            pass
        with (
            tracer.start_as_current_span("tool"),
            tracer.start_as_current_span("http"),
            tracer.start_as_current_span("b", attributes=gen_ai("coder")),
        ):
            pass

    assert pairs(captured) == NESTED


def test_attributes_that_are_set_later(captured, tracer) -> None:
    """A kind or name that is set after the start counts before the first span inside."""
    with tracer.start_as_current_span("a") as span:
        span.set_attribute("traceloop.span.kind", "agent")
        span.set_attribute("traceloop.entity.name", "planner")
        with tracer.start_as_current_span("chat"):
            assert captured.events[-1]["agent"] == "planner"
        kind = {"traceloop.span.kind": "agent"}
        with tracer.start_as_current_span("b", attributes=kind) as inner:
            inner.set_attribute("traceloop.entity.name", "coder")
            with tracer.start_as_current_span("chat"):
                pass

    assert pairs(captured) == NESTED


def test_attributes_that_are_set_at_the_end(captured, tracer) -> None:
    """A kind that is set at the end gives the same pair, with the duration of the span."""
    with tracer.start_as_current_span("a", attributes=gen_ai("planner")):
        span = tracer.start_span("b", start_time=1_000_000_000)
        with trace.use_span(span), tracer.start_as_current_span("chat"):
            pass
        span.set_attributes({"openinference.span.kind": "AGENT", "agent.name": "coder"})
        span.end(end_time=1_250_000_000)

    assert pairs(captured) == NESTED
    assert captured.events[2]["duration_ms"] == 250


def test_an_agent_that_fails(captured, tracer) -> None:
    """The status of the span decides the outcome. The exception is not stored."""
    with (
        pytest.raises(ValueError, match="jane"),
        tracer.start_as_current_span("a", attributes=gen_ai("planner")),
    ):
        raise ValueError(SECRET)
    span = tracer.start_span("b")
    span.set_attributes({"openinference.span.kind": "AGENT", "agent.name": "coder"})
    span.set_status(trace.StatusCode.ERROR, SECRET)
    span.end()

    assert [(e["event_type"], e.get("outcome")) for e in captured.events] == [
        ("agent.invoked", None),
        ("agent.failed", "error"),
        ("agent.invoked", None),
        ("agent.failed", "error"),
    ]
    assert not any("error_type" in event or "dropped" in event for event in captured.events)


def test_names_that_were_not_declared(captured, tracer) -> None:
    """A name that was not declared is a pseudonym, and one that is no text is dropped."""
    for name in (SECRET, ["planner"], "x" * 2_000):
        with tracer.start_as_current_span("a", attributes=gen_ai(name)):
            pass
    events = captured.events

    assert events[0]["agent"].startswith("h:")
    assert [e.get("dropped") for e in events[2:]] == [1] * 4
    assert not any("agent" in e for e in events[2:])


def test_an_agent_without_a_name(captured, tracer) -> None:
    """An agent without a name does not have that of the agent around it."""
    nameless = {"openinference.span.kind": "AGENT"}
    with (
        tracer.start_as_current_span("a", attributes=gen_ai("planner")),
        tracer.start_as_current_span("b", attributes=nameless),
        tracer.start_as_current_span("c", attributes=gen_ai("coder")),
    ):
        pass

    assert pairs(captured) == [
        ("agent.invoked", "planner", None),
        ("agent.invoked", None, "planner"),
        ("agent.invoked", "coder", None),
        ("agent.completed", "coder", None),
        ("agent.completed", None, "planner"),
        ("agent.completed", "planner", None),
    ]
    assert captured.events[2]["parent_id"] == captured.events[1]["span_id"]
    assert not any("dropped" in event for event in captured.events)


def test_the_role_of_the_session(captured, tracer) -> None:
    """An agent has role and session of the session around it, also of one inside an agent."""
    with (
        role_session("dev"),
        tracer.start_as_current_span("a", attributes=gen_ai("planner")),
        role_session("qa"),
        tracer.start_as_current_span("b", attributes=gen_ai("coder")),
    ):
        pass
    agents = [e for e in captured.events if e["event_type"].startswith("agent")]

    assert [e["role"] for e in agents] == ["dev", "qa", "qa", "dev"]
    assert len({e["session_id"] for e in agents}) == 1


def test_a_tracked_call_around_an_agent(captured, tracer) -> None:
    """The parent of an agent is a tracked call that was opened after the agent around it."""
    with (
        tracer.start_as_current_span("a", attributes=gen_ai("planner")),
        tracks("handoff.clicked", target_agent="coder"),
        tracer.start_as_current_span("b", attributes=gen_ai("coder")),
    ):
        pass
    found = {e["event_type"]: e for e in captured.events if e.get("agent") != "planner"}

    assert found["agent.invoked"]["parent_id"] == found["handoff.clicked"]["span_id"]


def test_an_agent_in_another_thread(captured, tracer) -> None:
    """An agent that another thread starts under the span of the first has its role and parent."""
    with role_session("dev"), tracer.start_as_current_span("a", attributes=gen_ai("planner")) as a:
        around = trace.set_span_in_context(a)
        with ThreadPoolExecutor(1) as pool:
            span = pool.submit(tracer.start_span, "b", around, attributes=gen_ai("coder")).result()
        span.end()

    assert [e["role"] for e in captured.events] == ["dev"] * 5
    assert pairs(captured)[2] == ("agent.invoked", "coder", "planner")


@pytest.mark.parametrize("provider", ["one after the other", "at once", "the same twice"])
def test_two_processors_count_once(captured, provider: str) -> None:
    """A span that two processors see counts once, at its start and at its end."""
    first, second = AgentSpanProcessor(), AgentSpanProcessor()
    options = {}
    if provider == "at once":
        options["active_span_processor"] = ConcurrentMultiSpanProcessor(2)
    tracer = tracer_with(first, first if provider == "the same twice" else second, **options)
    for _ in range(300):
        with tracer.start_as_current_span("a", attributes=gen_ai("planner")):
            late = tracer.start_span("b")
            late.set_attribute("openinference.span.kind", "AGENT")
            late.end()

    assert len(captured.events) == 1_200
    assert len({e["span_id"] for e in captured.events}) == 600


def test_many_threads(captured, tracer) -> None:
    """Agents of many threads, with parents of other threads, have one pair each."""
    with tracer.start_as_current_span("a", attributes=gen_ai("planner")) as root:
        around = trace.set_span_in_context(root)
        ready = threading.Barrier(8)

        def work() -> None:
            ready.wait()
            for _ in range(25):
                tool = tracer.start_span("tool", around)
                inner = trace.set_span_in_context(tool)
                tracer.start_span("b", inner, attributes=gen_ai("coder")).end()
                tool.end()

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: work(), range(8)))
    found = pairs(captured)

    assert found.count(("agent.invoked", "coder", "planner")) == 200
    assert found.count(("agent.completed", "coder", "planner")) == 200


def test_a_span_that_never_ends(captured, tracer) -> None:
    """A span that the host drops is forgotten, and its agent stays without an end."""
    span = tracer.start_span("a", attributes=gen_ai("planner"))
    inner = tracer.start_span("chat", trace.set_span_in_context(span))

    assert len(otel._spans.followed) == 2

    del span, inner
    gc.collect()

    assert otel._spans.followed == {}
    assert [e["event_type"] for e in captured.events] == ["agent.invoked"]


def test_spans_that_end_in_any_order(captured, tracer) -> None:
    """An agent may end before the agents inside. It is no parent of what starts after its end."""
    a = tracer.start_span("a", attributes=gen_ai("planner"))
    around = trace.set_span_in_context(a)
    b = tracer.start_span("b", around, attributes=gen_ai("coder"))
    a.end()
    tracer.start_span("c", around, attributes=gen_ai("coder")).end()
    b.end()

    assert pairs(captured) == [
        ("agent.invoked", "planner", None),
        ("agent.invoked", "coder", "planner"),
        ("agent.completed", "planner", None),
        ("agent.invoked", "coder", None),
        ("agent.completed", "coder", None),
        ("agent.completed", "coder", None),
    ]


class RecordOnly(Sampler):
    """Keeps every span away from exporters, and lets processors see it."""

    def should_sample(
        self, parent, trace_id, name, kind=None, attributes=None, *_
    ) -> SamplingResult:
        return SamplingResult(Decision.RECORD_ONLY, attributes)

    def get_description(self) -> str:
        return "RecordOnly"


@pytest.mark.parametrize(("sampler", "events"), [(ALWAYS_OFF, 0), (RecordOnly(), 2)])
def test_spans_that_a_sampler_rejects(captured, sampler: Sampler, events: int) -> None:
    """A span that is not exported counts. One that the sampler drops is not seen."""
    tracer = tracer_with(AgentSpanProcessor(), sampler=sampler)
    with (
        tracer.start_as_current_span("a"),
        tracer.start_as_current_span("b", attributes=gen_ai("planner")),
    ):
        pass

    assert len(captured.events) == events


def test_spans_of_another_sdk(captured) -> None:
    """A span is read by its public attributes if it has no others."""
    context = trace.SpanContext(1, 2, is_remote=False)
    options = {"start_time": 1_000_000_000, "end_time": 1_010_000_000}
    AgentSpanProcessor().on_end(ReadableSpan("a", context, attributes=gen_ai("planner"), **options))
    AgentSpanProcessor().on_end(ReadableSpan("b", None, attributes={}))

    assert [e["event_type"] for e in captured.events] == ["agent.invoked", "agent.completed"]


class Broken(ReadableSpan):
    """A span whose attributes cannot be read."""

    @property
    def attributes(self):
        raise RuntimeError(SECRET)


def test_an_internal_error(captured, monkeypatch, capfd) -> None:
    """A span that cannot be read raises in tests, and nothing in a program."""
    processor = AgentSpanProcessor()
    with pytest.raises(RuntimeError, match="jane"):
        processor.on_end(Broken("a"))
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    processor.on_start(Broken("a"))
    processor.on_end(Broken("a"))

    assert (captured.events, capfd.readouterr()) == ([], ("", ""))


HOST = """
import os, sys
from opentelemetry.sdk.trace import TracerProvider
from telemetry_kit.integrations.otel import AgentSpanProcessor
provider = TracerProvider()
provider.add_span_processor(AgentSpanProcessor())
tracer = provider.get_tracer("acme")
agent = {"openinference.span.kind": "AGENT", "agent.name": "planner"}
late = tracer.start_span("late")
with tracer.start_as_current_span("run", attributes=agent):
    child = os.fork()
    late.set_attributes(agent)
    late.end()
if child == 0:
    with tracer.start_as_current_span("run", attributes=agent):
        pass
    os._exit(0)
os.waitpid(child, 0)
ours = sorted(name for name in sys.modules if name.startswith("telemetry_kit."))
print(*ours)
"""


def test_a_forked_child(place) -> None:
    """A child records its own agents, and not the end of those that its parent started."""
    done = place.run(HOST)
    events = place.events()

    assert (0, "") == (done.returncode, done.stderr)
    assert sorted(place.types()) == ["agent.completed"] * 3 + ["agent.invoked"] * 3
    assert len({e["span_id"] for e in events}) == 3


def test_nothing_happens_when_off(undecided) -> None:
    """Without consent, no file is made, nothing is printed, and nothing that records is loaded."""
    done = undecided.run(HOST)

    assert (0, "") == (done.returncode, done.stderr)
    assert undecided.tree() == []
    assert set(done.stdout.split()) == {
        *("telemetry_kit._runtime", "telemetry_kit.paths", "telemetry_kit.settings"),
        *("telemetry_kit.integrations", "telemetry_kit.integrations.agent_spans"),
        "telemetry_kit.integrations.otel",
    }
