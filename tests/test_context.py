"""The current role and session, in threads and tasks and at every kind of end."""

import asyncio
import contextvars
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import IntEnum
from typing import Any

import pytest
import typer

from telemetry_kit import (
    capture_events,
    child_environment,
    configure,
    current,
    propagate,
    role_session,
    track_role_event,
    tracks,
)
from telemetry_kit.testing import Captured
from tests.context_helpers import AGENT, role

# -- threads and tasks ---------------------------------------------------------------------------


def test_threads_start_outside(captured: Captured) -> None:
    """A thread or an executor has no session unless `propagate()` wraps the function."""
    with role_session("dev"), ThreadPoolExecutor(1) as pool:
        bare = pool.submit(role).result()
        carried = pool.submit(propagate(role)).result()
        after = pool.submit(role).result()

    assert (bare, carried, after) == (None, "dev", None)


def test_propagate_takes_the_scope_of_its_call(captured: Captured) -> None:
    """`propagate()` saves the scope of its call. Arguments, result and exceptions pass through."""

    def fail(first: int, *, second: int) -> None:
        raise LookupError(first, second, role())

    with role_session("dev"):
        carried = propagate(fail)
        with role_session("qa"), pytest.raises(LookupError) as raised:
            carried(1, second=2)

    assert raised.value.args == (1, 2, "dev")
    assert role() is None


def test_propagate_outside_of_any_session(captured: Captured) -> None:
    """Outside of any session, `propagate()` saves that there is none."""
    carried = propagate(role)
    with role_session("dev"):
        assert carried() is None
        assert role() == "dev"


def test_to_thread_and_run_in_executor(captured: Captured) -> None:
    """`to_thread` copies the context. An executor needs `propagate()`."""

    async def main() -> list[str | None]:
        loop = asyncio.get_running_loop()
        with role_session("dev"):
            return [
                await asyncio.to_thread(role),
                await loop.run_in_executor(None, role),
                await loop.run_in_executor(None, propagate(role)),
            ]

    assert asyncio.run(main()) == ["dev", None, "dev"]


def test_nested_sessions_in_gathered_tasks(captured: Captured) -> None:
    """Each of several interleaved tasks has its own sessions."""

    async def task(own: str) -> tuple[str | None, ...]:
        with role_session(own):
            await asyncio.sleep(0)
            with role_session("sec"):
                await asyncio.sleep(0)
                inner = role()
            await asyncio.sleep(0)
            return role(), inner

    async def main() -> list[Any]:
        with role_session("pm"):
            found = await asyncio.gather(task("dev"), task("qa"), asyncio.create_task(task("ops")))
            return [*found, role()]

    expected = [("dev", "sec"), ("qa", "sec"), ("ops", "sec"), "pm"]

    assert expected == asyncio.run(main())
    changes = [e for e in captured.events if e["event_type"] == "role.changed"]

    assert {("pm", "dev"), ("pm", "qa"), ("pm", "ops"), ("dev", "sec"), ("qa", "sec")} <= {
        (e["previous_role"], e["role"]) for e in changes
    }


def test_left_in_another_task(captured: Captured) -> None:
    """A block left in another task is closed and changes neither task's session."""
    block = tracks(AGENT)

    async def leave() -> str | None:
        with role_session("qa"):
            block.__exit__(None, None, None)
            return role()

    async def main() -> tuple[Any, ...]:
        with role_session("dev"):
            block.__enter__()
            after_leaving = await asyncio.create_task(leave())
            return after_leaving, role()

    assert asyncio.run(main()) == ("qa", "dev")
    assert [e["event_type"] for e in captured.events if e.get("outcome") == "ok"] == [
        "agent.completed"
    ]


