"""The events of a coding agent are recorded: at most one for each hook."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from telemetry_kit import settings
from telemetry_kit.agents import formats, hook
from telemetry_kit.consent import changes
from telemetry_kit.schema import catalog
from tests.agents.agents_helpers import NAMES, PAYLOADS, TURNS, payload

INVOKERS = {"claude": "claude-code", "codex": "codex", "copilot": "copilot", "gemini": "gemini"}
STARTS_AND_ENDS = ["command.executed", "agent.invoked", "agent.completed", "command.completed"]
SECRET = "SECRET-c3po"


def running(place) -> list[Path]:
    """Return the files about what is running."""
    return sorted(Path(place.key_file).parent.glob("running-*"))


def written(place) -> bytes:
    """Return the bytes and the names of all files of the project and its user."""
    files = [path for top in (place.root, place.user) for path in top.rglob("*") if path.is_file()]
    return b"\n".join([*map(os.fsencode, files), *(path.read_bytes() for path in files)])


# -- a turn --------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", TURNS)
def test_a_turn(place, hooks, agent: str) -> None:
    """A command and the sub-agent inside it start and end once, in one session, with durations."""
    place.clock.advance(10)
    for event in TURNS[agent]:
        hooks.send(f"{agent}-{event}")
        place.clock.advance(0.5)
    events = place.events()
    command, started, ended, done = events

    assert place.types() == STARTS_AND_ENDS
    assert {e["command"] for e in events} == {"/plan"}
    assert (started["agent"], ended["agent"]) == ("reviewer", "reviewer")
    assert {(e["source"], e["invoker"]) for e in events} == {("hook", INVOKERS[agent])}
    assert len({e["session_id"] for e in events}) == 1
    assert command["span_id"] == done["span_id"] == started["parent_id"] == ended["parent_id"]
    assert started["span_id"] == ended["span_id"] != command["span_id"]
    assert (ended["outcome"], done["outcome"]) == ("ok", "ok")
    assert (
        ended["duration_ms"] == 500 * (TURNS[agent].index("SubagentStop") - 1)
        if ("SubagentStop" in TURNS[agent])
        else 1_500
    )
    assert done["duration_ms"] == 500 * (len(TURNS[agent]) - 1)
    assert running(place) == []


@pytest.mark.parametrize("agent", TURNS)
@pytest.mark.parametrize("from_log", [False, True])
def test_the_role_of_a_command(place, hooks, agent: str, from_log: bool) -> None:
    """The role that a project gives to a command is that of its sub-agents and of all ends."""
    file = place.root / ".flowspec/telemetry.toml"
    file.parent.mkdir(exist_ok=True)
    file.write_text('roles = ["maker"]\n[command_roles]\n"/pl*" = "maker"\n')
    for event in TURNS[agent]:
        hooks.send(f"{agent}-{event}")
        for path in running(place) if from_log and event != "BeforeTool" else ():
            path.unlink()

    assert place.types()[0] == "command.executed"
    # A sub-agent of a turn whose start is forgotten is not inside it.
    assert {e.get("role") for e in place.events() if "command" in e} == {"maker"}


def test_an_undeclared_role_is_a_pseudonym(place, hooks) -> None:
    """A role that a file maps to, but that is not declared, is stored as a pseudonym."""
    (place.root / ".flowspec").mkdir(exist_ok=True)
    (place.root / ".flowspec/telemetry.toml").write_text(f'[command_roles]\n"/plan" = "{SECRET}"\n')
    hooks.send("claude-UserPromptExpansion")

    assert place.events()[0]["role"].startswith("h:")
    assert SECRET.encode() not in place.log.read_bytes()


def test_ids_are_pseudonyms(place, hooks) -> None:
    """The IDs of session, prompt and sub-agent are stored as the digits of their pseudonyms."""
    hooks.send("claude-SubagentStart")
    sent, (event,) = payload("claude-SubagentStart"), place.events()

    assert event["session_id"] == place.key.outside_id("session_id", sent["session_id"])
    assert event["span_id"] == place.key.outside_id("parent_id", sent["agent_id"])


def test_undeclared_names_are_pseudonyms(place, hooks) -> None:
    """A command and a sub-agent that nobody declared are stored as pseudonyms, at the end, too."""
    hooks.send("claude-UserPromptExpansion", command_name="secret-plan")
    hooks.send("claude-SubagentStart", agent_type="spy")
    hooks.send("claude-SubagentStop", agent_type="spy")
    hooks.send("claude-Stop")
    names = {"command": "/secret-plan", "agent": "spy"}
    command, agent = (place.key.pseudonym(field, name) for field, name in names.items())

    assert [(e["command"], e.get("agent")) for e in place.events()] == [
        (command, None),
        (command, agent),
        (command, agent),
        (command, None),
    ]
    assert b"spy" not in written(place)


def test_names_of_the_project(place, hooks) -> None:
    """Names in the project's settings file are stored in plain text, whatever their letters."""
    (place.root / ".flowspec").mkdir(exist_ok=True)
    file = place.root / ".flowspec/telemetry.toml"
    file.write_text('commands = ["/pl\u00e4n"]\nagents = ["the \\"best\\""]\n', "utf-8")
    for name in ("UserPromptExpansion", "SubagentStart", "SubagentStop", "Stop"):
        hooks.send(f"claude-{name}", command_name="pl\u00e4n", agent_type='the "best"')

    assert {e["command"] for e in place.events()} == {"/pl\u00e4n"}
    assert [e.get("agent") for e in place.events()] == [None, 'the "best"', 'the "best"', None]


