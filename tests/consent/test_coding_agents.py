"""Which coding agent runs the program."""

import pytest

from telemetry_kit.consent import coding_agents

SIGNS = {variable: name for name, variables in coding_agents.AGENTS for variable in variables}


@pytest.mark.parametrize("variable", SIGNS)
def test_each_sign(variable: str) -> None:
    """Every variable of the table names its agent, whatever its value is."""
    assert coding_agents.invoker({"HOME": "/", variable: "1"}) == SIGNS[variable]
    assert coding_agents.invoker({variable: "some text"}) == SIGNS[variable]


@pytest.mark.parametrize("value", ["", "0", "false", " No ", "OFF"])
def test_a_value_that_says_no(value: str) -> None:
    """A variable that is false is no sign."""
    assert coding_agents.invoker(dict.fromkeys(SIGNS, value)) == "person"


def test_the_first_one_counts() -> None:
    """Under two agents the named one is told, not the general sign."""
    assert coding_agents.invoker({"AI_AGENT": "1", "GEMINI_CLI": "1"}) == "gemini"
    assert coding_agents.invoker({"CODEX_HOME": "/home/me/.codex"}) == "person"