def test_left_in_another_thread_or_context(captured: Captured) -> None:
    """A block left in another thread, or another context, is closed in both."""
    block = role_session("dev", workflow="release")
    block.__enter__()
    thread = threading.Thread(target=block.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    after_thread = current() or None
    contextvars.copy_context().run(block.__enter__)
    block.__exit__(None, None, None)

    assert after_thread is None
    assert not current()
    assert [e["event_type"] for e in captured.events].count("workflow.completed") == 2


def test_one_object_in_many_tasks(captured: Captured) -> None:
    """Many tasks can enter one object, and each exit ends its own entry."""
    shared = tracks(AGENT)

    async def task(number: int) -> bool:
        async with shared:
            mine = current()
            for _ in range(number):
                await asyncio.sleep(0)
            with shared:
                await asyncio.sleep(0)
            return mine is current()

    async def main() -> list[bool]:
        return await asyncio.gather(*(task(n) for n in range(8)))

    assert asyncio.run(main()) == [True] * 8
    spans = [e["span_id"] for e in captured.events]

    assert len(set(spans)) == 16
    assert len(spans) == 32


def test_leaving_what_was_never_entered(captured: Captured) -> None:
    """Leaving a block that was never entered is no error."""
    tracks(AGENT).__exit__(None, None, None)
    role_session("dev").__exit__(None, None, None)

    assert captured.events == []


def test_current_names(captured: Captured) -> None:
    """`current()` returns the names of the current session."""
    with role_session("dev", command="build", workflow="release"), tracks(AGENT, agent="writer"):
        inside = current()

    assert inside is not None
    assert (
        inside.role,
        inside.command,
        inside.agent,
        inside.workflow,
    ) == ("dev", "build", "writer", "release")
    assert len(inside.session_id or "") == len(inside.span_id or "") == 12
    assert not current()


def test_recursion_900_deep(captured: Captured) -> None:
    """900 nested calls need three frames each, and every call has its parent."""

    @tracks(AGENT)
    def deep(left: int) -> int:
        return 0 if left == 0 else 1 + deep(left - 1)

    before = sys.getrecursionlimit()
    sys.setrecursionlimit(3 * 900 + 400)
    try:
        found = deep(900)
    finally:
        sys.setrecursionlimit(before)
    started = captured.events[:901]

    assert found == 900
    assert len(captured.events) == 2 * 901
    assert [e["span_id"] for e in started[:-1]] == [e["parent_id"] for e in started[1:]]


def test_recursion_error_is_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Endless recursion raises RecursionError, and the next call is recorded."""
    monkeypatch.delenv("PYTEST_CURRENT_TEST")

    @tracks(AGENT)
    def endless() -> None:
        endless()

    @tracks(AGENT)
    def fine() -> None: ...

    with capture_events() as lenient:
        with pytest.raises(RecursionError):
            endless()
        lenient.lines.clear()
        fine()

    assert [e["event_type"] for e in lenient.events] == ["agent.invoked", "agent.completed"]
    assert "parent_id" not in lenient.events[0]
    assert not current()


# -- what was started inside a scope and runs after it -------------------------------------------


def who() -> tuple[str | None, str | None, str | None]:
    """Return the role, the session and the parent of an event recorded now."""
    event = track_role_event("handoff.clicked")
    assert event is not None
    return event.get("role"), event.get("session_id"), event.get("parent_id")


def test_tasks_and_functions_outlive_their_session(captured: Captured) -> None:
    """A task, a callback and a propagated function keep the session in which they were started."""
    found: list[Any] = []

    async def job() -> None:
        await asyncio.sleep(0)
        found.append(who())
        with tracks(AGENT):
            found.append(who()[:2])
        found.append(who())

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with role_session("pm"), role_session("dev", workflow="w"):
            session = who()[1]
            task = asyncio.create_task(job())
            loop.call_soon(lambda: found.append(who()))
            copied = contextvars.copy_context()
            carried = propagate(who)
        await task
        with ThreadPoolExecutor(1) as pool:
            found.append(pool.submit(carried).result())
        with role_session("qa"):
            found.extend([copied.run(who), carried(), await asyncio.to_thread(carried)])
        assert [entry[:2] for entry in found] == [("dev", session)] * 8
        assert {entry[2] for entry in found if len(entry) == 3} == {None}

    asyncio.run(main())
    assert not current()


def test_names_of_a_closed_span_hold_and_its_id_does_not(captured: Captured) -> None:
    """A propagated function keeps the names of a span. Its parent is the span that is open."""
    with tracks("command.executed", command="build"):
        outer = current()
        with tracks(AGENT, agent="writer"):
            inside = propagate(lambda: (current(), who()[2]))
            opened = inside()
        closed = inside()

    after = inside()
    assert outer is not None
    assert opened[1] != outer.span_id
    assert (closed[1], after[1]) == (outer.span_id, None)
    for scope, _ in (opened, closed, after):
        assert scope is not None
        assert (scope.command, scope.agent) == ("build", "writer")


def test_sessions_in_a_task_that_outlives_its_own(captured: Captured) -> None:
    """A session entered later continues that of the task, and its end restores it."""

    async def job() -> tuple[Any, ...]:
        await asyncio.sleep(0)
        with role_session("qa"):
            inner = who()
        return inner, who()

    async def main() -> tuple[Any, ...]:
        with role_session("dev"):
            session = who()[1]
            task = asyncio.create_task(job())
        inner, outer = await task
        return session, inner, outer

    session, inner, outer = asyncio.run(main())

    assert inner == ("qa", session, None)
    assert outer == ("dev", session, None)
    changed = [e for e in captured.events if e["event_type"] == "role.changed"]

    assert [(e["previous_role"], e["role"]) for e in changed] == [("dev", "qa")]


def test_generators_keep_the_session_in_which_they_started(captured: Captured) -> None:
    """A decorated generator that started inside a session keeps it after the block."""

    @tracks(AGENT)
    def steps() -> Iterator[Any]:
        while True:
            yield who()

    with role_session("dev"):
        made = steps()
        first = next(made)
    second = next(made)
    made.close()

    assert first == second
    assert captured.events[-1]["role"] == "dev"
    assert captured.events[-1]["session_id"] == first[1]
    assert not current()


def test_child_environment_of_a_task_that_outlives_its_session(captured: Captured) -> None:
    """A child process that such a task starts belongs to the session, and has no parent."""

    async def job() -> dict[str, str]:
        await asyncio.sleep(0)
        return child_environment()

    async def main() -> tuple[str, dict[str, str]]:
        with role_session("dev", workflow="w"):
            inside = current()
            assert inside is not None
            task = asyncio.create_task(job())
        return inside.session_id or "", await task

    session, found = asyncio.run(main())

    assert [name.rpartition("TELEMETRY_")[2] for name in found] == ["SESSION_ID"]
    assert next(iter(found.values())).startswith(f"{session}-")


def test_tasks_that_start_one_another_keep_no_scopes(captured: Captured) -> None:
    """A chain of tasks, each started in a span of the one before, holds only a few scopes."""
    depths: list[int] = []

    async def tick(left: int) -> None:
        with tracks(AGENT):
            depth, scope = 0, current()
            while scope is not None:
                depth, scope = depth + 1, scope.parent
            depths.append(depth)
            task = asyncio.create_task(tick(left - 1)) if left else None
        if task is not None:
            await task

    asyncio.run(tick(50))

    assert len(depths) == 51
    assert max(depths) <= 3


class Code(IntEnum):
    """Exit codes of a host."""

    FINE = 0
    BAD = 4


class ExitLike(Exception):  # noqa: N818
    """An exception of the host with the attribute of Click's and Typer's Exit."""

    def __init__(self, exit_code: object) -> None:
        self.exit_code = exit_code


class Hostile(Exception):  # noqa: N818
    """An exception whose exit code cannot be read."""

    @property
    def exit_code(self) -> int:
        raise RuntimeError("alice@example.com")


class Ending(BaseException):
    """A cancellation exception of an unknown library."""


OUTCOMES: dict[str, tuple[BaseException | None, str, int | None]] = {
    "nothing": (None, "ok", None),
    "sys.exit()": (SystemExit(), "ok", 0),
    "sys.exit(0)": (SystemExit(0), "ok", 0),
    "sys.exit(None)": (SystemExit(None), "ok", 0),
    "sys.exit(False)": (SystemExit(False), "ok", 0),
    "sys.exit(True)": (SystemExit(True), "error", 1),
    "sys.exit(3)": (SystemExit(3), "error", 3),
    "sys.exit(Code.BAD)": (SystemExit(Code.BAD), "error", 4),
    "sys.exit(Code.FINE)": (SystemExit(Code.FINE), "ok", 0),
    "sys.exit('text')": (SystemExit("alice@example.com"), "error", 1),
    "sys.exit(2.0)": (SystemExit(2.0), "error", 1),
    "typer.Exit()": (typer.Exit(), "ok", 0),
    "typer.Exit(3)": (typer.Exit(3), "error", 3),
    "typer.Abort": (typer.Abort(), "cancelled", None),
    "typer.BadParameter": (typer.BadParameter("alice@example.com"), "error", 2),
    "exit_code 0": (ExitLike(0), "ok", 0),
    "exit_code None": (ExitLike(None), "error", None),
    "exit_code False": (ExitLike(False), "error", None),
    "exit_code 0.0": (ExitLike(0.0), "error", None),
    "exit_code Code.BAD": (ExitLike(Code.BAD), "error", 4),
    "exit_code text": (ExitLike("alice@example.com"), "error", None),
    "exit_code raises": (Hostile(), "error", None),
    "ValueError": (ValueError("alice@example.com"), "error", None),
    "TimeoutError": (TimeoutError(), "error", None),
    "ExceptionGroup": (ExceptionGroup("x", [ValueError()]), "error", None),
    "KeyboardInterrupt": (KeyboardInterrupt(), "cancelled", None),
    "CancelledError": (asyncio.CancelledError(), "cancelled", None),
    "GeneratorExit": (GeneratorExit(), "closed", None),
    "BaseExceptionGroup": (BaseExceptionGroup("x", [Ending()]), "cancelled", None),
    "unknown": (Ending(), "cancelled", None),
}


def by_function(error: BaseException | None, around: Any) -> None:
    """Raise an exception inside a decorated function."""

    @around
    def body() -> None:
        if error is not None:
            raise error

    body()


def by_block(error: BaseException | None, around: Any) -> None:
    """Raise an exception inside a with block."""
    with around:
        if error is not None:
            raise error


def by_coroutine(error: BaseException | None, around: Any) -> None:
    """Raise in a coroutine driven by hand, because a loop handles some exceptions itself."""

    @around
    async def body() -> None:
        if error is not None:
            raise error

    try:
        body().send(None)
    except StopIteration:
        return


FORMS: list[Callable[[BaseException | None, Any], None]] = [by_function, by_block, by_coroutine]


# -- outcomes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("ending", OUTCOMES)
def test_outcomes(captured: Captured, form: Any, ending: str) -> None:
    """Each kind of end has its outcome and exit code, and the exception is the host's own."""
    error, outcome, code = OUTCOMES[ending]
    caught: BaseException | None = None
    try:
        form(error, tracks("command.executed", command="build"))
    except BaseException as raised:
        caught = raised
    end = captured.events[-1]

    assert error is caught
    assert (outcome, code) == (end["outcome"], end.get("exit_code"))
    assert ("command.failed" if outcome in ("error", "cancelled") else "command.completed") == end[
        "event_type"
    ]
    assert b"alice" not in b"".join(captured.lines)
    assert len(captured.lines) == 2


def test_click_exceptions(captured: Captured) -> None:
    """Click's own exceptions are recognised by their attributes."""
    exceptions = pytest.importorskip("click.exceptions")
    for error in (exceptions.Exit(0), exceptions.Exit(3), exceptions.Abort()):
        with pytest.raises(type(error)), tracks("command.executed"):
            raise error

    assert [(e["outcome"], e.get("exit_code")) for e in captured.events[1::2]] == [
        ("ok", 0),
        ("error", 3),
        ("cancelled", None),
    ]


def test_a_host_class_called_abort_is_an_error(captured: Captured) -> None:
    """Only the Abort of Click and Typer is recorded as cancelled."""

    class Abort(Exception):  # noqa: N818
        pass

    with pytest.raises(Abort), tracks(AGENT):
        raise Abort

    assert captured.events[-1]["outcome"] == "error"


@pytest.mark.parametrize("ending", ["command.executed", "agent.invoked"])
def test_host_code_of_an_exception_is_not_recorded(captured: Captured, ending: str) -> None:
    """An `exit_code` that is code of the host is read for commands alone, and records nothing."""
    seen: list[str] = []

    class Told(Exception):  # noqa: N818
        @property
        def exit_code(self) -> int:
            seen.append(ending)
            with tracks("command.executed"):
                raise Told

    with pytest.raises(Told), tracks(ending):
        raise Told
    first, last = captured.events

    assert (first["event_type"], last["outcome"]) == (ending, "error")
    assert len(seen) == (ending == "command.executed")


def test_a_directory_that_records_itself(captured: Captured) -> None:
    """A path object that records when its name is asked for records nothing, and is asked once."""
    asked: list[str] = []

    class Where(os.PathLike[str]):
        def __fspath__(self) -> str:
            asked.append("/")
            with tracks("command.executed", project_root=self):
                track_role_event("handoff.clicked", project_root=self)
            return "/"

    with tracks(AGENT, project_root=Where()):
        pass

    assert ["agent.invoked", "agent.completed"] == [e["event_type"] for e in captured.events]
    assert asked == ["/"]


def test_ctrl_c(captured: Captured) -> None:
    """A real SIGINT is raised unchanged and recorded as cancelled."""

    @tracks(AGENT)
    def busy() -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        busy()

    assert captured.events[-1]["outcome"] == "cancelled"


def test_set_merges(captured: Captured) -> None:
    """A second `set()` keeps the fields of the first one and merges the contexts."""

    class Key(str):
        def __eq__(self, other: object) -> bool:
            raise RuntimeError

        def __hash__(self) -> int:
            return str.__hash__(self)

    with configure(context={"count": "measure", "done": "flag"}):
        with tracks("command.executed") as call:
            call.set(exit_code=3)
            call.set(context={"count": 1})
            call.set(context={"done": True})
        with tracks("command.executed") as call:
            call.set(context={"count": 1})
            call.set(context={Key("count"): 1, "done": False})
    first, second = captured.events[1::2]

    assert (first["exit_code"], first["context"]) == (3, {"count": 1, "done": True})
    assert {k: v for k, v in second["context"].items() if k == "done"} == {"done": False}
