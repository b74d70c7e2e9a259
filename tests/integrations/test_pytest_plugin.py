"""The pytest plugin in the tests of its users."""

import base64
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

from telemetry_kit import (
    RoleEvent,
    configure,
    is_telemetry_enabled,
    role_session,
    track_role_event,
    tracks,
)
from telemetry_kit.integrations.pytest import TelemetryEvents, telemetry_events

pytest_plugins = ["pytester"]

assert telemetry_events

# An installed package provides the plugin by an entry point. A source tree needs an option.
INSTALLED = bool(entry_points(group="pytest11", name="telemetry_kit"))
PLUGIN = () if INSTALLED else ("-p", "telemetry_kit.integrations.pytest")


def run(pytester: pytest.Pytester, code: str, *args: str) -> pytest.RunResult:
    """Run a test file of a user."""
    pytester.makepyfile(code)
    return pytester.runpytest_subprocess(*PLUGIN, "-p", "no:randomly", *args)


@tracks(RoleEvent.AGENT_INVOKED, agent="reviewer")
def review(ok: bool = True) -> None:
    """Track an agent that can fail."""
    if not ok:
        raise LookupError


def build() -> None:
    """Track a command that calls the agent."""
    with tracks(RoleEvent.COMMAND_EXECUTED, command="build"):
        review()


def test_the_example_of_the_documentation(telemetry_events: TelemetryEvents) -> None:
    """The assertions of the documentation pass for the events of a command."""
    with configure(commands=["build"], agents=["reviewer"]):
        build()

    telemetry_events.assert_sequence(
        "command.executed", RoleEvent.AGENT_INVOKED, "agent.completed", "command.completed"
    )
    call = telemetry_events.one(RoleEvent.AGENT_COMPLETED, agent="reviewer")

    assert "ok" == call["outcome"]
    telemetry_events.assert_tree("command(build) > agent(reviewer)")
    telemetry_events.assert_private("alice@example.com", "/home/alice")
    assert 4 == len(telemetry_events) == len(list(telemetry_events))


def test_ids_and_clock_are_deterministic(telemetry_events: TelemetryEvents) -> None:
    """The ids and times are the same in each run."""
    with configure(agents=["reviewer"], timestamp_resolution="second"):
        review()
    first, last = telemetry_events

    assert "2026-01-01T00:00:00Z" == first["timestamp"]
    assert ("000000000001", "0000000000000002") == (first["span_id"], first["event_id"])
    assert "0000000000000003" == last["event_id"]
    assert (0, 1) == (first["seq"], last["seq"])
    assert 1 == last["duration_ms"]


def test_the_fixture_uses_the_pipeline(telemetry_events: TelemetryEvents) -> None:
    """Undeclared names are pseudonyms, and undeclared keys are dropped and listed."""
    track_role_event("agent.invoked", agent="alice", context={"token": "secret"})

    assert telemetry_events.one("agent.invoked")["agent"].startswith("h:")
    assert [("agent.invoked", "context.token")] == telemetry_events.dropped
    telemetry_events.assert_private("alice", "secret", "token")


def test_clear(telemetry_events: TelemetryEvents) -> None:
    """`clear` removes the captured events."""
    track_role_event("agent.invoked", context={"x": 1})
    telemetry_events.clear()

    assert (0, [], []) == (len(telemetry_events), telemetry_events.dropped, telemetry_events.types)


@pytest.mark.parametrize(
    ("assertion", "message"),
    [
        (lambda events: events.one("agent.failed"), "0 events match 'agent.failed'"),
        (lambda events: events.one("agent.invoked", role="dev"), "role='dev'"),
        (lambda events: events.assert_sequence("agent.invoked"), "recorded ['command.executed'"),
        (lambda events: events.assert_tree("agent(reviewer) > command(build)"), "no 'agent(rev"),
        (lambda events: events.assert_tree("command(build) > agent(other)"), "agent(other)"),
    ],
)
def test_messages_show_the_tree(
    telemetry_events: TelemetryEvents, assertion: Any, message: str
) -> None:
    """A failed assertion prints the query and the tree of the recorded events."""
    with configure(commands=["build"], agents=["reviewer"]):
        build()
    with pytest.raises(AssertionError) as raised:
        assertion(telemetry_events)

    assert message in str(raised.value)
    assert "command(build) [ok]\n  agent(reviewer) [ok]" in str(raised.value)


