"""The structlog driver and the direct driver write the same bytes."""

import asyncio
import itertools
import json
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit import get_logger, role_session, tracks
from telemetry_kit.consent import cache
from telemetry_kit.consent.policy import decide
from telemetry_kit.errors import Refused
from telemetry_kit.recording import pipeline, recorder
from telemetry_kit.schema import catalog
from telemetry_kit.storage.writer import LogWriter

NAMES = ("role", "command", "agent", "workflow", "source_agent", "target_agent")
TEXT = st.text(st.characters(codec=None, categories=None), max_size=40)
VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.binary(max_size=8)
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys((*NAMES, "previous_role"), TEXT | VALUES),
        "outcome": st.sampled_from([*catalog.OUTCOMES, "other"]),
        "exit_code": st.integers(-5, 300) | VALUES,
        "duration_ms": st.floats(0, 1e9) | VALUES,
        "context": VALUES
        | st.dictionaries(st.sampled_from(["f", "m", "t", "k", "event", "self"]) | TEXT, VALUES),
        "unknown": VALUES,
    },
)


@pytest.fixture(autouse=True)
def _hosts_structlog() -> Iterator[None]:
    """Reset structlog and its context variables before and after each test."""
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(place, drive) -> list[bytes]:
    """Return the lines that `drive()` writes with fixed ids, sequence numbers and clocks."""
    before = len(place.lines())
    numbers = itertools.count(1)

    def random(size: int) -> bytes:
        return next(numbers).to_bytes(size, "big")

    with cache.override_runtime(place.environ, place.clock, place.now, random):
        recorder.recorder_for().sequence = itertools.count(7)
        drive()
    return place.lines()[before:]


def as_logged(name: str, fields: dict) -> dict:
    """Return the event of a logger, for the direct driver."""
    return {"event": name, **fields, pipeline.METADATA: pipeline.EventMetadata("logger")}


@given(st.sampled_from(list(catalog.EVENTS)), FIELDS)
def test_same_bytes(place, name: str, fields: dict) -> None:
    """`run()` and `get_logger()` write the same line for the same event."""
    with place.configure(
        context={"f": "flag", "m": "measure", "t": ["a", "b"], "k": "identifier", "event": "flag"}
    ):
        log = get_logger()
        direct = lines(place, lambda: pipeline.run(as_logged(name, fields)))
        through_structlog = lines(place, lambda: log.info(name, **fields))
        bound = lines(place, lambda: log.bind(**fields).info(name))

    assert len(direct) == 1
    assert direct == through_structlog == bound


@given(st.lists(st.sampled_from(["dev", "qa", "somebody"]), max_size=4))
def test_same_bytes_in_a_session(place, roles: list[str]) -> None:
    """Inside sessions and spans both drivers inherit the same fields."""

    def within(emit) -> None:
        from contextlib import ExitStack

        with ExitStack() as stack:
            for role in roles:
                stack.enter_context(role_session(role, command="/c"))
                stack.enter_context(tracks("agent.invoked"))
            emit("handoff.clicked")

    log = get_logger()
    direct = lines(place, lambda: within(lambda name: pipeline.run(as_logged(name, {}))))
    through_structlog = lines(place, lambda: within(log.info))

    assert 4 * len(roles) - len(roles) + 1 == len(direct)
    assert direct == through_structlog


@pytest.mark.parametrize("name", ["agent.invokd", "", "x" * 5000, None, 3, object()])
def test_both_refuse_an_unknown_event(place, name: object) -> None:
    """For an unknown event `run()` raises `Refused` and the logger returns None."""
    with pytest.raises(Refused):
        pipeline.run({"event": name})

    assert None is get_logger().info(name)
    assert place.lines() == []


def test_the_logger_returns_the_record(place) -> None:
    """The logger returns the record that it wrote, or None if it wrote none."""
    record = get_logger().info("agent.invoked", agent="x")
    place.environ["DO_NOT_TRACK"] = "1"

    assert [record] == place.events()
    assert None is get_logger().info("agent.invoked", agent="x")


