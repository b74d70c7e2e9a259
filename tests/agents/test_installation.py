"""The hooks of coding agents are files of our own; those of another author never change."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from telemetry_kit import configure
from telemetry_kit._runtime import runtime
from telemetry_kit.agents import installation
from telemetry_kit.agents.hook_files import AGENTS, HooksError, command_of
from telemetry_kit.agents.installation import IN_THE_WAY, INSTALLED, MISSING, PASTED

BY_NAME = {agent.name: agent for agent in AGENTS}
IDS = list(BY_NAME)
EVENTS = {
    "claude": {
        "UserPromptExpansion": None,
        "SubagentStart": None,
        "SubagentStop": None,
        "PostToolUseFailure": "Agent|Task",
        "Stop": None,
        "StopFailure": None,
    },
    "copilot": dict.fromkeys(
        ["SubagentStart", "SubagentStop", "ErrorOccurred", "UserPromptSubmit", "Stop"]
    ),
    "codex": dict.fromkeys(
        ["SubagentStart", "SubagentStop", "UserPromptSubmit", "Stop", "Interrupt"]
    ),
    "gemini": {
        "BeforeTool": "invoke_agent",
        "AfterTool": "invoke_agent",
        "BeforeAgent": None,
        "AfterAgent": None,
    },
    "cursor": {"subagentStop": None},
}
TIMEOUTS = {
    **dict.fromkeys(("claude", "codex", "cursor"), ("timeout", 5)),
    "copilot": ("timeoutSec", 5),
    "gemini": ("timeout", 5_000),
}
PLACES = {
    "claude": ".claude/skills/telemetry-kit/hooks/hooks.json",
    "copilot": ".copilot/hooks/telemetry-kit.json",
    "codex": ".codex/hooks.json",
    "gemini": ".gemini/extensions/telemetry-kit/hooks/hooks.json",
    "cursor": ".cursor/hooks.json",
}
MANIFESTS = {
    "claude": ".claude/skills/telemetry-kit/.claude-plugin/plugin.json",
    "gemini": ".gemini/extensions/telemetry-kit/gemini-extension.json",
}
FOREIGN = {"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "say done"}]}]}}
SCRIPT = os.path.join(os.path.dirname(sys.executable), "telemetry-kit")


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """Make a home directory."""
    home = tmp_path / "home"
    home.mkdir()
    return home


@pytest.fixture
def environ(user: Path) -> dict[str, str]:
    """Return the environment of its user."""
    return {"HOME": str(user), "PATH": "/nonexistent"}


@pytest.fixture(autouse=True)
def script(tmp_path: Path, monkeypatch) -> Path:
    """Make a program whose path has everything that a shell interprets; it prints its words."""
    path = tmp_path / "a b'c\"d$HOME`é\n" / "telemetry-kit"
    path.parent.mkdir()
    path.write_text('#!/bin/sh\necho "$@"\ncat\n')
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path.parent / "python3"))
    return path


def hooks_of(document: dict) -> dict[str, tuple[str | None, dict]]:
    """Return the matcher and the hook of each event."""
    found = {}
    for event, (entry,) in document["hooks"].items():
        (hook,) = entry.get("hooks", [entry])
        found[event] = (entry.get("matcher"), hook)
    return found


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of each file in a folder."""
    found = sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in found}


@pytest.mark.parametrize("name", IDS)
def test_what_is_installed(name: str, user: Path, environ) -> None:
    """Each agent gets its events, matchers and timeouts, each hook as one command."""
    found, is_changed = installation.install(BY_NAME[name], "acme", environ)
    written = files(user)
    document = json.loads(written[PLACES[name]])
    hooks = hooks_of(document)

    assert (found.state, found.apps, is_changed) == (INSTALLED, ("acme",), True)
    assert {PLACES[name], *([MANIFESTS[name]] if name in MANIFESTS else [])} == set(written)
    assert EVENTS[name] == {event: matcher for event, (matcher, _) in hooks.items()}
    assert [1] * (name in ("copilot", "cursor")) == [document[k] for k in document if k != "hooks"]
    key, seconds = TIMEOUTS[name]
    for event, (_, hook) in hooks.items():
        assert seconds == hook[key]
        assert "args" not in hook
        assert hook["command"].endswith(f" --app acme hook {name} {event}; exit 0")