@pytest.mark.parametrize("agent", ["codex", "copilot", "gemini"])
def test_a_prompt_without_a_declared_command(place, hooks, agent: str) -> None:
    """A first word that is no declared command is not stored, not even as a pseudonym."""
    name = f"{agent}-{TURNS[agent][0]}"
    hooks.send(name, prompt=f"/{SECRET} and more")
    hooks.send(name, prompt="do /plan")
    hooks.send(f"{agent}-{TURNS[agent][-1]}")

    assert place.events() == []
    assert SECRET.encode() not in written(place)


def test_nothing_without_consent(undecided, hooks) -> None:
    """After a denial nothing is written, and what is running stays as it was."""
    hooks.send("claude-UserPromptExpansion")
    changes.disable_telemetry(undecided.root)
    before = undecided.tree()
    for name in NAMES:
        hooks.send(name)

    assert undecided.tree() == before


# -- the end -------------------------------------------------------------------------------------


def test_a_command_ends_once(place, hooks) -> None:
    """After a background sub-agent, the second end of the turn is not recorded."""
    hooks.send("claude-UserPromptExpansion")
    hooks.send("claude-SubagentStart")
    hooks.send("claude-Stop")
    hooks.send("claude-SubagentStop")
    hooks.send("claude-Stop")
    hooks.send("claude-Stop")

    assert place.types() == [
        *("command.executed", "agent.invoked", "command.completed", "agent.completed")
    ]


def test_a_command_is_found_in_the_log(place, hooks) -> None:
    """If the file about it is gone, the command ends once all the same, without a duration."""
    hooks.send("claude-UserPromptExpansion", command_name="other")
    for path in running(place):
        path.unlink()
    hooks.send("claude-Stop")
    hooks.send("claude-Stop")
    start, end = place.events()

    assert (end["event_type"], end["outcome"]) == ("command.completed", "ok")
    assert {k: end[k] for k in ("command", "span_id", "session_id")} == {
        k: start[k] for k in ("command", "span_id", "session_id")
    }
    assert "duration_ms" not in end


def test_a_turn_without_an_id_is_found_in_the_log(place, hooks) -> None:
    """The last command of the session ends where the agent gives its prompts no IDs."""
    hooks.send("copilot-UserPromptSubmit")
    for path in running(place):
        path.unlink()
    hooks.send("copilot-Stop")
    hooks.send("copilot-Stop")

    assert place.types() == ["command.executed", "command.completed"]


def test_only_the_end_of_the_log_is_searched(place, hooks) -> None:
    """A command that started more than 64 KiB ago is not found."""
    hooks.send("claude-UserPromptExpansion")
    for path in running(place):
        path.unlink()
    with place.log.open("ab") as log:
        log.write(b"\n" * hook.TAIL_BYTES)
    hooks.send("claude-Stop")

    assert place.types() == ["command.executed"]


def test_names_from_an_edited_log_are_not_stored(place, hooks) -> None:
    """A name that was put into the log by hand is not copied to the end."""
    hooks.send("claude-UserPromptExpansion")
    for path in running(place):
        path.unlink()
    place.log.write_bytes(place.log.read_bytes().replace(b'"/plan"', f'"{SECRET}"'.encode()))
    hooks.send("claude-Stop")

    assert "command" not in place.events()[-1]


def test_an_unknown_turn_ends_without_an_event(place, hooks) -> None:
    """The end of a turn that began with no command is not recorded."""
    for name in ("claude-Stop", "claude-StopFailure", "codex-Interrupt", "gemini-AfterAgent"):
        hooks.send(name)

    assert place.lines() == []


