"""Internal failures change neither the result nor the output of a host program."""

import asyncio
import functools
import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog

from telemetry_kit import (
    capture_events,
    child_environment,
    configure,
    current,
    errors,
    get_logger,
    hash_pii,
    is_telemetry_enabled,
    role_session,
    track_role_event,
    tracks,
)
from telemetry_kit._runtime import runtime
from telemetry_kit.privacy import keys as privacy_keys
from telemetry_kit.recording import pipeline
from telemetry_kit.storage.writer import LogWriter

AGENT = tracks("agent.invoked", agent="worker")


@pytest.fixture
def production(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Simulate a run without pytest. The list gets an entry for each ignored error."""
    swallowed: list[str] = []

    def in_production() -> bool:
        swallowed.append("one")
        return False

    monkeypatch.setattr(errors, "under_pytest", in_production)
    return swallowed


# -- everything that a host does ----------------------------------------------------------------


@AGENT
def plain(value: int) -> int:
    """A function."""
    return value


@AGENT
def generator(value: int) -> Iterator[int]:
    """A generator function."""
    yield value


@AGENT
async def coroutine(value: int) -> int:
    """An async function."""
    await asyncio.sleep(0)
    return value


@AGENT
async def async_generator(value: int) -> Any:
    """An async generator function."""
    yield value


@AGENT
def starter(value: int) -> Any:
    """A plain function that returns a coroutine."""
    return coroutine.__wrapped__(value)


@role_session("dev", workflow="release")
def inside(value: int) -> int:
    """A function in a session."""
    return value


proxied = AGENT(functools.partial(plain.__wrapped__, 7))


def block(value: int) -> int:
    """A session and a span as blocks, with calls of other functions inside."""
    with role_session("qa", command="build", workflow="x"), AGENT as call:
        call.set(context={"x": 1}, exit_code=3)
        current()
        is_telemetry_enabled()
        track_role_event("handoff.clicked", source_agent="a", target_agent="b")
        return value


def child(value: int) -> int:
    """The variables for a child process."""
    with role_session("dev"):
        child_environment()
    return value


async def _first(asynchronous: Any) -> Any:
    return await anext(asynchronous)


HOST: dict[str, Callable[[], Any]] = {
    "function": lambda: plain(7),
    "generator": lambda: next(iter(list(generator(7)))),
    "coroutine": lambda: asyncio.run(coroutine(7)),
    "async generator": lambda: asyncio.run(_first(async_generator(7))),
    "returned coroutine": lambda: asyncio.run(starter(7)),
    "session": lambda: inside(7),
    "proxy": lambda: proxied(),
    "block": lambda: block(7),
    "child": lambda: child(7),
    "one event": lambda: (track_role_event("agent.invoked", agent="alice") and 7) or 7,
    "logger": lambda: (get_logger().bind(role="x").info("agent.invoked", agent="alice") and 7) or 7,
}


def _raise(error: type[BaseException]) -> Callable[..., Any]:
    def broken(*_: Any, **__: Any) -> Any:
        raise error("alice@example.com")

    return broken


BROKEN: dict[str, Callable[[pytest.MonkeyPatch, type[Exception]], None]] = {
    "the hasher": lambda patch, e: patch.setattr(privacy_keys.Key, "pseudonym", _raise(e)),
    "the sink": lambda patch, e: patch.setattr(LogWriter, "append", _raise(e)),
    "opening the sink": lambda patch, e: patch.setattr(LogWriter, "open", _raise(e)),
    "randomness": lambda patch, e: patch.setattr(runtime, "random", _raise(e)),
    "the wall clock": lambda patch, e: patch.setattr(runtime, "now", _raise(e)),
    "the key": lambda patch, e: patch.setattr(privacy_keys, "load", _raise(e)),
    "encoding": lambda patch, e: patch.setattr(pipeline, "encode", _raise(e)),
    **{
        f"the step {step.__name__}": lambda patch, e, at=at: patch.setattr(
            pipeline,
            "PROCESSORS",
            (*pipeline.PROCESSORS[:at], _raise(e), *pipeline.PROCESSORS[at + 1 :]),
        )
        for at, step in enumerate(pipeline.PROCESSORS)
    },
}


@pytest.mark.parametrize("error", [ZeroDivisionError, OSError])
@pytest.mark.parametrize("part", BROKEN)
def test_internal_failures_do_not_change_the_result(
    place: Any,
    production: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    part: str,
    error: type[Exception],
) -> None:
    """If any internal part raises, the host's result, output and logs are the same."""
    with configure(context={"x": "measure"}):
        BROKEN[part](monkeypatch, error)
        found = {name: call() for name, call in HOST.items()}

    assert dict.fromkeys(HOST, 7) == found
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert not current()


@pytest.mark.parametrize("kind", HOST)
def test_the_hosts_own_exception_is_raised(
    place: Any, production: list[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The host's own exception is raised, even if recording fails in the same call."""

    @AGENT
    def failing() -> None:
        raise LookupError("theirs")

    BROKEN["the sink"](monkeypatch, ZeroDivisionError)
    with pytest.raises(LookupError, match="theirs") as raised:
        failing()

    assert raised.value.__context__ is None
    assert raised.value.__cause__ is None


def test_under_pytest_internal_errors_are_raised(
    place: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under pytest an internal error is raised, so the users' tests detect it."""
    BROKEN["the hasher"](monkeypatch, ZeroDivisionError)
    for name in ("one event", "function", "block", "logger"):
        with pytest.raises(ZeroDivisionError):
            track_role_event("agent.invoked", agent="x") if name == "function" else HOST[name]()


# -- hostile values -----------------------------------------------------------------------------


class Hostile:
    """An object whose every method raises."""

    def _refuse(self, *_: object) -> Any:
        raise RuntimeError("alice@example.com")

    __str__ = __repr__ = __eq__ = __hash__ = __len__ = __bool__ = __iter__ = __format__ = _refuse
    __int__ = __float__ = __index__ = items = keys = __getitem__ = __contains__ = _refuse


class HostileClass(Hostile):
    """An object whose `__class__` raises."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("alice@example.com")


class HostileText(str):
    """A text whose every method raises."""

    __str__ = __repr__ = __eq__ = __len__ = __bool__ = encode = Hostile._refuse
    isascii = isprintable = startswith = Hostile._refuse

    def __hash__(self) -> int:
        return str.__hash__(self)


class HostileMapping(dict):  # type: ignore[type-arg]
    """A mapping whose every method raises."""

    items = keys = values = __iter__ = __len__ = __getitem__ = __bool__ = get = Hostile._refuse


def _itself() -> dict[str, Any]:
    circle: dict[str, Any] = {}
    circle["x"] = circle
    return circle


VALUES: dict[str, Callable[[], Any]] = {
    "refuses everything": Hostile,
    "refuses even its class": HostileClass,
    "text that refuses": lambda: HostileText("alice@example.com"),
    "mapping that refuses": lambda: HostileMapping(x=1),
    "50 MB": lambda: "alice@example.com" * 3_000_000,
    "50 MB of bytes": lambda: b"alice@example.com" * 3_000_000,
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "huge": lambda: 10**5000,
    "bytes": lambda: b"alice@example.com",
    "itself": _itself,
    "lone surrogate": lambda: "\ud800alice@example.com",
    "NUL": lambda: "alice@example.com\0",
    "newline": lambda: "alice@example.com\n{}",
    "nested": lambda: [[[{"x": Hostile()}]]],
    "a class": lambda: Hostile,
    "a module": lambda: asyncio,
}


@pytest.mark.parametrize("value", VALUES)
def test_hostile_values(
    production: list[str], capfd: pytest.CaptureFixture[str], value: str
) -> None:
    """A hostile value of a name or a context raises nothing and damages no line."""
    hostile = VALUES[value]()
    declared = configure(context={"x": "identifier", "n": "measure", "f": "flag"})
    with capture_events() as captured, declared, role_session(hostile, command=hostile):
        with tracks("command.executed", command=hostile, agent=hostile) as call:
            call.set(context={"x": hostile, "n": hostile, "f": hostile})
            call.set(context=hostile, exit_code=hostile)
        track_role_event("agent.invoked", agent=hostile, context={"x": hostile})
        track_role_event("agent.invoked", context=hostile)
        track_role_event(hostile, role=hostile)
        get_logger().info("agent.invoked", hostile, agent=hostile, context={"x": hostile})
        get_logger().bind(agent=hostile).info(hostile)

    assert capfd.readouterr() == ("", "")
    assert b"alice" not in b"".join(captured.lines)
    # If the type of the event cannot be read, the event is not recorded.
    assert value == "refuses even its class" or len(captured.events) == 6
    assert value == "refuses even its class" or production == []


@pytest.mark.parametrize("value", [v for v in VALUES if "50 MB" not in v])
def test_hostile_project_directories(
    place: Any, production: list[str], capfd: pytest.CaptureFixture[str], value: str
) -> None:
    """If the directory is not a valid name, nothing is recorded."""
    hostile = VALUES[value]()
    with role_session("dev", project_root=hostile):
        pass
    with tracks("agent.invoked", project_root=hostile):
        pass
    track_role_event("agent.invoked", project_root=hostile)

    assert capfd.readouterr() == ("", "")
    assert place.events() == []


@pytest.mark.parametrize("name", ["event", "self", "level", "timestamp", "method_name", "args"])
def test_field_names(name: str) -> None:
    """Names with a meaning in Python, structlog or our package work like any other name."""
    with capture_events() as captured, configure(context={name: "measure"}):
        track_role_event("agent.invoked", context={name: 3})
        get_logger().info("agent.invoked", context={name: 3})
        with AGENT as call:
            call.set(context={name: 3})
        logger = get_logger()
        logger.bind(**{name: 3}).info("agent.invoked")
        if name != "event":
            logger.new(**{name: 3}).info("agent.invoked", **{name: 3})
    kept = [e["context"] for e in captured.events if "context" in e]
    last = captured.events[-1]

    assert [{name: 3}] * 3 == kept
    assert last["event_type"] == "agent.invoked"
    assert len(last["timestamp"]) == 20


def test_arguments_are_never_read(place: Any) -> None:
    """Arguments, results and exceptions pass through unread."""

    @AGENT
    def work(argument: Any, *rest: Any, **more: Any) -> Any:
        return argument

    hostile = Hostile()

    assert work(hostile, hostile, self=hostile, event=hostile, function=hostile) is hostile


# -- a host that reconfigures its surroundings ------------------------------------------------


def test_the_hosts_structlog(place: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """The host's structlog configuration never affects our events."""
    host_events: list[Any] = []
    before = get_logger()
    seen: list[Any] = []

    def configured(**options: Any) -> None:
        structlog.configure(**options)
        for logger in (before, get_logger()):
            seen.append(logger.info("agent.invoked"))

    try:
        configured(processors=[_raise(ZeroDivisionError)])
        configured(processors=[lambda *a: host_events.append(a)], cache_logger_on_first_use=True)
        configured(wrapper_class=structlog.BoundLogger, context_class=HostileMapping)
        configured(logger_factory=_raise(ZeroDivisionError))
        structlog.contextvars.bind_contextvars(role="alice@example.com")
        with structlog.testing.capture_logs() as logs:
            before.info("agent.invoked")
    finally:
        structlog.contextvars.clear_contextvars()
        structlog.reset_defaults()

    assert len(place.events()) == 9
    assert None not in seen
    assert [] == host_events == logs
    assert not any("role" in e for e in place.events())
    assert capfd.readouterr() == ("", "")
    assert not structlog.is_configured()


def test_the_hosts_logging(place: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """The host's logging configuration never affects our events, and its log has none."""

    class Broken(logging.Handler):
        emit = _raise(ZeroDivisionError)

    handler = Broken()
    root = logging.getLogger()
    root.addHandler(handler)
    level = root.level
    root.setLevel(0)
    try:
        found = [call() for call in list(HOST.values())[:1]]
        logging.disable()
        plain(7)
    finally:
        logging.disable(logging.NOTSET)
        root.setLevel(level)
        root.removeHandler(handler)

    assert found == [7]
    assert len(place.events()) == 4
    assert capfd.readouterr() == ("", "")


def test_warnings_are_errors(place: Any) -> None:
    """Recording emits no warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = {name: call() for name, call in HOST.items()}

    assert dict.fromkeys(HOST, 7) == found


STREAMS = """
import sys
from telemetry_kit import *
{before}
@tracks("agent.invoked")
def work(value):
    return value

@tracks("agent.invoked")
def steps(value):
    yield value

with role_session("dev"):
    assert work(7) == 7
    assert list(steps(7)) == [7]
    assert get_logger().info("agent.invoked")
{after}
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("sys.stdout = sys.stderr = sys.stdin = None", ""),
        ("sys.stdout.close()", "sys.stdout = None"),
        ("import os; os.close(1); os.close(2)", "sys.stdout = sys.stderr = None"),
        ("sys.excepthook = sys.unraisablehook = None", ""),
        ("import builtins; builtins.print = None", ""),
        ("sys.modules['json'] = sys.modules['logging'] = None", ""),
        ("kept = steps = None", "kept = steps(1); next(kept)"),
        ("import atexit; atexit.register(lambda: work(7))", ""),
        ("class End:\n    def __del__(self): work(7)", "end = End(); End.me = end"),
        ("import threading", "threading.Thread(target=work, args=(7,)).start()"),
        ("sys.settrace(lambda *a: None); sys.setprofile(lambda *a: None)", ""),
    ],
)
def test_odd_processes(place: Any, before: str, after: str) -> None:
    """Closed streams, missing modules and late calls cause no output and no failure."""
    if "sys.modules['json']" in before:
        # structlog needs these modules. The direct driver does not.
        code = STREAMS.replace('    assert get_logger().info("agent.invoked")\n', "")
    else:
        code = STREAMS
    done = place.run(code.format(before=before, after=after))

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert len(place.events()) >= 5


# -- no recursion -------------------------------------------------------------------------------


def test_a_processor_that_calls_a_decorated_function(place: Any) -> None:
    """Nothing that a processor of the host does is recorded, and its event is recorded once."""
    loggers: list[Any] = []

    @AGENT
    def decorated() -> None:
        loggers[0].info("handoff.clicked")

    def processor(_logger: Any, _method: str, event: Any) -> Any:
        decorated()
        loggers[0].info("handoff.clicked")
        return event

    loggers.append(get_logger(processors=[processor]))
    record = loggers[0].info("command.executed")

    assert record["event_type"] == "command.executed"
    assert place.types() == ["command.executed"]

    decorated()

    assert place.types()[1:] == ["agent.invoked", "handoff.clicked", "agent.completed"]


def test_a_processor_gets_the_hosts_event(place: Any) -> None:
    """A processor gets only the host's event. It may replace it, drop it or fail."""
    seen: list[Any] = []

    def replace(_logger: Any, _method: str, event: Any) -> Any:
        seen.append(dict(event))
        return {"event": "agent.started", "agent": "x"}

    def drop(_logger: Any, _method: str, event: Any) -> Any:
        raise structlog.DropEvent

    get_logger(processors=[replace]).info("agent.invoked", role="dev")
    get_logger(processors=[drop]).info("agent.invoked")

    assert seen == [{"event": "agent.invoked", "role": "dev"}]
    assert place.types() == ["agent.started"]


def test_a_failing_processor_of_the_host(place: Any, production: list[str]) -> None:
    """If a processor of the host fails, the event is lost and the next logger works."""
    failing = get_logger(processors=[_raise(ZeroDivisionError)])

    assert failing.info("agent.invoked") is None
    assert get_logger().info("agent.invoked") is not None


def test_a_signal_handler_that_records_inside_the_pipeline(place: Any) -> None:
    """A signal handler that records during a recording writes a complete event."""

    def random(size: int) -> bytes:
        if not handled:
            handled.append(size)
            signal.raise_signal(signal.SIGUSR1)
        return bytes(size)

    def handler(*_: Any) -> None:
        plain(7)
        get_logger().info("handoff.clicked")

    handled: list[int] = []
    before = signal.signal(signal.SIGUSR1, handler)
    runtime.random = random
    try:
        track_role_event("command.executed")
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert place.types()[:3] == ["agent.invoked", "agent.completed", "handoff.clicked"]
    assert place.types()[-1] == "command.executed"


def test_a_garbage_collection_that_records_inside_the_pipeline(place: Any) -> None:
    """A `__del__` method that records during a recording writes a complete event."""
    import gc

    class Ending:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            plain(7)

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        for _ in range(20):
            Ending()
            track_role_event("command.executed", agent="x")
    finally:
        gc.set_threshold(*threshold)

    assert place.types().count("command.executed") == 20
    assert place.types().count("agent.invoked") == place.types().count("agent.completed") > 0


def test_hash_pii_raises_on_an_invalid_value() -> None:
    """`hash_pii` raises on an invalid value, because that is a mistake in the host's code."""
    with pytest.raises(TypeError, match="two strings"):
        hash_pii(7, field="agent")  # type: ignore[arg-type]
    with capture_events():
        assert len(hash_pii("alice", field="agent")) == 12