def test_claude_waits_for_the_end_of_a_turn_alone(environ) -> None:
    """`claude -p` exits at once after `Stop`, so this hook alone is not asynchronous."""
    installation.install(BY_NAME["claude"], "acme", environ)
    text = Path(installation.find(BY_NAME["claude"], environ).path).read_text()
    hooks = hooks_of(json.loads(text))

    assert ["Stop"] == [event for event, (_, hook) in hooks.items() if "async" not in hook]


@pytest.mark.parametrize("name", IDS)
def test_the_command_runs_in_a_shell(name: str, environ, script: Path) -> None:
    """A shell passes the words, and stdin, whatever the path of the program has in it."""
    found, _ = installation.install(BY_NAME[name], "acme", environ)
    document = json.loads(Path(found.path).read_text())
    for event, (_, hook) in hooks_of(document).items():
        done = subprocess.run(["sh", "-c", hook["command"]], input=b"{}", capture_output=True)

        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout == f"--app acme hook {name} {event}\n{{}}".encode()
    script.unlink()
    done = subprocess.run(["sh", "-c", hook["command"]], input=b"{}", capture_output=True)

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert installation.find(BY_NAME[name], environ).is_broken


def test_the_form_of_the_command() -> None:
    """The command is the one that the documentation shows."""
    command = command_of("/abs/telemetry-kit", "", ["acme"], "claude", "Stop")

    assert command == (
        "[ -x '/abs/telemetry-kit' ] && "
        "exec '/abs/telemetry-kit' --app acme hook claude Stop; exit 0"
    )


@pytest.mark.parametrize("name", IDS)
def test_installed_twice(name: str, user: Path, environ) -> None:
    """A second installation writes nothing."""
    installation.install(BY_NAME[name], "acme", environ)
    before = {p: p.stat().st_mtime_ns for p in user.rglob("*")}
    found, is_changed = installation.install(BY_NAME[name], "acme", environ)

    assert (found.state, is_changed) == (INSTALLED, False)
    assert {p: p.stat().st_mtime_ns for p in user.rglob("*")} == before


@pytest.mark.parametrize("name", IDS)
def test_two_apps(name: str, user: Path, environ) -> None:
    """The hooks of two apps are one; the first one that is uninstalled leaves the other."""
    agent = BY_NAME[name]
    installation.install(agent, "acme", environ)
    installation.install(agent, "spec-kit", environ)
    both = installation.find(agent, environ)
    hooks = hooks_of(json.loads(Path(both.path).read_text()))
    _, is_changed = installation.uninstall(agent, "acme", environ)
    left = installation.find(agent, environ)
    _, is_deleted = installation.uninstall(agent, "spec-kit", environ)

    assert both.apps == ("acme", "spec-kit")
    commands = [hook["command"] for _, hook in hooks.values()]
    assert all(" --app acme --app spec-kit hook " in command for command in commands)
    assert (left.apps, is_changed, is_deleted) == (("spec-kit",), True, True)
    assert files(user) == {}


@pytest.mark.parametrize("name", IDS)
def test_a_moved_program(name: str, environ, script: Path, monkeypatch) -> None:
    """An installation by another environment replaces the path of the program."""
    installation.install(BY_NAME[name], "acme", environ)
    other = script.parent.parent / "other" / "telemetry-kit"
    shutil.copytree(script.parent, other.parent)
    monkeypatch.setattr(sys, "executable", str(other.parent / "python3"))
    found, is_changed = installation.install(BY_NAME[name], "acme", environ)

    assert (found.script, found.apps, is_changed) == (str(other), ("acme",), True)


@pytest.mark.parametrize("name", IDS)
def test_uninstalled(name: str, user: Path, environ) -> None:
    """Uninstalling deletes our files and folders, and no other one."""
    folder = Path(BY_NAME[name].settings_folder(environ))
    folder.mkdir()
    (folder / "settings.json").write_text("{}")
    before = files(user)
    installation.install(BY_NAME[name], "acme", environ)
    leftover = Path(installation.find(BY_NAME[name], environ).path).parent
    leftover = leftover / ".hooks.json-0123456789ab.telemetry-kit.tmp"
    leftover.touch(0o600)
    found, is_changed = installation.uninstall(BY_NAME[name], "acme", environ)

    assert (found.state, is_changed) == (INSTALLED, True)
    assert (files(user), list(user.rglob("telemetry-kit"))) == (before, [])
    assert installation.find(BY_NAME[name], environ).state == MISSING
    assert installation.uninstall(BY_NAME[name], "acme", environ)[1] is False


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_file_of_the_user_in_our_folder(name: str, user: Path, environ) -> None:
    """A file that the user added to our folder stays there when it is uninstalled."""
    installation.install(BY_NAME[name], "acme", environ)
    mine = user / PLACES[name]
    mine = mine.parent.parent / "mine.md"
    mine.write_text("mine")
    installation.uninstall(BY_NAME[name], "acme", environ)

    assert files(user) == {str(mine.relative_to(user)): b"mine"}


