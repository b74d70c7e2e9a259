"""The events of coding agents: what each one says, and the fields of its payload that are read.

No other field is read. Arguments, answers, paths and mail addresses never are. Of a prompt, only a
first word such as `/plan` is read.
"""

from __future__ import annotations

TYPE_CHECKING = False
if not TYPE_CHECKING:
    try:
        # The C part of json. Its Python part would import re and enum.
        from _json import make_scanner
    except ImportError:
        make_scanner = None
else:
    from collections.abc import Callable, Mapping
    from typing import Any

    make_scanner: Callable[[Any], Callable[[str, int], tuple[Any, int]]] | None

# What an event is about. A prompt is a command if its first word is the declared name of one.
COMMAND, PROMPT, SUBAGENT = "command", "prompt", "sub-agent"
OK, ERROR, CANCELLED = "ok", "error", "cancelled"
# A value that is longer is not read, and only the beginning of a prompt is.
MAX_CHARS = 1_024
# Of a payload with as many characters, lists are not built.
LARGE = 65_536
_MAX_LISTS = 64


class Hook:
    """What one event of a coding agent says.

    Args:
        subject: what starts or ends: `COMMAND`, `PROMPT` or `SUBAGENT`.
        outcome: how it ended; empty if it starts.
        tools: the tools that run a sub-agent. The event says nothing about any other tool.
    """

    __slots__ = ("outcome", "subject", "tools")

    def __init__(self, subject: str, outcome: str = "", tools: tuple[str, ...] = ()) -> None:
        self.subject = subject
        self.outcome = outcome
        self.tools = tools


_TASK = ("Agent", "Task")
_INVOKE = ("invoke_agent",)
# By the agent and the event on the command line: a payload of Copilot may lack the event.
HOOKS: dict[str, dict[str, Hook]] = {
    "claude": {
        "UserPromptExpansion": Hook(COMMAND),
        "SubagentStart": Hook(SUBAGENT),
        "SubagentStop": Hook(SUBAGENT, OK),
        "PostToolUseFailure": Hook(SUBAGENT, ERROR, _TASK),
        "Stop": Hook(COMMAND, OK),
        "StopFailure": Hook(COMMAND, ERROR),
    },
    "copilot": {
        "UserPromptSubmit": Hook(PROMPT),
        "SubagentStart": Hook(SUBAGENT),
        "SubagentStop": Hook(SUBAGENT, OK),
        "ErrorOccurred": Hook(SUBAGENT, ERROR),
        "Stop": Hook(COMMAND, OK),
    },
    "codex": {
        "UserPromptSubmit": Hook(PROMPT),
        "SubagentStart": Hook(SUBAGENT),
        "SubagentStop": Hook(SUBAGENT, OK),
        "Stop": Hook(COMMAND, OK),
        "Interrupt": Hook(COMMAND, CANCELLED),
    },
    "gemini": {
        "BeforeAgent": Hook(PROMPT),
        "BeforeTool": Hook(SUBAGENT, "", _INVOKE),
        "AfterTool": Hook(SUBAGENT, OK, _INVOKE),
        "AfterAgent": Hook(COMMAND, OK),
    },
    "cursor": {"subagentStop": Hook(SUBAGENT, OK)},
}
# Each agent as events name the one that runs a program.
INVOKERS = {"claude": "claude-code"}
_SESSION = ("session_id", "sessionId")
_PROMPT = ("prompt_id", "turn_id")
_NAME = ("agent_type", "agent_name", "agentName", "subagent_type")
_OUTCOMES = {
    **dict.fromkeys(("completed", "success"), OK),
    **dict.fromkeys(("error", "failed"), ERROR),
    **dict.fromkeys(("aborted", "cancelled"), CANCELLED),
}


class Report:
    """The facts of one payload, none of them stored as they are.

    Attributes:
        agent: the coding agent, a key of `HOOKS`.
        subject: what starts or ends.
        outcome: how it ended; empty if it starts.
        error: the word for a failure, where the agent reports one.
        name: the name of the command or sub-agent; empty if it is not known.
        session: the ID of the session.
        prompt: the ID of the user's prompt.
        agent_id: the ID of the sub-agent.
        parent: the ID of the sub-agent that started it, or of the session.
    """

    __slots__ = (
        *("agent", "agent_id", "error", "name", "outcome", "parent", "prompt", "session"),
        "subject",
    )

    def __init__(self, agent: str, hook: Hook, payload: Mapping[str, Any]) -> None:
        self.agent = agent
        self.subject = hook.subject
        self.outcome = hook.outcome
        self.session = _first(payload, _SESSION)
        self.prompt = _first(payload, _PROMPT)
        self.agent_id = _first(payload, ("agent_id",))
        self.parent = _first(payload, ("parent_agent_id",))
        self.error = _first(payload, ("error",)) if hook.outcome == ERROR else ""
        self.name = ""
        # The turn of a sub-agent is no turn of the user, but its failure is that of the sub-agent.
        if self.agent_id and self.outcome == ERROR:
            self.subject = SUBAGENT

    @property
    def field(self) -> str:
        """The field of the name."""
        return "agent" if self.subject == SUBAGENT else "command"