def test_logger_is_silent_when_off(undecided, capfd) -> None:
    """While recording is off, the logger writes no file and prints nothing."""
    assert None is get_logger().info("agent.invoked")
    assert (undecided.tree(), tuple(capfd.readouterr())) == ([], ("", ""))


@pytest.mark.parametrize(
    "level", ["debug", "info", "warning", "error", "critical", "exception", "fatal", "msg", "warn"]
)
def test_level_methods(place, level: str) -> None:
    """Every level method records the event. Levels and tracebacks are not stored."""
    log = get_logger()
    try:
        raise ValueError("secret-jane")
    except ValueError:
        record = getattr(log, level)("agent.invoked", role="dev")

    assert record is not None
    assert "level" not in record
    assert b"secret-jane" not in place.log.read_bytes()


@pytest.mark.parametrize("level", ["adebug", "ainfo", "awarning", "aerror"])
def test_async_level_methods(place, level: str) -> None:
    """The awaitable level methods record the event."""

    async def main() -> object:
        return await getattr(get_logger(), level)("agent.invoked", role="dev")

    assert [asyncio.run(main())] == place.events()


# -- the host's structlog ------------------------------------------------------------------------


def explode(*_: object) -> None:
    """Fail as a processor of the host that our events must not run."""
    raise AssertionError("the host's processor ran")


class Explosive:
    """A logger class of the host that our events must not use."""

    def __init__(self, *_: object, **__: object) -> None:
        raise AssertionError("the host's class was used")


def hostile() -> None:
    """Configure structlog so that any use of the host's settings fails."""
    structlog.configure(
        processors=[explode],
        wrapper_class=Explosive,
        context_class=Explosive,
        logger_factory=Explosive,
        cache_logger_on_first_use=False,
    )


@pytest.mark.parametrize("when", ["before", "between", "after"])
def test_the_hosts_configuration_does_not_matter(place, when: str) -> None:
    """The host can configure structlog at any time without changing our events."""
    if when == "before":
        hostile()
    log = get_logger()
    if when == "between":
        hostile()
    first = log.info("agent.invoked", role="dev")
    if when == "after":
        hostile()
    second = log.bind(role="qa").info("agent.invoked")

    assert first is not None
    assert second is not None
    assert [event["role"] for event in place.events()] == ["dev", "qa"]


def test_the_hosts_configuration_is_unchanged(place) -> None:
    """Recording an event leaves the host's structlog configuration as it was."""
    get_logger().info("agent.invoked")
    assert not structlog.is_configured()
    structlog.configure(processors=[explode])
    before = structlog.get_config()
    get_logger().bind(role="dev").info("agent.invoked")

    assert before == structlog.get_config()
    assert [explode] == structlog.get_config()["processors"]


def test_reset_defaults(place) -> None:
    """Recording works after the host resets structlog."""
    hostile()
    log = get_logger()
    structlog.reset_defaults()

    assert log.info("agent.invoked")
    assert not structlog.is_configured()


def test_capture_logs(place) -> None:
    """`structlog.testing.capture_logs()` catches the host's events and none of ours."""
    log = get_logger()
    with structlog.testing.capture_logs() as caught:
        record = log.info("agent.invoked")
        structlog.get_logger().info("theirs")

    assert (["theirs"], [record]) == ([entry["event"] for entry in caught], place.events())


def test_context_variables_of_the_host_are_ignored(place) -> None:
    """An event ignores the host's context variables and does not count them as dropped."""
    with structlog.contextvars.bound_contextvars(email="jane@example.org", role="qa", user="jane"):
        record = get_logger().info("agent.invoked")

    assert record is not None
    assert not {"role", "email", "user", "dropped"} & set(record)
    assert b"jane" not in place.log.read_bytes()


def test_bound_fields_of_the_host_are_ignored(place) -> None:
    """An event ignores the fields that the host binds to a logger of its own."""
    log = get_logger()
    with structlog.testing.capture_logs():
        structlog.get_logger().bind(role="qa")

    assert "role" not in (log.info("agent.invoked") or {})


