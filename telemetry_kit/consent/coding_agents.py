"""Detect the coding agent that runs the program, by the variables that the agents set."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# CODEX_HOME proves nothing: users set it in their own shells, to choose the folder of Codex.
AGENTS = (
    ("claude-code", ("CLAUDECODE",)),
    ("codex", ("CODEX_SANDBOX", "CODEX_THREAD_ID", "CODEX_CI")),
    ("copilot", ("COPILOT_CLI",)),
    ("cursor", ("CURSOR_AGENT",)),
    ("gemini", ("GEMINI_CLI",)),
    ("other-agent", ("AI_AGENT",)),
)
# As with the variables that deny, these values mean no.
_FALSE = ("", "0", "false", "no", "off")


def invoker(environ: "Mapping[str, str]") -> str:
    """The name of the coding agent that runs the program; `person` if there is none."""
    for agent, variables in AGENTS:
        for variable in variables:
            if environ.get(variable, "").strip().casefold() not in _FALSE:
                return agent
    return "person"
