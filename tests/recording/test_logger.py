"""`get_logger()`: its arguments, the source of its events, and the processors of the host."""

import asyncio
import enum
import re
from typing import Any

import pytest
import structlog

from telemetry_kit import capture_events, get_logger, track_role_event, tracks
from telemetry_kit.recording import pipeline


class Level(enum.StrEnum):
    """Names of loggers."""

    MAIN = "acme.main"


@pytest.mark.parametrize("name", [__name__, "acme", "", None, Level.MAIN])
def test_a_name_is_accepted_and_not_stored(name: str | None) -> None:
    """`get_logger(__name__)` records as `get_logger()` does; the name is in no event."""
    with capture_events() as captured:
        record = get_logger(name).bind(role="dev").info("agent.invoked", agent="a")

    assert [record] == captured.events
    assert ("logger", "dev", "h:") == (record["source"], record["role"], record["agent"][:2])
    assert b"acme" not in captured.lines[0]
    assert __name__.encode() not in captured.lines[0]


@pytest.mark.parametrize("level", ["debug", "error", "msg"])
def test_the_source_is_logger(level: str) -> None:
    """The events of each method, level and task have the source `logger`; other events do not."""
    log = get_logger("acme")
    with capture_events() as captured:
        getattr(log, level)("agent.invoked")
        log.log(20, "agent.invoked")
        log.new(role="dev").info("agent.invoked", source="cli")
        asyncio.run(log.ainfo("agent.invoked"))
        track_role_event("agent.invoked")

    assert ["logger"] * 4 + ["api"] == [event["source"] for event in captured.events]


def keep(_logger: Any, _method: str, event: Any) -> Any:
    """Return the event as it is."""
    return event


MISTAKES: dict[str, tuple[Any, dict[str, Any], str]] = {
    "processors by position": (
        [keep],
        {},
        (
            "get_logger() takes a logger's name, not a list: "
            "give processors as get_logger(processors=[...])"
        ),
    ),
    "one processor by position": (keep, {}, "give processors as get_logger(processors=[...])"),
    "bytes": (b"acme", {}, "not a bytes"),
    "one processor": (
        None,
        {"processors": keep},
        (
            "processors= of get_logger() is a list of processors, not a function: "
            "write processors=[...]"
        ),
    ),
    "no processors": (None, {"processors": None}, "not a NoneType: write processors=[...]"),
    "names": (
        None,
        {"processors": ["add_log_level"]},
        (
            "processors= of get_logger() has a str: "
            "a processor is called as processor(logger, method_name, event_dict)"
        ),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_raise_at_the_call(mistake: str) -> None:
    """A mistake of the author raises one clear sentence at the call of `get_logger()`."""
    name, processors, message = MISTAKES[mistake]
    with pytest.raises(TypeError, match=re.escape(message)):
        get_logger(name, **processors)


def test_processors_may_be_any_iterable(place: Any) -> None:
    """Processors come from any iterable, in order, and also from structlog."""
    given = (p for p in (structlog.processors.add_log_level, keep))
    record = get_logger("acme", processors=given).info("agent.invoked")

    assert (record["dropped"], record["source"]) == (1, "logger")


# -- code of the host inside the recorder --------------------------------------------------------


@tracks("agent.invoked", agent="a")
def tracked() -> str:
    """Record by every way inside of a tracked call."""
    track_role_event("handoff.clicked")
    get_logger("acme").info("handoff.clicked")
    pipeline.emit({"event": "handoff.clicked"})
    with tracks("role.changed"):
        return "done"


def test_a_processor_records_nothing(place: Any) -> None:
    """Tracked calls inside a processor run and are not recorded, whatever way they record by."""
    seen: list[str] = []

    def processor(_logger: Any, _method: str, event: Any) -> Any:
        seen.append(tracked())
        return event

    for processors in ([processor], [processor, processor]):
        record = get_logger("acme", processors=processors).info("command.executed")

        assert record is not None
    assert seen == ["done"] * 3
    assert place.types() == ["command.executed"] * 2

    tracked()

    assert len(place.types()) == 2 + 6


def test_a_task_that_a_processor_starts_records_later(place: Any) -> None:
    """A task started by a processor, which runs after it, is recorded."""
    tasks: list[Any] = []

    async def later() -> None:
        tracked()

    def processor(_logger: Any, _method: str, event: Any) -> Any:
        tasks.append(asyncio.ensure_future(later()))
        return event

    async def main() -> None:
        get_logger("acme", processors=[processor]).info("command.executed")
        await tasks[0]

    asyncio.run(main())

    assert place.types()[:2] == ["command.executed", "agent.invoked"]
    assert len(place.types()) == 1 + 6


def test_recording_goes_on_after_a_processor_fails(place: Any) -> None:
    """After a processor raises, events are recorded as before."""

    def broken(*_: Any) -> Any:
        raise structlog.DropEvent

    assert get_logger("acme", processors=[broken]).info("command.executed") is None
    tracked()

    assert len(place.types()) == 6