def test_the_hosts_logger_factory_is_not_used(place) -> None:
    """An event calls no logger factory of the host."""
    made = []

    def factory(*_: object) -> structlog.PrintLogger:
        made.append(1)
        return structlog.PrintLogger()

    structlog.configure(logger_factory=factory)
    log = get_logger()

    assert log.info("agent.invoked")
    assert made == []


def test_nothing_is_printed(place, capfd) -> None:
    """The logger writes an event to the log and prints nothing."""
    get_logger().error("agent.invoked", role="dev")

    assert tuple(capfd.readouterr()) == ("", "")


def test_the_hosts_logger_still_works(place) -> None:
    """The host's own logger runs its own processors, even between two of our events."""
    seen = []

    def keep(_logger: object, _method: str, event: dict) -> dict:
        seen.append(dict(event))
        raise structlog.DropEvent

    structlog.configure(processors=[keep])
    log = get_logger()
    log.info("agent.invoked")
    structlog.get_logger().info("theirs", a=1)
    log.info("agent.invoked")

    assert (seen, len(place.lines())) == ([{"event": "theirs", "a": 1}], 2)


# -- idioms ------------------------------------------------------------------------------------


def test_bind_and_new_and_unbind(place) -> None:
    """`bind()` adds fields, `unbind()` removes them, and `new()` starts with none."""
    log = get_logger()
    bound = log.bind(role="dev", command="/c")
    events = [
        bound.info("agent.invoked"),
        bound.unbind("command").info("agent.invoked"),
        bound.try_unbind("command", "nothing").info("agent.invoked"),
        bound.new(role="qa").info("agent.invoked"),
        log.info("agent.invoked"),
    ]

    assert [(e and e.get("role"), "command" in (e or {})) for e in events] == [
        ("dev", True),
        ("dev", False),
        ("dev", False),
        ("qa", False),
        (None, False),
    ]


@pytest.mark.parametrize("driver", ["direct", "structlog"])
@pytest.mark.parametrize(("refusals", "attempts"), [(1, 2), (50, 51), (1_000, 51)])
def test_a_log_that_is_replaced(
    place, monkeypatch, driver: str, refusals: int, attempts: int
) -> None:
    """If the log was replaced, the driver decides consent again and retries up to 50 times."""
    append, events, decisions = LogWriter.append, 0, []

    def replaced(writer: LogWriter, line: bytes) -> bool:
        nonlocal events
        events += 1
        return events > refusals and append(writer, line)

    def record() -> object:
        if driver == "direct":
            return pipeline.emit({"event": "agent.invoked", "agent": "x"})
        return get_logger().info("agent.invoked", agent="x")

    record()
    monkeypatch.setattr(LogWriter, "append", replaced)
    monkeypatch.setattr(cache, "decide", lambda *a: decisions.append(a) or decide(*a))
    found = record()

    assert (attempts, attempts - 1) == (events, len(decisions))
    assert place.events()[1:] == [found] * (refusals <= 50)


def test_fields_of_the_call_replace_bound_ones(place) -> None:
    """A field of the call replaces the bound field for this event."""
    log = get_logger().bind(role="dev")

    assert [
        (log.info("agent.invoked", role="qa") or {})["role"],
        (log.info("agent.invoked") or {})["role"],
    ] == ["qa", "dev"]


def test_context_takes_any_key(place) -> None:
    """A key of the nested `context` may be named event, self or method_name."""
    keys = {"event": "flag", "self": "measure", "method_name": ["x"]}
    given_ = {"event": True, "self": 3, "method_name": "x"}
    with place.configure(context=keys):
        record = get_logger().info("agent.invoked", context=given_)

    assert record is not None
    assert given_ == record["context"]