@pytest.mark.parametrize("name", MANIFESTS)
def test_an_interrupted_installation(name: str, user: Path, environ) -> None:
    """An installation that was killed between its two files is completed by the next one."""
    installation.install(BY_NAME[name], "acme", environ)
    complete = files(user)
    (user / PLACES[name]).unlink()

    assert installation.find(BY_NAME[name], environ).state == MISSING
    assert installation.install(BY_NAME[name], "acme", environ)[0].state == INSTALLED
    assert files(user) == complete


def in_the_way(kind: str, path: Path, top: Path) -> Path:
    """Put something at the place of our hooks, and return it."""
    place = top if "folder" in kind else path
    place.parent.mkdir(parents=True, exist_ok=True)
    if kind == "a file with other hooks":
        path.write_text(json.dumps(FOREIGN))
    elif kind == "a file without hooks of ours":
        path.write_text("{not json")
    elif kind == "a symbolic link":
        path.symlink_to(top.parent / "elsewhere")
    elif kind == "a folder":
        place = path
        path.mkdir(parents=True)
    elif kind == "no plain file":
        os.mkfifo(path)
    elif kind == "a folder with other files":
        top.mkdir()
        (top / "SKILL.md").write_text("mine")
    return place


KINDS = (
    "a file with other hooks",
    "a file without hooks of ours",
    "a symbolic link",
    "a folder",
    "no plain file",
    "a folder with other files",
)


@pytest.mark.parametrize(
    ("name", "kind"),
    # Only a plugin has a folder of its own.
    [(name, kind) for name in IDS for kind in KINDS[: 6 if name in MANIFESTS else 5]],
)
def test_something_in_the_way(name: str, kind: str, user: Path, environ) -> None:
    """What is at the place of our hooks is named and stays as it is, also when uninstalled."""
    path = user / PLACES[name]
    place = in_the_way(kind, path, path.parent.parent)
    before = sorted(user.rglob("*"))
    found, is_changed = installation.install(BY_NAME[name], "acme", environ)
    _, is_deleted = installation.uninstall(BY_NAME[name], "acme", environ)

    assert (found.state, found.what, found.path) == (IN_THE_WAY, kind, str(place))
    assert (is_changed, is_deleted, sorted(user.rglob("*"))) == (False, False, before)


@pytest.mark.parametrize("name", [n for n in IDS if "/" in PLACES[n].partition("/")[2]])
def test_a_file_instead_of_a_folder(name: str, user: Path, environ) -> None:
    """A file where a folder above our hooks must be is named."""
    path = user.joinpath(*PLACES[name].split("/")[:2])
    path.parent.mkdir()
    path.write_text("mine")
    found, is_changed = installation.install(BY_NAME[name], "acme", environ)

    assert (found.state, found.what, found.path) == (IN_THE_WAY, "a file", str(path))
    assert (is_changed, path.read_text()) == (False, "mine")


@pytest.mark.parametrize("name", IDS)
def test_a_linked_folder_of_the_agent(name: str, user: Path, environ) -> None:
    """The folder of an agent may be a link, as managers of configuration files make it."""
    real = user / "dotfiles"
    real.mkdir()
    Path(BY_NAME[name].settings_folder(environ)).symlink_to(real)
    found, _ = installation.install(BY_NAME[name], "acme", environ)
    installation.uninstall(BY_NAME[name], "acme", environ)

    assert (found.state, files(user)) == (INSTALLED, {})


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_link_inside_of_our_folder(name: str, user: Path, environ) -> None:
    """Nothing is written through a link inside of our own folder."""
    folder = (user / MANIFESTS[name]).parent
    outside = user / "outside"
    outside.mkdir()
    folder.parent.mkdir(parents=True)
    folder.symlink_to(outside)
    found, _ = installation.install(BY_NAME[name], "acme", environ)

    assert (found.state, found.what, files(outside)) == (IN_THE_WAY, "a symbolic link", {})