def test_more_than_one_event_matches(telemetry_events: TelemetryEvents) -> None:
    """`one` fails if two events match."""
    track_role_event("agent.invoked")
    track_role_event("agent.invoked")
    with pytest.raises(AssertionError, match="2 events match"):
        telemetry_events.one("agent.invoked")


def test_without_events(telemetry_events: TelemetryEvents) -> None:
    """Without events, a failed assertion reports it."""
    with pytest.raises(AssertionError, match="nothing was recorded"):
        telemetry_events.assert_sequence("agent.invoked")


def test_tree_of_sessions_and_hand_offs(telemetry_events: TelemetryEvents) -> None:
    """The tree contains sessions and single events."""
    with (
        configure(agents=["a", "b"], workflows=["release"]),
        role_session("dev", workflow="release"),
        tracks(RoleEvent.AGENT_INVOKED, agent="a"),
    ):
        track_role_event("handoff.clicked", source_agent="a", target_agent="b")

    telemetry_events.assert_tree("workflow(release) > agent(a) > handoff(a->b)")
    telemetry_events.assert_tree("role(dev)")


SECRET = "alice.miller@example.com"


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        SECRET.upper(),
        SECRET.encode().hex(),
        base64.b64encode(b"xx" + SECRET.encode()).decode(),
        base64.b64encode(SECRET.encode()).decode(),
        SECRET.replace("@", "%40"),
    ],
)
def test_assert_private_finds_every_form(telemetry_events: TelemetryEvents, form: str) -> None:
    """A secret is found in each encoding, and the message does not contain it."""
    with configure(agents=[form]):
        track_role_event("agent.invoked", agent=form)
    with pytest.raises(AssertionError, match=f"{len(SECRET)} characters found in line 1") as raised:
        telemetry_events.assert_private("harmless", SECRET)

    assert SECRET not in str(raised.value)


def test_assert_private_rejects_a_short_text(telemetry_events: TelemetryEvents) -> None:
    """A secret of three characters raises ValueError."""
    with pytest.raises(ValueError, match="4 characters"):
        telemetry_events.assert_private("bob")


def test_off_under_pytest_without_the_fixture(pytester: pytest.Pytester) -> None:
    """Only a test with the fixture records, and no file is created."""
    result = run(
        pytester,
        """
        import os
        from telemetry_kit import *

        def test_off():
            assert not is_telemetry_enabled()
            assert track_role_event("agent.invoked") is None

        def test_on(telemetry_events):
            assert track_role_event("agent.invoked") is not None
            telemetry_events.assert_sequence("agent.invoked")

        def test_off_again():
            assert track_role_event("agent.invoked") is None
            assert sorted(os.listdir(".")) == FILES
        """.replace("FILES", "sorted(os.listdir('.'))"),
    )
    result.assert_outcomes(passed=3)

    assert not list(pytester.path.glob(".flowspec"))


def test_an_internal_error_fails_the_test(pytester: pytest.Pytester) -> None:
    """An internal error of the library fails the test of the user."""
    result = run(
        pytester,
        """
        from telemetry_kit import track_role_event
        from telemetry_kit.recording import pipeline

        def broken(*_):
            raise ZeroDivisionError

        def test_it(telemetry_events, monkeypatch):
            monkeypatch.setattr(pipeline, "PROCESSORS", (broken, *pipeline.PROCESSORS[1:]))
            track_role_event("agent.invoked")
        """,
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*ZeroDivisionError*"])


def test_the_plugin_loads_no_module(pytester: pytest.Pytester) -> None:
    """Without the fixture, a session loads the plugin and no other module."""
    result = run(
        pytester,
        """
        import sys

        def test_it():
            loaded = sorted(m for m in sys.modules if m.startswith("telemetry_kit."))
            assert loaded == ["telemetry_kit.integrations", "telemetry_kit.integrations.pytest"]
            assert "wrapt" not in sys.modules
            assert "structlog" not in sys.modules
        """,
    )
    result.assert_outcomes(passed=1)


def test_the_fixture_is_documented(pytester: pytest.Pytester) -> None:
    """`pytest --fixtures` prints the description of the fixture."""
    result = run(pytester, "def test_it(): ...", "--fixtures")

    result.stdout.fnmatch_lines(["telemetry_events*", "*The events of this test*"])


def test_this_session_is_off() -> None:
    """Under pytest, recording is off."""
    assert is_telemetry_enabled() is False


def test_a_missing_app_name_is_reported(pytester: pytest.Pytester) -> None:
    """Without an app name, events are captured, and the summary reports the missing name."""
    code = """
        from telemetry_kit import configure, track_role_event

        def test_unnamed(telemetry_events):
            track_role_event("agent.invoked")
            assert len(telemetry_events) == len(telemetry_events.notes) == 1
    """
    result = run(pytester, code)

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["telemetry_kit: *has to call configure(app=...)"])
    result = run(pytester, code.replace("def ", "configure(app='acme')\n\n        def ", 1))
    result.assert_outcomes(failed=1)
    assert "telemetry_kit: this program" not in result.stdout.str()