def read(agent: str, event: str, payload: Any) -> Report | None:
    """Read the facts of a payload.

    Args:
        agent: the agent that the command line names.
        event: the event that the command line names.
        payload: the parsed payload.

    Returns:
        None for an unknown agent or event, for the payload of another agent, and for an event that
        is not recorded.
    """
    hook = HOOKS.get(agent, {}).get(event)
    if hook is None or type(payload) is not dict or caller(payload) not in ("", agent):
        return None
    if hook.tools and payload.get("tool_name") not in hook.tools:
        return None
    report = Report(agent, hook, payload)
    if report.subject != SUBAGENT:
        if report.agent_id:
            return None
        report.name = _command(payload, report.subject)
        is_start = not report.outcome
        return None if is_start and not report.name else report
    report.name = _first(payload, _NAME)
    if hook.tools:
        # They are those of the sub-agent that uses the tool, not of the one that the tool runs.
        report.parent, report.agent_id, report.name = report.agent_id, "", ""
    if hook.tools is _INVOKE:
        given = payload.get("tool_input")
        report.name = _first(given, ("agent_name",)) if type(given) is dict else ""
        answer = payload.get("tool_response")
        if report.outcome and type(answer) is dict and answer.get("error"):
            report.outcome = ERROR
    if report.outcome:
        report.outcome = _OUTCOMES.get(_first(payload, ("status",)), report.outcome)
        if payload.get("is_interrupt") is True:
            report.outcome = CANCELLED
    return report if report.name or report.agent_id or hook.tools else None


class _Rules:
    """How the scanner parses, as `json.loads()` does."""

    strict = False
    object_hook = object_pairs_hook = None
    parse_float, parse_int = float, int
    parse_constant = float


def parse(data: bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError, StopIteration, RecursionError: it is not valid, or nested too deeply.
    """
    text = data.decode().strip()
    if make_scanner is None:
        import json  # deferred: only where the interpreter has no C part of it

        return json.loads(text)
    scan = make_scanner(_Rules)
    if len(text) >= LARGE and text[0] == "{":
        try:
            found, end = _members(text, 0, scan, 2)
            if end == len(text):
                return found
        except (ValueError, StopIteration, IndexError):
            pass  # a list was skipped wrongly, or it is no JSON
    found, end = scan(text, 0)
    if end != len(text):
        raise ValueError("more than one value")
    return found


def _members(
    text: str, at: int, scan: Callable[[str, int], tuple[Any, int]], depth: int
) -> tuple[dict[str, Any], int]:
    """Parse an object member by member, without building its lists; return it and its end.

    Args:
        text: the JSON.
        at: the beginning of the object.
        scan: parses one value.
        depth: how many levels of objects are parsed so.

    Raises:
        ValueError, StopIteration, IndexError: it is not valid.
    """
    found: dict[str, Any] = {}
    value: Any
    at = _next(text, at + 1)
    while text[at] != "}":
        if text[at] == ",":
            at = _next(text, at + 1)
        key, at = scan(text, at)
        at = _next(text, at)
        if type(key) is not str or text[at] != ":":
            raise ValueError("no member")
        at = _next(text, at + 1)
        end = _end_of_list(text, at) if text[at] == "[" else 0
        if end:
            value, at = [], end
        elif text[at] == "{" and depth > 1:
            value, at = _members(text, at, scan, depth - 1)
        else:
            value, at = scan(text, at)
        found[key] = value
        at = _next(text, at)
        if text[at] not in ",}":
            raise ValueError("no end of a member")
    return found, at + 1


def _next(text: str, at: int) -> int:
    """Return the index of the next character that is no space."""
    while text[at] in " \t\n\r":
        at += 1
    return at


def _end_of_list(text: str, at: int) -> int:
    """Return the end of a list: where its brackets are balanced; 0 if it is not soon found.

    Brackets inside texts may lead to a wrong end. Then the rest of the payload is no JSON.
    """
    open_lists = open_objects = 0
    end = at
    for _ in range(_MAX_LISTS):
        begin, end = end, text.find("]", end) + 1
        if not end:
            return 0
        open_lists += text.count("[", begin, end) - 1
        open_objects += text.count("{", begin, end) - text.count("}", begin, end)
        if open_lists == open_objects == 0:
            return end
    return 0


def caller(payload: Mapping[str, Any]) -> str:
    """Return the agent that sent a payload; empty if nothing tells it from Claude Code's.

    Some agents also run the hooks that the files of another agent contain.
    """
    event = payload.get("hook_event_name")
    if "conversation_id" in payload or "cursor_version" in payload:
        return "cursor"
    if "turn_id" in payload:
        return "codex"
    if type(event) is str and event.startswith(("Before", "After")):
        return "gemini"
    if "timestamp" in payload or "traceId" in payload:
        return "copilot"
    return ""


def _first(payload: Mapping[str, Any], keys: tuple[str, ...]) -> str:
    """Return the first of some fields that is a text of at most `MAX_CHARS`; else an empty one."""
    for key in keys:
        value = payload.get(key)
        if type(value) is str and 0 < len(value) <= MAX_CHARS:
            return value
    return ""


def _command(payload: Mapping[str, Any], subject: str) -> str:
    """Return the name of a command as users type it, with the slash; empty if there is none."""
    if subject == COMMAND:
        name = _first(payload, ("command_name",))
        return name if name[:1] in ("", "/") else f"/{name}"
    prompt = payload.get("prompt")
    if type(prompt) is not str or prompt[:1] != "/":
        return ""
    words = prompt[: MAX_CHARS + 1].split(None, 1)
    return words[0] if 1 < len(words[0]) <= MAX_CHARS else ""