@pytest.mark.parametrize("is_linked", [False, True])
@pytest.mark.parametrize("name", ["codex", "cursor"])
def test_pasted_by_the_user(name: str, is_linked: bool, user: Path, environ) -> None:
    """Hooks that the user pasted into an own file count, and the file is never changed."""
    agent = BY_NAME[name]
    ours = json.loads(installation.content(agent, ["acme"]))
    event = next(iter(ours["hooks"]))
    ours["hooks"][event] += [{"command": "say done"}]
    path = user / PLACES[name]
    path.parent.mkdir()
    real = path.with_name("mine.json") if is_linked else path
    real.write_text(json.dumps(ours))
    if is_linked:
        path.symlink_to(real)
    found, is_changed = installation.install(agent, "acme", environ)
    deleted, failures = installation.uninstall_all("acme", environ, [agent])

    assert (found.state, found.apps, is_changed) == (PASTED, ("acme",), False)
    assert (deleted, len(failures)) == ([], 1)
    assert "delete the hooks with --app acme there yourself" in failures[0]
    assert json.loads(real.read_text()) == ours


@pytest.mark.parametrize(
    ("name", "variable", "folder"),
    [
        ("claude", "CLAUDE_CONFIG_DIR", ""),
        ("copilot", "COPILOT_HOME", ""),
        ("codex", "CODEX_HOME", ""),
        ("gemini", "GEMINI_CLI_HOME", ".gemini"),
    ],
)
def test_the_variables_of_the_agents(
    name: str, variable: str, folder: str, user: Path, environ
) -> None:
    """The variable of an agent names another folder; an empty one does not."""
    environ |= {variable: str(user / "other")}
    found, _ = installation.install(BY_NAME[name], "acme", environ)
    place = PLACES[name].partition("/")[2]

    assert Path(found.path) == user / "other" / folder / place
    assert installation.find(BY_NAME[name], environ | {variable: ""}).state == MISSING


def test_the_agents_that_are_there(user: Path, environ) -> None:
    """An agent is there if its folder or its program is."""
    (user / ".codex").mkdir()
    program = user / "bin/gemini"
    program.parent.mkdir()
    program.touch(0o755)
    environ |= {"PATH": str(program.parent)}

    assert ["codex", "gemini"] == [agent.name for agent in AGENTS if agent.is_present(environ)]


@pytest.mark.parametrize("home", ["", "relative", None])
def test_without_a_home_directory(home: str | None) -> None:
    """Without a home directory, nothing is installed."""
    environ = {} if home is None else {"HOME": home}
    if home is None and os.path.isabs(os.path.expanduser("~")):
        environ = {"HOME": ""}
    with pytest.raises(HooksError, match="there is no home directory"):
        installation.install(AGENTS[0], "acme", environ)


def test_without_the_program(environ, script: Path, user: Path) -> None:
    """If `telemetry-kit` is not beside the interpreter, nothing is installed."""
    script.unlink()
    with pytest.raises(HooksError, match="there is no program"):
        installation.install(AGENTS[0], "acme", environ)

    assert files(user) == {}


def test_a_path_that_is_no_text(environ, tmp_path: Path, monkeypatch, user: Path) -> None:
    """A program whose path is not UTF-8 cannot be named in JSON, so nothing is installed."""
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("the file system takes only UTF-8")
    path = os.path.join(folder, "telemetry-kit")
    with open(path, "w"):
        os.chmod(path, 0o755)
    monkeypatch.setattr(sys, "executable", os.path.join(folder, "python3"))
    with pytest.raises(HooksError, match="is not UTF-8"):
        installation.install(AGENTS[0], "acme", environ)

    assert files(user) == {}


@pytest.mark.parametrize("name", ["claude", "cursor"])
def test_a_frozen_program(name: str, environ, script: Path, monkeypatch) -> None:
    """A frozen program, which has no script beside it, runs itself."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(script))
    with configure(app="acme", prog="acme telemetry"):
        assert runtime.prog == "acme telemetry"
        found, _ = installation.install(BY_NAME[name], "acme", environ)
    document = json.loads(Path(found.path).read_text())
    event, (_, hook) = next(iter(hooks_of(document).items()))
    done = subprocess.run(["sh", "-c", hook["command"]], input=b"", capture_output=True)

    assert done.stdout == f"telemetry --app acme hook {name} {event}\n".encode()
    assert (found.state, found.apps, found.script) == (INSTALLED, ("acme",), str(script))