RECORDED = """
import pytest
from telemetry_kit import capture_events, configure, current, track_role_event, tracks

configure(app="acme")

@tracks("agent.invoked", agent="reviewer")
def review(ok=True):
    assert ok
    return current()

@pytest.fixture
def reviewed():
    yield review()

def test_on(reviewed):
    assert (not reviewed) == {off}

def test_what_fails_shows_its_events():
    review(ok=False)

def test_each_test_has_its_own(telemetry_events):
    review()
    assert telemetry_events.types == ["agent.invoked", "agent.completed"]
"""


@pytest.mark.parametrize("workers", [(), ("-n", "1")], ids=["alone", "workers"])
def test_a_suite_with_the_option_records(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    """With the option, each test and fixture records, and a failed test prints its events."""
    result = run(pytester, RECORDED.format(off=False), "--telemetry-record", *workers)
    printed = result.stdout.str()

    result.assert_outcomes(passed=2, failed=1)
    assert "telemetry_kit: every test records into memory" in printed or workers
    assert "telemetry events" in printed
    assert "agent(reviewer) [error]" in printed
    assert "this program has no name" not in printed
    assert [] == list(pytester.path.rglob("telemetry*.jsonl"))


def test_without_the_option_a_suite_is_off(pytester: pytest.Pytester) -> None:
    """Without the option, no test records."""
    result = run(pytester, RECORDED.format(off=True))

    result.assert_outcomes(passed=2, failed=1)
    result.stdout.no_fnmatch_line("*telemetry events*")
    result.stdout.no_fnmatch_line("*records into memory*")


def test_a_recorded_suite_reports_a_missing_app_name(pytester: pytest.Pytester) -> None:
    """With the option, the summary reports a missing app name."""
    code = RECORDED.format(off=False).replace('configure(app="acme")', "")
    result = run(pytester, code, "--telemetry-record")

    result.stdout.fnmatch_lines(["telemetry_kit: this program has no name*"])


def test_a_program_that_depends_on_consent_fails(pytester: pytest.Pytester) -> None:
    """A program that behaves differently with consent fails its tests with the option."""
    code = """
from telemetry_kit import configure, current, role_session

configure(app="acme")

def test_it():
    with role_session("dev"):
        assert not current()
"""

    run(pytester, code).assert_outcomes(passed=1)
    run(pytester, code, "--telemetry-record").assert_outcomes(failed=1)


GRANTED = """
import os, subprocess, sys
import pytest
from telemetry_kit import configure, track_role_event
from telemetry_kit.testing import granted_consent

configure(app="acme")

@pytest.fixture
def granted(tmp_path):
    with granted_consent(tmp_path) as granted:
        yield granted

def test_files(granted):
    track_role_event("agent.invoked")
    program = "from telemetry_kit import *; configure(app='acme'); track_role_event('{}')"
    words = [sys.executable, "-c", program.format("agent.completed")]
    subprocess.run(words, env=granted.environ, check=True)
    words = [sys.executable, "-c", program.format("agent.failed")]
    subprocess.run(words, check=True)
    assert [e["event_type"] for e in granted.events] == ["agent.invoked", "agent.completed"]
    assert "PYTEST_CURRENT_TEST" in os.environ

def test_afterwards():
    assert bool(track_role_event("agent.invoked")) == ("--telemetry-record" in sys.argv)
"""


@pytest.mark.parametrize("options", [(), ("--telemetry-record",)], ids=["plain", "recorded"])
def test_a_fixture_with_granted_consent(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    """In a fixture, this process and a child with `environ` record. One without it is off."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    run(pytester, GRANTED, *options).assert_outcomes(passed=2)
