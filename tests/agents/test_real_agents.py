"""The hooks inside the real coding agents, which run offline against fakes of their models.

`nox -s agents` installs the agents, and runs these tests.
"""

import json
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.agents import models_helpers
from tests.agents.real_agents_helpers import (
    FAILING,
    FOLDER,
    HANDING_OFF,
    MARKER,
    PROMPT,
    RUNS,
    Machine,
    foreign_hook,
)

if not FOLDER:
    pytest.skip("`nox -s agents` installs the coding agents", allow_module_level=True)

AGENTS = list(RUNS)
PACKAGES = (
    *("@anthropic-ai/claude-code", "@github/copilot", "@openai/codex", "@google/gemini-cli"),
)
INVOKERS = {"claude": "claude-code"}
SESSION = [
    ("command.executed", "/flow:implement"),
    ("agent.invoked", "/flow:implement reviewer"),
    ("agent.completed", "/flow:implement reviewer"),
    ("command.completed", "/flow:implement"),
]


@pytest.fixture
def machine(request, tmp_path: Path) -> Machine:
    """Make a user with the agent of the test, a project and consent."""
    return Machine(tmp_path, request.param)


@pytest.fixture(scope="session")
def without_hooks(tmp_path_factory) -> Callable[[str, str], tuple[int, str]]:
    """Return a function that runs an agent without hooks, once for each prompt."""

    @cache
    def run(agent: str, prompt: str) -> tuple[int, str]:
        machine = Machine(tmp_path_factory.mktemp("without"), agent)
        done = machine.run(prompt)
        assert machine.events() == []
        assert models_helpers.ANSWER in done.stdout
        return done.returncode, done.stdout

    return run


def each(*names: str) -> pytest.MarkDecorator:
    """Run a test with several agents."""
    return pytest.mark.parametrize("machine", names, indirect=True, ids=str)


def install(machine: Machine, code: int = 0) -> str:
    """Install the hooks, and return what the user is to paste."""
    return machine.kit("hooks", "install", "--for", machine.agent, code=code)


def test_versions(capsys) -> None:
    """The versions that run are those of the documentation, and are printed."""
    page = (Path(__file__).parents[2] / "docs/how-to/coding-agents.md").read_text("utf-8")
    found = {}
    for package in PACKAGES:
        text = Path(FOLDER, package, "package.json").read_text("utf-8")
        found[package] = json.loads(text)["version"]
    with capsys.disabled():
        print("\ncoding agents:", ", ".join(f"{name} {found[name]}" for name in found))

    assert [f"| {version} |" in page for version in found.values()] == [True] * len(found)


@each(*AGENTS)
def test_a_session(machine: Machine, without_hooks) -> None:
    """A command with a sub-agent is recorded, and the agent prints what it prints without hooks.

    Nothing of the prompt and the answers is stored. A second installation changes nothing. After
    `uninstall`, nothing is recorded. A hook of the user runs beside ours, except in Codex, where
    both would be one file.
    """
    foreign = None if machine.agent == "codex" else foreign_hook(machine)
    before = foreign and foreign[0].read_bytes()
    install(machine)
    install(machine)
    done = machine.run(PROMPT)
    events = machine.events(len(SESSION))

    assert machine.summary() == SESSION
    assert {event["source"] for event in events} == {"hook"}
    assert {event["invoker"] for event in events} == {INVOKERS.get(machine.agent, machine.agent)}
    assert len({event["session_id"] for event in events}) == 1
    assert [e["span_id"] for e in events[:2]] == [e["span_id"] for e in events[:1:-1]]
    assert [event.get("outcome") for event in events] == [None, None, "ok", "ok"]
    assert (done.returncode, done.stdout) == without_hooks(machine.agent, PROMPT)
    stored = machine.stored()
    for text in (MARKER, "START-AGENT", models_helpers.FOR_THE_AGENT, models_helpers.ANSWER):
        assert text.encode() not in stored
    status = json.loads(machine.kit("hooks", "status", "--json"))
    (row,) = [row for row in status["agents"] if row["agent"] == machine.agent]
    assert (row["hooks"], row["apps"]) == ("installed", ["acme"])
    assert row["last_event"]["event_type"] == "command.completed"
    machine.kit("hooks", "uninstall")
    if foreign:
        assert (foreign[0].read_bytes(), foreign[1].exists()) == (before, True)
    again = machine.run(PROMPT)

    assert (again.returncode, again.stdout) == without_hooks(machine.agent, PROMPT)
    assert len(machine.events()) == len(SESSION)


@each("codex")
def test_pasted_into_a_file_of_the_user(machine: Machine) -> None:
    """Where the user's own file is at the place of ours, what is printed works inside of it."""
    path, made = foreign_hook(machine)
    pasted = json.loads(install(machine, code=1))
    pasted["hooks"]["Stop"] += json.loads(path.read_text())["hooks"]["Stop"]
    path.write_text(json.dumps(pasted))
    install(machine)
    machine.run(PROMPT)

    assert (machine.summary(len(SESSION)), made.exists()) == (SESSION, True)
    machine.kit("hooks", "uninstall", code=1)
    assert json.loads(path.read_text()) == pasted


@each("claude", "copilot")
def test_a_failed_sub_agent(machine: Machine, without_hooks) -> None:
    """A sub-agent that fails is recorded as failed, and the command goes on."""
    install(machine)
    done = machine.run(FAILING)

    assert machine.summary(len(SESSION)) == [
        *SESSION[:2],
        ("agent.failed", "/flow:implement reviewer"),
        SESSION[3],
    ]
    assert (done.returncode, done.stdout) == without_hooks(machine.agent, FAILING)
    assert b"it fails" not in machine.stored()


@each("copilot")
def test_a_hand_off(machine: Machine) -> None:
    """A sub-agent that starts another one hands work over to it."""
    install(machine)
    machine.run(HANDING_OFF)
    found = machine.summary(6)

    assert [event for event, _ in found] == [
        *("command.executed", "agent.invoked", "handoff.clicked"),
        *("handoff.completed", "agent.completed", "command.completed"),
    ]
    assert [names for event, names in found if event.startswith("handoff.")] == [
        "/flow:implement reviewer helper"
    ] * 2


@each(*AGENTS)
def test_where_nothing_can_be_stored(machine: Machine, without_hooks) -> None:
    """If our files cannot be used, nothing is recorded, and the agent does the same as always."""
    install(machine)
    state = machine.home / ".local/state"
    shutil.rmtree(state)
    state.touch()
    shutil.rmtree(machine.project / ".acme")
    (machine.project / ".acme").touch()
    if os.geteuid():
        for folder in (machine.home / ".local", machine.project):
            folder.chmod(0o555)
    done = machine.run(PROMPT)
    machine.project.chmod(0o755)
    (machine.home / ".local").chmod(0o755)

    assert (done.returncode, done.stdout) == without_hooks(machine.agent, PROMPT)
    assert state.read_bytes() == b""
    assert (machine.project / ".acme").read_bytes() == b""


@each(*AGENTS)
def test_after_the_program_is_gone(machine: Machine, without_hooks) -> None:
    """If `telemetry-kit` was uninstalled, its hooks do nothing, and the agent does as always."""
    install(machine)
    script = json.loads(machine.kit("hooks", "status", "--for", machine.agent, "--json"))
    program = script["agents"][0]["program"]
    path = Path(script["agents"][0]["path"])
    path.write_text(path.read_text().replace(program, f"{program}-gone"))
    done = machine.run(PROMPT)

    assert (done.returncode, done.stdout) == without_hooks(machine.agent, PROMPT)
    assert machine.events() == []
