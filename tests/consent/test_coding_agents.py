"""The name of the coding agent that runs the program."""

import pytest

from telemetry_kit.consent import coding_agents

AGENT_OF = {variable: name for name, variables in coding_agents.AGENTS for variable in variables}


@pytest.mark.parametrize("variable", AGENT_OF)
def test_each_variable_names_its_agent(variable: str) -> None:
    """Every variable of the table identifies its agent, whatever its value is."""
    assert coding_agents.invoker({"HOME": "/", variable: "1"}) == AGENT_OF[variable]
    assert coding_agents.invoker({variable: "some text"}) == AGENT_OF[variable]


@pytest.mark.parametrize("value", ["", "0", "false", " No ", "OFF"])
def test_a_false_variable_is_ignored(value: str) -> None:
    """If the value of a variable is false, the variable identifies no agent."""
    assert coding_agents.invoker(dict.fromkeys(AGENT_OF, value)) == "person"


def test_a_specific_agent_takes_precedence() -> None:
    """The variable of a specific agent takes precedence over the general `AI_AGENT`."""
    assert coding_agents.invoker({"AI_AGENT": "1", "GEMINI_CLI": "1"}) == "gemini"
    assert coding_agents.invoker({"CODEX_HOME": "/home/me/.codex"}) == "person"