def test_a_sub_agent_whose_start_is_unknown(place, hooks) -> None:
    """Its end is recorded, once, without a duration."""
    hooks.send("claude-SubagentStop")
    hooks.send("claude-SubagentStop")
    (event,) = place.events()

    assert (event["event_type"], event["agent"]) == ("agent.completed", "reviewer")
    assert "duration_ms" not in event


def test_the_same_start_twice(place, hooks) -> None:
    """A hook that is installed twice records one start and one end."""
    for event in TURNS["claude"]:
        hooks.send(f"claude-{event}")
        hooks.send(f"claude-{event}")

    assert place.types() == STARTS_AND_ENDS


def test_an_interrupted_turn_without_an_id(place, hooks) -> None:
    """If a turn had no end, the end of the next one in the session belongs to the next one."""
    place.clock.advance(10)
    hooks.send("copilot-UserPromptSubmit")
    place.clock.advance(60)
    hooks.send("copilot-UserPromptSubmit")
    place.clock.advance(1)
    hooks.send("copilot-Stop")
    _, second, end = place.events()

    assert (end["span_id"], end["duration_ms"]) == (second["span_id"], 1_000)
    assert running(place) == []


@pytest.mark.parametrize(
    ("names", "outcome", "error"),
    [
        (["claude-UserPromptExpansion", "claude-StopFailure"], "error", "rate_limit"),
        (["claude-SubagentStart", "claude-StopFailure-inner"], "error", "other"),
        (["claude-SubagentStart", "claude-PostToolUseFailure"], "cancelled", None),
        (["codex-UserPromptSubmit", "codex-Interrupt"], "cancelled", None),
        (["copilot-SubagentStart", "copilot-ErrorOccurred"], "error", "other"),
        (["gemini-BeforeTool", "gemini-AfterTool-failed"], "error", "other"),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else None,
)
def test_a_failure(place, hooks, names: list[str], outcome: str, error: str | None) -> None:
    """A failure ends what started: with a known word, `other`, or none if it was interrupted."""
    for name in names:
        hooks.send(name)
    start, end = place.events()

    assert end["event_type"] == start["event_type"].split(".")[0] + ".failed"
    assert (end["outcome"], end.get("error_type")) == (outcome, error)
    assert {k: end.get(k) for k in ("span_id", "session_id", "agent", "command")} == {
        k: start.get(k) for k in ("span_id", "session_id", "agent", "command")
    }


@pytest.mark.parametrize("word", [*catalog.FAILURES, "unknown", SECRET, {"message": SECRET}, 7])
def test_the_word_for_a_failure(place, hooks, word: object) -> None:
    """A word that is known is stored, and `other` stands for anything else."""
    hooks.send("claude-UserPromptExpansion")
    hooks.send("claude-StopFailure", error=word)
    expected = word if word in catalog.FAILURES else "other"

    assert place.events()[-1]["error_type"] == expected
    assert SECRET.encode() not in written(place)


def test_the_failure_of_one_of_several_sub_agents(place, hooks) -> None:
    """If the agent does not say which one has failed, the event names none."""
    hooks.send("claude-SubagentStart")
    hooks.send("claude-SubagentStart", agent_id="another")
    hooks.send("claude-PostToolUseFailure", is_interrupt=False)

    assert place.types()[2:] == ["agent.failed"]
    assert "agent" not in place.events()[-1]
    assert len(running(place)) == 2


def test_the_failure_of_a_sub_agent_of_a_sub_agent(place, hooks) -> None:
    """The sub-agent that uses the tool is not the one that has failed."""
    hooks.send("claude-SubagentStart")
    hooks.send("claude-SubagentStart", agent_id="another", agent_type="tester")
    hooks.send("claude-PostToolUseFailure-inner")
    _, tester, failed = place.events()

    assert failed["event_type"] == "agent.failed"
    assert (failed["agent"], failed["span_id"]) == (tester["agent"], tester["span_id"])


def test_a_failed_tool_without_a_sub_agent(place, hooks) -> None:
    """A tool that fails before the sub-agent starts, or after it ended, is no failure of one."""
    hooks.send("claude-PostToolUseFailure")
    hooks.send("claude-SubagentStart")
    hooks.send("claude-StopFailure-inner")
    hooks.send("claude-PostToolUseFailure")
    hooks.send("claude-PostToolUseFailure", tool_name="Bash")

    assert place.types() == ["agent.invoked", "agent.failed"]


def test_a_sub_agent_without_a_start_event(place, hooks) -> None:
    """Cursor reports only the end."""
    hooks.send("cursor-subagentStop")
    hooks.send("cursor-subagentStop", status="error")

    assert [(e["event_type"], e["agent"], e["invoker"]) for e in place.events()] == [
        ("agent.completed", "reviewer", "cursor"),
        ("agent.failed", "reviewer", "cursor"),
    ]


def test_many_hooks_at_once(place) -> None:
    """Of many processes that start and end one command at once, one of each kind records."""
    command = [sys.executable, "-m", "telemetry_kit", "--app", "flowspec", "hook", "claude"]
    for event in ("UserPromptExpansion", "Stop"):
        path = PAYLOADS / f"claude-{event}.json"
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(path.open()) for _ in range(6)]
            processes = [
                subprocess.Popen([*command, event], stdin=file, env=place.env, cwd=place.root)
                for file in files
            ]
            codes = [process.wait() for process in processes]
        assert codes == [0] * 6

    assert place.types() == ["command.executed", "command.completed"]


