"""Spans of one object that many threads and tasks enter, and signals at any place."""

import asyncio
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from telemetry_kit import capture_events, context, current, role_session, track_role_event, tracks
from telemetry_kit.testing import Captured
from tests.instrumentation.scopes_helpers import AlarmError, Interrupted, SignalAt, Turns

MAKERS: dict[str, Callable[[], Any]] = {
    "tracks": lambda: tracks("agent.invoked"),
    "session": lambda: role_session("dev", workflow="w"),
}
EVENTS = {
    "tracks": ["agent.invoked", "agent.completed"],
    "session": ["role.selected", "workflow.started", "workflow.completed"],
}

# -- one object in many threads and tasks --------------------------------------------------------


@pytest.fixture
def frequent_switches() -> Iterator[None]:
    """Switch between threads as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.parametrize("made", MAKERS)
def test_eight_threads(captured: Captured, frequent_switches: None, made: str) -> None:
    """Eight threads enter one object 600 times each, and none sees a scope of another one."""
    shared = MAKERS[made]()
    wrong: list[object] = []

    def enter() -> None:
        for _ in range(600):
            with shared:
                time.sleep(0)
            wrong.extend({context.variable.get()} - {None})

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    events = captured.events
    spans = Counter(e["span_id"] for e in events if "span_id" in e)

    assert wrong == []
    assert Counter(e["event_type"] for e in events) == dict.fromkeys(EVENTS[made], 4800)
    assert set(spans.values()) == {2}
    assert not any("parent_id" in e for e in events)
    assert not shared._entered


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("made", MAKERS)
def test_forced_switches(captured: Captured, made: str, seed: int) -> None:
    """Each thread has its own entries, at whatever lines the threads are switched."""
    shared = MAKERS[made]()
    ends: list[object] = []

    def enter() -> None:
        for _ in range(3):
            with shared:
                outer = current()
                with shared:
                    assert current() is not outer
                assert current() is outer
                track_role_event("handoff.clicked")
            ends.append(context.variable.get())

    turns = Turns(seed)
    turns.run([enter] * 4)
    events = captured.events
    starts = [e for e in events if e["event_type"] == EVENTS[made][-2]]
    ended = [e["span_id"] for e in events if e["event_type"] == EVENTS[made][-1]]
    outer = {e["span_id"] for e in starts if "parent_id" not in e}

    assert turns.errors == []
    assert ends == [None] * 12
    assert sorted(ended) == sorted(e["span_id"] for e in starts)
    assert (len(starts), len(outer)) == (24, 12)
    assert outer == {e["parent_id"] for e in events if e["event_type"] == "handoff.clicked"}
    assert not shared._entered


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("made", MAKERS)
def test_forced_switches_while_recording_goes_on_and_off(made: str, seed: int) -> None:
    """Entries that are recorded and entries that are not end in the right order."""
    shared = MAKERS[made]()
    found: list[object] = []

    def enter() -> None:
        for _ in range(4):
            with shared:
                outer = current()
                with shared:
                    pass
                found.append(current() is outer)
            found.append(context.variable.get() is None)

    def switch() -> None:
        for _ in range(12):
            with capture_events():
                with tracks("agent.invoked"):
                    pass
                with shared:
                    pass

    turns = Turns(seed)
    turns.run([enter, enter, enter, switch])

    assert turns.errors == []
    assert found == [True] * 24
    assert not shared._entered


@pytest.mark.parametrize("made", MAKERS)
def test_not_recorded_inside_a_recorded_entry(made: str) -> None:
    """The end of an entry that is not recorded does not end the recorded one around it."""
    shared = MAKERS[made]()
    with capture_events() as captured:
        shared.__enter__()
        outer = current()
    with shared:
        pass
    with capture_events() as later:
        inside = current()
        shared.__exit__(None, None, None)

    assert outer is inside
    assert [e["event_type"] for e in captured.events + later.events] == EVENTS[made]
    assert not current()


@pytest.mark.parametrize("made", MAKERS)
def test_tasks_and_nested_entries(captured: Captured, made: str) -> None:
    """Interleaved tasks that enter one object twice each leave no scope and share no parent."""
    shared = MAKERS[made]()

    async def task(number: int) -> None:
        for step in range(10):
            async with shared:
                outer = current()
                await asyncio.sleep(0)
                with shared:
                    for _ in range((number + step) % 3):
                        await asyncio.sleep(0)
                assert current() is outer
            assert not current()

    async def main() -> None:
        await asyncio.gather(*(task(number) for number in range(8)))

    asyncio.run(main())
    starts = [e for e in captured.events if e["event_type"] == EVENTS[made][-2]]
    parents = [e["parent_id"] for e in starts if "parent_id" in e]

    assert len(starts) == 160
    assert len(set(parents)) == len(parents) == 80
    assert not shared._entered


# -- signals -------------------------------------------------------------------------------------


def body() -> None:
    """Do nothing, in a call: at the latest there Python handles a signal."""


async def async_body() -> None:
    """Do the same as a coroutine."""


def generator_body() -> Iterator[None]:
    """Do the same as a generator."""
    yield


async def async_generator_body() -> Any:
    """Do the same as an async generator."""
    yield


def drive(made: Any) -> None:
    """Run an awaitable that does not wait."""
    try:
        made.send(None)
    except (StopIteration, StopAsyncIteration):
        pass


def by_block(shared: Any) -> Callable[[], None]:
    def run() -> None:
        with shared:
            body()

    return run


def by_nested_blocks(shared: Any) -> Callable[[], None]:
    def run() -> None:
        with shared:
            with shared:
                body()
            body()

    return run


def by_async_block(shared: Any) -> Callable[[], None]:
    async def block() -> None:
        async with shared:
            body()

    return lambda: drive(block())


def by_function(shared: Any) -> Callable[[], None]:
    function: Callable[[], None] = shared(body)
    return function


def by_coroutine(shared: Any) -> Callable[[], None]:
    function = shared(async_body)
    return lambda: drive(function())


def by_generator(shared: Any) -> Callable[[], None]:
    function = shared(generator_body)
    return lambda: [*function()] and None


def by_async_generator(shared: Any) -> Callable[[], None]:
    function = shared(async_generator_body)

    def run() -> None:
        made = function()
        drive(made.asend(None))
        drive(made.asend(None))

    return run


FORMS = [by_block, by_async_block, by_function, by_coroutine, by_generator, by_async_generator]
CASES = [*((made, form) for made in MAKERS for form in FORMS), ("tracks", by_nested_blocks)]


@pytest.fixture
def raised() -> Iterator[list[BaseException]]:
    """Handle SIGUSR1 by an exception, and return those that were raised."""
    found: list[BaseException] = []

    def handle(*_: object) -> None:
        found.append(Interrupted())
        raise found[-1]

    before = signal.signal(signal.SIGUSR1, handle)
    yield found
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("form", [by_block, by_function], ids=lambda f: f.__name__)
def test_an_exception_of_a_signal_handler_is_not_ignored(
    captured: Captured, monkeypatch: pytest.MonkeyPatch, form: Callable[[Any], Callable[[], None]]
) -> None:
    """The time-out that a host raises in a handler of SIGALRM reaches the host, too."""
    monkeypatch.delenv("PYTEST_CURRENT_TEST")

    def handle(*_: object) -> None:
        raise AlarmError

    before = signal.signal(signal.SIGUSR1, handle)
    run = form(tracks("agent.invoked"))
    number, missed = 0, []
    try:
        while True:
            number += 1
            at = SignalAt(number)
            try:
                with at:
                    run()
                missed.append(number)
            except AlarmError:
                pass
            if at.left:
                break
            if context.variable.get() is not None:
                missed.append(-number)
                context.variable.set(None)
    finally:
        signal.signal(signal.SIGUSR1, before)

    assert number > 100
    # The last run had no signal.
    assert missed == [number]


@pytest.mark.parametrize(("made", "form"), CASES)
def test_a_signal_at_any_instruction(
    captured: Captured,
    raised: list[BaseException],
    monkeypatch: pytest.MonkeyPatch,
    made: str,
    form: Callable[[Any], Callable[[], None]],
) -> None:
    """What a signal handler raises reaches the host, and no scope stays current.

    It arrives once before each instruction of entering and leaving.
    """
    shared = MAKERS[made]()
    run = form(shared)
    run()
    # Python itself loses what a handler raises while an object is deleted.
    lost: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda given: lost.append(given.exc_value))
    number, wrong = 0, []
    while True:
        number += 1
        caught: BaseException | None = None
        at = SignalAt(number)
        try:
            with at:
                run()
        except Interrupted as error:
            caught = error
        if at.left:
            break
        if [caught] != raised and raised != lost:
            wrong.append((number, caught))
        if context.variable.get() is not None or shared._entered:
            wrong.append((number, context.variable.get()))
        raised.clear()
        lost.clear()
    captured.lines.clear()
    run()

    assert number > 100
    assert wrong == []
    assert "parent_id" not in captured.events[0]
