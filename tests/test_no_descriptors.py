"""A program that has no free file descriptor when it first uses one of our names."""

import pytest

import telemetry_kit

# No file can be opened from here until `free()`.
USED_UP = """
import os, resource, functools
import telemetry_kit
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
def use_up():
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/dev/fd"))), hard))
    try:
        os.open("/", os.O_RDONLY)
    except OSError:
        return
    raise AssertionError("a descriptor is left")
def free():
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
"""
CALLS = """
from telemetry_kit import RoleEvent, ask_consent, child_environment, configure, current
from telemetry_kit import get_logger, hash_pii, instrument, is_telemetry_enabled, propagate
from telemetry_kit import read_events
from telemetry_kit import role_session, track_role_event, tracks, __version__
assert isinstance(__version__, str)
with configure(app="flowspec", agents=["x"]):
    pass
configure(app="flowspec")

@tracks(RoleEvent.AGENT_INVOKED, agent="x")
def plain():
    return 42

class Steps:
    @staticmethod
    @tracks("agent.invoked", agent="x")
    def generator():
        yield 43
    @role_session("dev")
    async def coroutine(self):
        return 44

def run(coroutine):
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value

async def blocks():
    async with tracks("agent.invoked") as call, role_session("dev"):
        call.set(exit_code=1)
    await get_logger().ainfo("agent.invoked")
    return 45

def use():
    assert plain() == 42
    assert list(Steps.generator()) == [43]
    assert run(Steps().coroutine()) == 44
    assert run(blocks()) == 45
    assert tracks("agent.invoked")(functools.partial(plain))() == 42
    with role_session("dev"), tracks("agent.invoked") as call:
        call.set(exit_code=1)
    assert propagate(plain)() == 42
    assert len(hash_pii("a", field="agent")) == 12
    assert not current()
    current().set(context={"x": 1}, exit_code=3)
    assert current().role is None
    log = get_logger()
    log.bind(role="dev").info("agent.invoked")
    instrument("string:capwords", tracks("agent.invoked")).undo()

def nothing():
    try:
        assert list(read_events()) == []
    except OSError:
        pass
    assert track_role_event("agent.invoked") is None
    assert get_logger().info("agent.invoked") is None
    assert is_telemetry_enabled() is False
    assert child_environment() == {}
    assert ask_consent(quiet=True) is False
"""


def test_every_name_is_off(place) -> None:
    """Every public name can be imported and used. It raises, prints and records nothing."""
    done = place.run(f"{USED_UP}use_up()\n{CALLS}\nuse()\nnothing()\nuse()\n")

    assert ("", "", 0) == (done.stderr, done.stdout, done.returncode)
    assert [] == place.events()


def test_recording_begins_when_descriptors_are_free(place) -> None:
    """A function imported without a free descriptor records as soon as there is one."""
    code = (
        f"{USED_UP}use_up()\n{CALLS}\nnothing()\nfree()\nconfigure(app='flowspec')\n"
        "assert is_telemetry_enabled()\n"
        "assert track_role_event('agent.invoked')\n"
        "with role_session('dev'): pass\n"
        "tracks(RoleEvent.AGENT_FAILED)\n"
        "use()\n"
    )
    done = place.run(code)

    assert ("", 0) == (done.stderr, done.returncode)
    assert ["agent.invoked", "role.selected"] == place.types()[:2]


@pytest.mark.parametrize("event", sorted(telemetry_kit.RoleEvent))
def test_event_names(undecided, event: str) -> None:
    """A `RoleEvent` is its string value even if its class cannot be loaded."""
    name = telemetry_kit.RoleEvent(event).name
    done = undecided.run(
        f"{USED_UP}use_up()\nfrom telemetry_kit import RoleEvent\n"
        f"assert RoleEvent.{name} == {str(event)!r}"
    )

    assert ("", 0) == (done.stderr, done.returncode)


def test_some_names_first(place) -> None:
    """If the descriptors run out after the first imports, the host program still runs."""
    code = (
        f"{USED_UP}from telemetry_kit import tracks, role_session, configure, track_role_event\n"
        f"configure(app='flowspec')\nuse_up()\n{CALLS}\nuse()\n"
        "assert is_telemetry_enabled() is False"
    )
    done = place.run(code)

    assert ("", "", 0) == (done.stderr, done.stdout, done.returncode)


@pytest.mark.parametrize("name", ["enable_telemetry", "disable_telemetry", "capture_events"])
def test_failed_decisions_raise(undecided, name: str) -> None:
    """If a decision or a capture cannot be made, an OSError is raised."""
    done = undecided.run(
        f"{USED_UP}use_up()\ntry: telemetry_kit.{name}\nexcept OSError as error: print(error.errno)"
    )

    assert ("24\n", 0) == (done.stdout, done.returncode)


def test_a_missing_dependency_raises(undecided) -> None:
    """If a package is not installed, an ImportError is raised."""
    done = undecided.run(
        "import sys\nsys.modules['structlog'] = None\nimport telemetry_kit\n"
        "try: telemetry_kit.get_logger\nexcept ModuleNotFoundError: print('told')"
    )

    assert ("told\n", 0) == (done.stdout, done.returncode)
