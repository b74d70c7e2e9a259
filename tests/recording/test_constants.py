"""The fields that are the same in all events of a program: who runs it, and its version."""

import pytest

from telemetry_kit import capture_events, configure, track_role_event
from telemetry_kit.consent.coding_agents import AGENTS
from telemetry_kit.privacy import declared_names
from telemetry_kit.schema import catalog


def test_every_coding_agent_is_an_invoker() -> None:
    """The catalog lists a person and each coding agent that can be detected."""
    assert ("person", *(name for name, _ in AGENTS)) == catalog.INVOKERS


@pytest.mark.parametrize(
    ("agent", "variable"), [(agent, v) for agent, variables in AGENTS for v in variables]
)
def test_the_agent_that_runs_the_program(place, agent: str, variable: str) -> None:
    """An event names the coding agent, and never the value of its variable."""
    place.environ[variable] = "quillfeather"
    record = track_role_event("agent.invoked", agent="planner")

    assert record is not None
    assert agent == record["invoker"]
    assert b"quillfeather" not in place.log.read_bytes()


def test_the_declared_version(place) -> None:
    """An event has the version of the program, which is among the declared names."""
    configure(version="1.4.2rc1")
    record = track_role_event("agent.invoked", agent="planner")

    assert record is not None
    assert "1.4.2" == record["app_version"]
    assert {"1.4.2"} == declared_names.read(place.home)["versions"]
    assert place.events() == [record]


def test_the_version_in_a_capture() -> None:
    """A capture has the version too, also one that is declared during the capture."""
    with configure(app="acme", version="1"), capture_events() as captured:
        track_role_event("agent.invoked")
        with configure(version="2.0"):
            track_role_event("agent.invoked")

    assert ["1", "2.0"] == [event["app_version"] for event in captured.events]


def test_a_version_that_cannot_be_declared(place, monkeypatch) -> None:
    """If there is no space for the version among the declared names, events do not have it."""
    monkeypatch.setattr(declared_names, "MAX_BYTES", 1)
    configure(version="1.4.2")
    record = track_role_event("role.selected", role="dev")

    assert record is not None
    assert "app_version" not in record
