"""The payload of each agent and event gives the facts that are recorded, and nothing else."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit.agents import formats
from telemetry_kit.schema import catalog
from tests.agents.agents_helpers import NAMES, payload

SUBAGENT, COMMAND, PROMPT = formats.SUBAGENT, formats.COMMAND, formats.PROMPT
# By payload: the subject, the outcome and the name; None for an event that is not recorded.
EXPECTED = {
    "claude-PostToolUseFailure": (SUBAGENT, "cancelled", ""),
    "claude-PostToolUseFailure-inner": (SUBAGENT, "error", ""),
    "claude-Stop": (COMMAND, "ok", ""),
    "claude-StopFailure": (COMMAND, "error", ""),
    "claude-StopFailure-inner": (SUBAGENT, "error", "reviewer"),
    "claude-SubagentStart": (SUBAGENT, "", "reviewer"),
    "claude-SubagentStop": (SUBAGENT, "ok", "reviewer"),
    "claude-UserPromptExpansion": (COMMAND, "", "/plan"),
    "codex-Interrupt": (COMMAND, "cancelled", ""),
    "codex-Stop": (COMMAND, "ok", ""),
    "codex-SubagentStart": (SUBAGENT, "", "reviewer"),
    "codex-SubagentStop": (SUBAGENT, "ok", "reviewer"),
    "codex-UserPromptSubmit": (PROMPT, "", "/plan"),
    "codex-UserPromptSubmit-inner": None,
    "copilot-ErrorOccurred": (SUBAGENT, "error", "reviewer"),
    "copilot-ErrorOccurred-turn": None,
    "copilot-Stop": (COMMAND, "ok", ""),
    "copilot-Stop-inner": None,
    "copilot-Stop-vscode": (COMMAND, "ok", ""),
    "copilot-SubagentStart": (SUBAGENT, "", "reviewer"),
    "copilot-SubagentStart-vscode": (SUBAGENT, "", "reviewer"),
    "copilot-SubagentStop": (SUBAGENT, "ok", "reviewer"),
    "copilot-SubagentStop-vscode": (SUBAGENT, "ok", "reviewer"),
    "copilot-UserPromptSubmit": (PROMPT, "", "/plan"),
    "copilot-UserPromptSubmit-inner": None,
    "copilot-UserPromptSubmit-vscode": (PROMPT, "", "/plan"),
    "cursor-subagentStop": (SUBAGENT, "ok", "reviewer"),
    "gemini-AfterAgent": (COMMAND, "ok", ""),
    "gemini-AfterTool": (SUBAGENT, "ok", "reviewer"),
    "gemini-AfterTool-failed": (SUBAGENT, "error", "reviewer"),
    "gemini-AfterTool-other-tool": None,
    "gemini-BeforeAgent": (PROMPT, "", "/plan"),
    "gemini-BeforeTool": (SUBAGENT, "", "reviewer"),
    "gemini-BeforeTool-other-tool": None,
}
# Each other agent, with an event whose payload shows who sent it.
SENDERS = {
    "codex": "codex-Stop",
    "copilot": "copilot-Stop",
    "cursor": "cursor-subagentStop",
    "gemini": "gemini-BeforeTool",
}


def test_each_payload_is_expected() -> None:
    """Each file is in the table, and each event of each agent has a file."""
    events = {f"{agent}-{event}" for agent, rows in formats.HOOKS.items() for event in rows}

    assert set(EXPECTED) == set(NAMES)
    assert {"-".join(name.split("-")[:2]) for name in NAMES} == events


@pytest.mark.parametrize("name", NAMES)
def test_the_facts_of_a_payload(name: str) -> None:
    """Subject, outcome and name are those of the event."""
    agent, event = name.split("-")[:2]
    report = formats.read(agent, event, payload(name))
    found = report and (report.subject, report.outcome, report.name)

    assert found == EXPECTED[name]


@pytest.mark.parametrize("sender", SENDERS)
def test_the_sender_is_told_from_the_others(sender: str) -> None:
    """A payload of one agent gives nothing in the hook of any other one."""
    sent = payload(SENDERS[sender])
    hooks = [(agent, event) for agent, rows in formats.HOOKS.items() for event in rows]

    found = {agent for agent, event in hooks if formats.read(agent, event, sent) is not None}

    assert formats.caller(sent) == sender
    assert found <= {sender}


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("claude")])
def test_payloads_of_claude_code_have_no_mark(name: str) -> None:
    """Nothing in a payload of Claude Code is a mark of another agent."""
    assert formats.caller(payload(name)) == ""


@pytest.mark.parametrize(
    ("status", "outcome"),
    [("completed", "ok"), ("error", "error"), ("aborted", "cancelled"), ("else", "ok"), (3, "ok")],
)
def test_the_status_is_the_outcome(status: object, outcome: str) -> None:
    """A known word is the outcome, and any other value is ignored."""
    report = formats.read(
        "cursor", "subagentStop", {**payload("cursor-subagentStop"), "status": status}
    )

    assert report is not None
    assert report.outcome == outcome


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("/plan", "/plan"),
        ("/plan\nthe thing", "/plan"),
        ("/speckit.plan x", "/speckit.plan"),
        ("plan /plan", None),
        (" /plan", None),
        ("/", None),
        ("/ plan", None),
        ("/" + "x" * 2_000, None),
        ("", None),
        (["/plan"], None),
    ],
)
def test_the_first_word_of_a_prompt(prompt: object, name: str | None) -> None:
    """Only a first word with a slash is read of a prompt."""
    report = formats.read(
        "codex", "UserPromptSubmit", {**payload("codex-UserPromptSubmit"), "prompt": prompt}
    )

    assert (report and report.name) == name


@pytest.mark.parametrize("command", ["flow:implement", "/flow:implement"])
def test_a_command_is_named_as_typed(command: str) -> None:
    """The name of a command has a slash, with or without one in the payload."""
    sent = {**payload("claude-UserPromptExpansion"), "command_name": command}
    report = formats.read("claude", "UserPromptExpansion", sent)

    assert report is not None
    assert report.name == "/flow:implement"


@pytest.mark.parametrize("value", ["", "x" * 10_000, 7, None, ["id"], {"id": 1}])
def test_an_id_that_is_none(value: object) -> None:
    """An ID that is empty, too long or no text is not read."""
    report = formats.read(
        "claude", "SubagentStart", {**payload("claude-SubagentStart"), "session_id": value}
    )

    assert report is not None
    assert report.session == ""


@pytest.mark.parametrize(
    "text",
    [
        *('{"a": [1, 2.5, null, true, "\\u00e9\\ud83d\\ude00"], "b": {"c": -1e3}}', "[]", '"x"'),
        *(' \n{"a": 1}\n ', '{"a": 1, "a": 2}', "3", '{"a": "\t"}'),
    ],
)
def test_valid_json_is_parsed_as_the_standard_library_does(text: str) -> None:
    """The result is that of `json.loads`, which also takes control characters here."""
    assert formats.parse(text.encode()) == json.loads(text, strict=False)


TEXTS = st.text(max_size=8) | st.sampled_from(["]", "[", "}", "{", '"', "\\", "],", '],"a":1}'])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
)


def without_lists(value: object, depth: int = 2) -> object:
    """Return a value with empty lists down to the second level of objects."""
    if isinstance(value, dict) and depth:
        return {key: without_lists(one, depth - 1) for key, one in value.items()}
    return [] if isinstance(value, list) else value


@given(
    value=st.dictionaries(TEXTS, VALUES, max_size=5),
    indent=st.sampled_from([None, 1]),
    is_cut=st.booleans(),
)
def test_a_large_payload_is_parsed_without_its_lists(
    value: dict[str, object], indent: int | None, is_cut: bool
) -> None:
    """Member by member, the result is the same except for lists, and what is cut is an error."""
    text = json.dumps(value, indent=indent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(formats, "LARGE", 0)
        if is_cut:
            with pytest.raises((ValueError, StopIteration)):
                formats.parse(text[:-1].encode())
        else:
            assert without_lists(formats.parse(text.encode())) == without_lists(value)


@pytest.mark.parametrize("text", ["", "{", '{"a": 1', '{"a": 1} {}', "{'a': 1}", "\ud800", "nul"])
def test_invalid_json_is_an_error(text: str) -> None:
    """Each text that is no JSON is an error."""
    with pytest.raises((ValueError, StopIteration)):
        formats.parse(text.encode("utf-8", "surrogatepass"))


def test_the_parser_of_the_standard_library_is_the_last_resort(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An interpreter without the C part of json parses the same."""
    monkeypatch.setattr(formats, "make_scanner", None)

    assert formats.parse(b'{"a": [1]}') == {"a": [1]}


def test_each_invoker_is_in_the_catalog() -> None:
    """Events can name each agent as the one that runs the program."""
    invokers = {formats.INVOKERS.get(agent, agent) for agent in formats.HOOKS}

    assert invokers <= set(catalog.INVOKERS)