@pytest.mark.parametrize("name", ["event", "self", "method_name", "level", "_metadata", "name"])
def test_keywords_that_structlog_uses(place, name: str) -> None:
    """A field named like an argument of structlog raises nothing."""
    try:
        get_logger().info("agent.invoked", **{name: "secret-jane"})
        get_logger().bind(**{name: "secret-jane"}).info("agent.invoked")
    except TypeError as error:
        pytest.fail(f"{name}: {error}")

    assert b"secret-jane" not in b"".join(place.lines())


@pytest.mark.parametrize("arguments", [("%s", "x"), ("x", 1, 2), ({"a": 1},)])
def test_positional_arguments_are_not_formatted(place, arguments: tuple) -> None:
    """Positional arguments are ignored, not formatted into a field."""
    get_logger().info("agent.invoked", *arguments)

    assert all(event["event_type"] == "agent.invoked" for event in place.events())


def test_processors_of_the_host_run_where_recording_is_on(place) -> None:
    """The host's processors run after `check_consent`. Validation covers what they add."""
    seen = []

    def add(_logger: object, method: str, event: dict) -> dict:
        seen.append(method)
        return {**event, "role": "qa", "level": method, "timestamp": "now", "user": "jane"}

    record = get_logger(processors=[add]).warning("agent.invoked")

    assert record is not None
    assert (seen, record["role"], record["dropped"]) == (["warning"], "qa", 3)
    assert ("level" in record, "2024-02-28T00:00:00Z") == (False, record["timestamp"])
    assert b"jane" not in place.log.read_bytes()


def test_structlogs_own_processors(place) -> None:
    """Level, timestamp and exception info from structlog are dropped and counted."""
    log = get_logger(
        processors=[structlog.processors.add_log_level, structlog.processors.TimeStamper("iso")]
    )
    record = log.info("agent.invoked", role="dev")

    assert record is not None
    assert (record["dropped"], record["role"]) == (2, "dev")


def test_processors_do_not_run_where_recording_is_off(undecided) -> None:
    """While recording is off, the host's processors do not run."""
    assert None is get_logger(processors=[explode]).info("agent.invoked")


def test_a_processor_may_drop(place) -> None:
    """If a processor of the host raises `DropEvent`, nothing is written."""

    def drop(*_: object) -> dict:
        raise structlog.DropEvent

    assert None is get_logger(processors=[drop]).info("agent.invoked")
    assert place.lines() == []


def test_a_failing_processor_of_the_host(place) -> None:
    """In production a failing processor loses the event and raises nothing."""
    done = place.run(
        "from telemetry_kit import get_logger\n"
        "def broken(*_): raise ZeroDivisionError\n"
        "print(get_logger(processors=[broken]).info('agent.invoked'))"
    )

    assert (done.stdout, done.stderr) == ("None\n", "")


def test_a_processor_that_logs_through_us(place) -> None:
    """A processor of the host that records an event causes no endless recursion."""
    log = None

    def again(_logger: object, _method: str, event: dict) -> dict:
        if log is not None:
            log.info("handoff.clicked")
        return event

    log = get_logger(processors=[again])
    log.info("agent.invoked")

    assert "agent.invoked" in place.types()
    assert len(place.lines()) <= 2


def test_metadata_cannot_be_forged(place) -> None:
    """Neither a caller nor a processor of the host can forge the metadata of an event."""

    def forge(_logger: object, _method: str, event: dict) -> dict:
        event["_metadata"] = "forged"
        event["event_id"] = "forged"
        return event

    record = get_logger(processors=[forge]).info("agent.invoked", _metadata="x")

    assert record is None or b"forged" not in place.log.read_bytes()
    assert record is None or record["source"] == "logger"


def test_many_tasks(place) -> None:
    """One logger shared by many tasks writes each task's own event."""
    log = get_logger()

    async def work(n: int) -> None:
        await asyncio.sleep(0)
        log.bind(role="dev").info("agent.invoked", agent=f"a{n}")

    async def main() -> None:
        await asyncio.gather(*(work(n) for n in range(20)))

    asyncio.run(main())

    assert len({json.dumps(e["agent"]) for e in place.events()}) == 20
