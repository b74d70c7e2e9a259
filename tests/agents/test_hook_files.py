"""The hooks that are installed are those that `telemetry-kit hook` reads."""

from telemetry_kit.agents.formats import HOOKS, INVOKERS
from telemetry_kit.agents.hook_files import AGENTS


def test_the_installed_events_are_those_that_are_read() -> None:
    """Each agent has a hook for every event that is read of it, and for no other one."""
    assert {agent.name: set(agent.events) for agent in AGENTS} == {
        name: set(events) for name, events in HOOKS.items()
    }


def test_the_matchers_are_the_tools_that_are_read() -> None:
    """A hook is called for exactly the tools of which its event says anything."""
    for agent in AGENTS:
        found = {event: matcher.split("|") for event, matcher in agent.events.items() if matcher}

        assert found == {e: list(h.tools) for e, h in HOOKS[agent.name].items() if h.tools}


def test_the_last_event_is_found_by_the_name_in_events() -> None:
    """`hooks status` looks for the name that the events of an agent have."""
    for agent in AGENTS:
        assert agent.invoker == INVOKERS.get(agent.name, agent.name)