def test_two_sub_agents_without_ids(place, hooks) -> None:
    """In one session, the sub-agent of a name ends that started first."""
    settings.configure(agents=["planner"])
    planner = {"agent_name": "planner"}
    hooks.send("gemini-BeforeTool")
    hooks.send("gemini-BeforeTool", tool_input=planner)
    hooks.send("gemini-AfterTool", tool_input=planner)
    hooks.send("gemini-AfterTool")
    spans = [e["span_id"] for e in place.events()]

    assert [e["agent"] for e in place.events()] == ["reviewer", "planner", "planner", "reviewer"]
    assert (spans[0], spans[1]) == (spans[3], spans[2])


# -- hand-offs -----------------------------------------------------------------------------------


def nested(hooks, end: str = "copilot-SubagentStop", child: str = "tester") -> None:
    """Let the sub-agent of a command start another one."""
    for name in ("copilot-UserPromptSubmit", "copilot-SubagentStart"):
        hooks.send(name)
    parent = payload("copilot-SubagentStart")["agent_id"]
    other = {"agent_id": "child", "agent_type": child, "parent_agent_id": parent}
    hooks.send("copilot-SubagentStart", **other, agentName=None, sessionId=parent)
    hooks.send(end, **other)
    hooks.send("copilot-SubagentStop")


def test_a_hand_off(place, hooks) -> None:
    """A sub-agent that starts another one is a hand-off with both names."""
    nested(hooks)
    events = place.events()
    names = ("reviewer", place.key.pseudonym("target_agent", "tester"))

    assert place.types()[2:4] == ["handoff.clicked", "handoff.completed"]
    assert [(e["source_agent"], e["target_agent"]) for e in events[2:4]] == [names, names]
    assert events[2]["parent_id"] == events[1]["span_id"]
    assert len({e["session_id"] for e in events}) == 1
    assert events[2]["span_id"] == events[3]["span_id"]
    assert {"agent"}.isdisjoint(events[2].keys() | events[3].keys())
    assert place.types()[4:] == ["agent.completed"]


def test_a_hand_off_of_undeclared_sub_agents(place, hooks) -> None:
    """Both names are pseudonyms, each of its own field."""
    hooks.send("copilot-SubagentStart", agent_type="spy", agentName=None)
    parent = payload("copilot-SubagentStart")["agent_id"]
    hooks.send("copilot-SubagentStart", agent_id="x", agent_type="mole", parent_agent_id=parent)
    event = place.events()[-1]

    assert (event["source_agent"], event["target_agent"]) == (
        place.key.pseudonym("source_agent", "spy"),
        place.key.pseudonym("target_agent", "mole"),
    )
    assert b"spy" not in written(place)


def test_a_failed_hand_off(place, hooks) -> None:
    """A failure of the sub-agent that took over is a failure of that sub-agent."""
    settings.configure(agents=["tester"])
    nested(hooks, "copilot-ErrorOccurred")
    event = place.events()[3]

    assert (event["event_type"], event["agent"]) == ("agent.failed", "tester")
    assert {"source_agent", "target_agent"}.isdisjoint(event)


# -- what is running -----------------------------------------------------------------------------


def test_what_is_running_is_private(place, hooks) -> None:
    """The file about it is closed to others and contains names as events do, and no time."""
    hooks.send("claude-SubagentStart", agent_type="spy")
    (path,) = running(place)
    started, *lines = path.read_text().splitlines()

    assert path.stat().st_mode & 0o777 == 0o600
    assert int(started) == int(place.clock() * 1_000)
    assert {line.split("=")[0] for line in lines} == {
        *("agent", "as_source", "session_id", "span_id")
    }


