"""A decorated function of a program pickles by value, as its undecorated twin does."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from telemetry_kit import capture_events, current, tracks
from tests.conftest import Place

# Its functions are those of `__main__`, which no other process can import.
PROGRAM = """
import asyncio, contextlib, functools, json, os, sys
from telemetry_kit import capture_events, role_session, tracks

os.environ["DB_PASSWORD"] = "hunter2"

def made_inside_a_function():
    return tracks("agent.invoked", agent="planner")

# Its names are declared where it is applied, below.
tracked = made_inside_a_function()
decorate = tracked if "tracked" in sys.argv else lambda function: function

@decorate
def function(number):
    return number + 1

@decorate
async def coroutine(number):
    return number + 1

@decorate
def generator(count):
    yield from range(count)

@decorate
async def async_generator(count):
    for number in range(count):
        yield number

@decorate
@contextlib.contextmanager
def manager(number):
    yield number

class Tool:
    @decorate
    def method(self):
        return type(self).__name__

    @decorate
    @classmethod
    def above(cls):
        return cls.__name__

    @classmethod
    @decorate
    def below(cls):
        return cls.__name__

    @staticmethod
    @decorate
    def static():
        return "static"

    def __call__(self):
        return "called"

KINDS = {
    "function": function,
    "coroutine": coroutine,
    "generator": generator,
    "async_generator": async_generator,
    "manager": manager,
    "class": Tool,
    "instance": Tool(),
    "method": Tool().method,
    "unbound": Tool.method,
    "classmethod": Tool.above,
    "static": Tool.static,
    "object": decorate(Tool()),
    "partial": decorate(functools.partial(int, base=2)),
}
"""

SEND = """
import cloudpickle, dill

def by_value(library, thing, **options):
    # A pickle made while the program records.
    with capture_events(), tracked, role_session("dev"):
        return library.dumps(thing, **options)

for name, thing in KINDS.items():
    for way, data in {
        "cloudpickle": by_value(cloudpickle, thing),
        "dill": by_value(dill, thing),
        "dill-recurse": by_value(dill, thing, recurse=True),
    }.items():
        with open(f"{sys.argv[1]}/{name}.{way}", "wb") as file:
            file.write(data)
"""

RECEIVE = """
import asyncio, inspect, json, os, sys
import dill
from pathlib import Path

async def collect(numbers):
    return [number async for number in numbers]

def entered(manager):
    with manager as value:
        return value

USES = {
    "function": lambda f: f(1),
    "coroutine": lambda f: asyncio.run(f(1)),
    "generator": lambda f: list(f(3)),
    "async_generator": lambda f: asyncio.run(collect(f(3))),
    "manager": lambda f: entered(f(5)),
    "class": lambda c: [c().method(), c.above(), c.below(), c.static()],
    "instance": lambda o: [o.method(), o.above()],
    "method": lambda f: f(),
    "unbound": lambda f: f(None),
    "classmethod": lambda f: f(),
    "static": lambda f: f(),
    "object": lambda f: f(),
    "partial": lambda f: f("101"),
}
KINDS = [inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction]
found = {}
for path in sorted(Path(sys.argv[1]).iterdir()):
    name, way = path.name.split(".")
    thing = dill.loads(path.read_bytes())
    of_ours = getattr(thing, "__globals__", {}).get("runtime")
    if of_ours is not None:
        from telemetry_kit._runtime import runtime
        assert of_ours is runtime
    found[path.name] = [USES[name](thing), [kind(thing) for kind in KINDS]]
assert "DB_PASSWORD" not in os.environ
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def pickles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with the pickles of the tracked functions and of their undecorated twins."""
    sender = Place(tmp_path_factory.mktemp("sender"))
    folders = {}
    for what in ("tracked", "plain"):
        folders[what] = sender.root / what
        folders[what].mkdir()
        done = sender.run(PROGRAM + SEND, str(folders[what]), what)

        assert (0, "") == (done.returncode, done.stderr)
    return folders


def test_received_by_another_process(place: Any, pickles: dict[str, Path]) -> None:
    """What is received works as its twin. It records if the program that receives it does."""
    found = {}
    for what, named in (("plain", True), ("tracked", False), ("tracked", True)):
        assert [] == place.events()
        done = place.run(RECEIVE, str(pickles[what]), named=named)

        assert (0, "") == (done.returncode, done.stderr)
        found[what, named] = json.loads(done.stdout)
    events = place.events()

    assert found["plain", True] == found["tracked", False] == found["tracked", True]
    assert 13 * 3 == len(found["plain", True])
    # Eleven kinds are one call each, a class is four and an instance two, each in three pickles.
    assert (11 + 4 + 2) * 3 * 2 == len(events)
    assert {"planner"} == {event["agent"] for event in events}
    assert not any("parent_id" in event or "role" in event for event in events)


def test_nothing_of_the_process(pickles: dict[str, Path]) -> None:
    """A pickle holds no environment, no clock, no lock, and no scope of the sending process."""
    for path in pickles["tracked"].iterdir():
        data = path.read_bytes()
        words = (
            b"hunter2",
            b"DB_PASSWORD",
            b"environ",
            b"Lock",
            b"ContextVar",
            b"Scope",
            b"Runtime",
        )

        assert [] == [word for word in words if word in data], path.name


def test_loky(place: Any) -> None:
    """A pool of loky runs a tracked function of the program, under the settings of its process."""
    send = """
import loky

def captured(function, number):
    with capture_events() as events:
        result = function(number)
    return result, [event["agent"] for event in events.events]

pool = loky.ProcessPoolExecutor(max_workers=1)
jobs = [pool.submit(function, 1), pool.submit(captured, function, 2)]
print(json.dumps([job.result() for job in jobs]))
pool.shutdown()
"""
    done = place.python("-c", PROGRAM + send, "tracked")

    assert (0, "") == (done.returncode, done.stderr)
    assert [2, [3, ["planner", "planner"]]] == json.loads(done.stdout)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_decorator_pickles(protocol: int) -> None:
    """A decorator pickles without what is open in it, and is used again."""
    shared = tracks("agent.invoked", agent="planner")
    with capture_events(), shared:
        copy = pickle.loads(pickle.dumps(shared, protocol))
    with capture_events() as captured:
        copy.__exit__(None, None, None)
        with copy:
            assert current()

    assert repr(shared) == repr(copy)
    assert ["agent.invoked", "agent.completed"] == [e["event_type"] for e in captured.events]