def test_after_a_day_nothing_is_running(place, hooks) -> None:
    """The next start of any command deletes what is a day old, whose end is then without it."""
    hooks.send("claude-SubagentStart")
    hooks.send("codex-SubagentStart")
    old, new = running(place)
    os.utime(old, (place.now() - 86_401,) * 2)
    hooks.send("claude-UserPromptExpansion")

    assert old not in running(place)
    assert new in running(place)


def test_any_command_deletes_what_is_old(place, hooks) -> None:
    """The maintenance after each command deletes what is a day old."""
    hooks.send("claude-SubagentStart")
    hooks.send("codex-SubagentStart")
    old, new = running(place)
    os.utime(old, (1.7e9,) * 2)
    done = place.python("-m", "telemetry_kit", "--app", "flowspec", "stats")

    assert done.returncode == 0, done.stderr
    assert running(place) == [new]


def test_clear_deletes_what_is_running(place, hooks) -> None:
    """`clear` deletes the files about it with the key of their pseudonyms."""
    hooks.send("claude-SubagentStart")

    assert changes.clear(place.home) == []
    assert running(place) == []


def test_reset_deletes_what_is_running(place, hooks) -> None:
    """`reset` leaves nothing."""
    hooks.send("claude-SubagentStart")

    assert changes.reset(place.home) == []
    assert [path for path in place.tree() if "running" in path] == []


@pytest.mark.parametrize("data", [b"", b"x", b"-5\nagent=reviewer", b"\xff", b"9" * 5_000])
def test_a_damaged_file_about_what_is_running(place, hooks, data: bytes) -> None:
    """The end is recorded with the name of the payload, without a duration."""
    hooks.send("claude-SubagentStart")
    running(place)[0].write_bytes(data)
    hooks.send("claude-SubagentStop")
    event = place.events()[-1]

    assert (event["event_type"], event["agent"]) == ("agent.completed", "reviewer")
    assert "duration_ms" not in event or data.startswith(b"-5")
    assert running(place) == []


def test_a_name_from_an_edited_file_is_not_stored(place, hooks) -> None:
    """A name that was put into the file by hand is not copied to the end."""
    hooks.send("claude-UserPromptExpansion")
    (path,) = running(place)
    path.write_bytes(path.read_bytes().replace(b"/plan", SECRET.encode()))
    hooks.send("claude-Stop")

    assert "command" not in place.events()[-1]


# -- nothing else is read ------------------------------------------------------------------------

TEXTS = st.text(max_size=20).map(lambda text: SECRET + text)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=8,
)
FIELDS = sorted({field for name in NAMES for field in payload(name)} | {"timestamp", "traceId"})
MARKS = {"conversation_id", "cursor_version", "turn_id", "timestamp", "traceId", "hook_event_name"}


@hypothesis_settings(max_examples=30)
@given(data=st.data())
def test_no_secret_of_a_payload_reaches_the_disk(place, hooks, data: st.DataObject) -> None:
    """Whatever an agent sends in any field, no text of it is stored anywhere."""
    name = data.draw(st.sampled_from(NAMES))
    fields = [f for f in FIELDS if f not in MARKS]
    changed = data.draw(st.dictionaries(st.sampled_from(fields), VALUES, max_size=6))
    prompt = data.draw(st.sampled_from(["", "/"])) + SECRET
    hooks.send(name, **{"prompt": prompt, "user_email": SECRET, **changed, SECRET: SECRET})

    assert SECRET.encode() not in written(place)


@pytest.mark.parametrize("name", NAMES)
def test_each_field_of_each_payload(place, hooks, name: str) -> None:
    """A secret in every text of the payload is stored nowhere; in a name it is a pseudonym."""

    def planted(value: object, key: str = "") -> object:
        if isinstance(value, dict):
            return {k: planted(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [planted(v) for v in value]
        if key in MARKS | {"tool_name"} or not isinstance(value, str):
            return value
        return f"/{SECRET} {value}" if key == "prompt" else f"{SECRET} {value}"

    hooks.send(name, **{k: planted(v, k) for k, v in payload(name).items()})

    assert SECRET.encode() not in written(place)
    assert all(event["source"] == "hook" for event in place.events())


def test_an_unknown_event_or_agent(place, hooks) -> None:
    """Nothing is recorded for an agent or event that is not in the table."""
    data = json.dumps(payload("claude-SubagentStart")).encode()
    for words in (
        ["claude", "Started"],
        ["emacs", "SubagentStart"],
        ["claude"],
        [],
        ["a", "b", "c"],
    ):
        hooks.run(data, *words)

    assert place.lines() == []
    assert "emacs" not in formats.HOOKS
