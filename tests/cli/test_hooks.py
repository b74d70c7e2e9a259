"""`telemetry-kit hooks` installs the hooks of coding agents, takes them away, and shows them."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from telemetry_kit import configure
from telemetry_kit._runtime import runtime
from telemetry_kit.agents.hook_files import AGENTS, NAMES
from telemetry_kit.agents.installation import content, find
from telemetry_kit.cli import click_group, main
from telemetry_kit.consent import cache
from telemetry_kit.schema.encoding import encode

OURS = "telemetry-kit"
FOREIGN = '{"hooks": {"Stop": [{"hooks": [{"type": "command", "command": "say done"}]}]}}\n'


@pytest.fixture
def hooks(undecided, capsys, tmp_path, monkeypatch):
    """Return a function that runs `hooks` for an app, and returns its code, stdout and stderr."""
    program = tmp_path / "bin/telemetry-kit"
    program.parent.mkdir()
    program.touch(0o755)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python3")))
    undecided.environ["PATH"] = "/nonexistent"

    def run(*words: str, app: str = "acme") -> tuple[int, str, str]:
        code = main(["--app", app, "hooks", *words])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    run.program = program
    run.user = undecided.user
    run.place = undecided
    return run


def files(user: Path) -> list[str]:
    """Return the files in the user's home directory."""
    return sorted(str(p.relative_to(user)) for p in user.rglob("*") if p.is_file())


def test_the_agents_that_are_there(hooks) -> None:
    """Without `--for`, each agent that has a folder gets hooks, and no other one."""
    (hooks.user / ".claude").mkdir()
    (hooks.user / ".copilot").mkdir()
    code, out, err = hooks("install")

    assert (code, out) == (0, "")
    assert err.splitlines() == [
        f"Claude Code: installed in {hooks.user}/.claude/skills/telemetry-kit/hooks/hooks.json.",
        f"Copilot CLI and VS Code: installed in {hooks.user}/.copilot/hooks/telemetry-kit.json.",
        "Nothing is recorded without consent: telemetry-kit --app acme enable",
    ]
    assert all(name.startswith((".claude/", ".copilot/")) for name in files(hooks.user))


def test_no_agent_is_there(hooks) -> None:
    """If no agent is found, one sentence says how to name one, and nothing is written."""
    code, out, err = hooks("install")

    assert (code, out, files(hooks.user)) == (1, "", [])
    assert "no coding agent was found: name one with --for claude|copilot|codex" in err


def test_named_agents(hooks) -> None:
    """`--for` installs the hooks of an agent that is not there yet, and may be repeated."""
    code, out, err = hooks("install", "--for", "codex", "--for=cursor")

    assert (code, out) == (0, "")
    assert files(hooks.user) == [".codex/hooks.json", ".cursor/hooks.json"]
    assert "Codex runs a hook only after you trust it: type /hooks in Codex." in err


def test_installed_twice(hooks) -> None:
    """A second installation reports that the hooks are there."""
    hooks("install", "--for", "claude")
    code, _, err = hooks("install", "--for", "claude")

    assert (code, "Claude Code: already installed in " in err) == (0, True)


def test_a_file_of_the_user(hooks) -> None:
    """Where the user has such a file, what to paste is printed as JSON, and nothing changes."""
    path = hooks.user / ".codex/hooks.json"
    path.parent.mkdir()
    path.write_text(FOREIGN)
    code, out, err = hooks("install", "--for", "codex", "--for", "claude")
    (codex,) = [agent for agent in AGENTS if agent.name == "codex"]

    assert (code, path.read_text(), out) == (1, FOREIGN, content(codex, ["acme"]))
    assert json.loads(out)["hooks"].keys() >= {"SubagentStart", "Stop", "Interrupt"}
    assert f"Codex: {path} is a file with other hooks, so nothing was changed." in err
    assert "Claude Code: installed in " in err
    pasted = json.loads(out)
    pasted["hooks"]["Stop"] += json.loads(FOREIGN)["hooks"]["Stop"]
    path.write_text(json.dumps(pasted))

    assert hooks("install", "--for", "codex")[0] == 0


def test_a_home_that_cannot_be_written(hooks) -> None:
    """A folder that cannot be made is named with the reason, and the other agents go on."""
    (hooks.user / ".claude").write_text("no folder")
    code, out, err = hooks("install", "--for", "claude", "--for", "copilot")

    assert code == 1
    assert f"Claude Code: {hooks.user}/.claude is a file, so nothing was changed." in err
    assert "Copilot CLI and VS Code: installed in" in err
    assert json.loads(out)["hooks"]


READ_ONLY = """
import os, sys, textwrap
from telemetry_kit import configure
from telemetry_kit.agents import installation
from telemetry_kit.cli.commands import hooks
from telemetry_kit.storage import maintenance
configure(app="acme")
installation.program_of_hooks()
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
sys.exit(hooks.run(None, "install", ("claude", "codex"), None, False))
"""


def test_a_read_only_home(unprivileged) -> None:
    """In a home directory that cannot be written, nothing is left, and the reason is named."""
    (unprivileged.user / ".claude").mkdir()
    before = files(unprivileged.user)
    for folder in (unprivileged.user / ".claude", unprivileged.user):
        folder.chmod(0o555)
    done = unprivileged.python("-c", READ_ONLY)
    unprivileged.user.chmod(0o755)

    assert (done.returncode, done.stdout, files(unprivileged.user)) == (1, "", before)
    assert "Claude Code: nothing was installed: " in done.stderr
    assert f"Codex: nothing was installed: {unprivileged.user}/.codex: permission" in done.stderr
    assert "Traceback" not in done.stderr


def test_uninstalled(hooks) -> None:
    """`uninstall` deletes the hooks of this app alone, and names what it deleted."""
    hooks("install", "--for", "claude", "--for", "gemini")
    hooks("install", "--for", "gemini", app="other")
    code, out, err = hooks("uninstall")
    left = files(hooks.user)

    assert (code, out) == (0, "")
    assert err.count("Deleted: ") == 2
    assert left
    assert all(name.startswith(".gemini/extensions/telemetry-kit/") for name in left)
    assert hooks("uninstall") == (0, "", "No hooks of acme are installed.\n")
    assert (hooks("uninstall", app="other")[0], files(hooks.user)) == (0, [])


def test_uninstalled_from_a_file_of_the_user(hooks) -> None:
    """Hooks in a file of the user are named, and the user must delete them."""
    hooks("install", "--for", "cursor")
    path = hooks.user / ".cursor/hooks.json"
    document = json.loads(path.read_text())
    document["hooks"]["stop"] = [{"command": "say done"}]
    path.write_text(json.dumps(document))
    code, _, err = hooks("uninstall")

    assert (code, json.loads(path.read_text())) == (1, document)
    assert f"Not deleted: {path} is a file with other hooks: delete the hooks with --app" in err


def event_of(invoker: str, day: str, event_type: str, source: str = "hook") -> bytes:
    """Return the line of an event."""
    fields = {
        "schema_version": "1.0",
        "event_id": hashlib.sha256(f"{invoker} {day} {event_type}".encode()).hexdigest()[:16],
        "event_type": event_type,
        "timestamp": f"{day}T00:00:00Z",
        "seq": 1,
        "source": source,
        "invoker": invoker,
        "key_epoch": 1,
    }
    return encode(fields)


def test_status(hooks) -> None:
    """`status` shows each agent, its hooks, and the last event that they recorded anywhere."""
    place = hooks.place
    other = place.root.parent / "other"
    (other / ".git").mkdir(parents=True)
    with cache.override_runtime(place.environ):
        main(["--app", "acme", "enable", "--yes"])
        main(["--app", "acme", "--project", str(other), "enable", "--yes"])
    hooks("install", "--for", "claude", "--for", "codex")
    (place.root / ".acme").mkdir(exist_ok=True)
    (place.root / ".acme/telemetry.jsonl").write_bytes(
        event_of("claude-code", "2024-02-01", "agent.invoked")
        + event_of("claude-code", "2024-02-02", "agent.completed")
        + event_of("claude-code", "2024-02-03", "command.executed", source="cli")
    )
    (other / ".acme").mkdir(exist_ok=True)
    (other / ".acme/telemetry.jsonl").write_bytes(
        event_of("codex", "2024-02-05", "agent.failed")
        + event_of("claude-code", "2024-02-01", "agent.invoked")
    )
    code, out, _ = hooks("status", "--json")
    rows = {row["agent"]: row for row in json.loads(out)["agents"]}

    assert (code, list(rows)) == (0, list(NAMES))
    shown = [
        (row["hooks"], row["apps"], row["present"]) for row in (rows["claude"], rows["gemini"])
    ]
    assert shown == [("installed", ["acme"], True), ("missing", [], False)]
    assert {n: row["last_event"] for n, row in rows.items() if row["last_event"]} == {
        "claude": {"day": "2024-02-02", "event_type": "agent.completed"},
        "codex": {"day": "2024-02-05", "event_type": "agent.failed"},
    }
    _, out, _ = hooks("status")
    lines = {line.split("  ")[0]: line for line in out.splitlines()}

    assert "last event of acme" in lines["agent"]
    assert lines["Claude Code"].endswith("2024-02-02 agent.completed")
    assert "agent not found" in lines["Gemini CLI"]


def test_a_program_that_is_gone(hooks) -> None:
    """If the program of the hooks was uninstalled, `status` says how to repair them."""
    hooks("install", "--for", "claude")
    hooks.program.unlink()
    code, out, err = hooks("status", "--for", "claude")

    assert (code, "program missing" in out) == (1, True)
    assert f"{hooks.program} is missing, so the hooks do nothing: telemetry-kit --app acme " in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "the following arguments are required: ACTION"),
        (("instal",), "hooks 'instal': did you mean 'install'?"),
        (("install", "--for", "cluade"), "--for 'cluade': did you mean 'claude'?"),
    ],
)
def test_bad_words(hooks, words, message: str) -> None:
    """An unknown action or agent is a usage error with the closest one."""
    code, out, err = hooks(*words)

    assert (code, out, message in err) == (2, "", True), err


def test_the_app_after_the_command(hooks, capsys) -> None:
    """The app may also be named after the command."""
    code = main(["hooks", "install", "--for", "codex", "--app", "spec-kit"])
    capsys.readouterr()
    (codex,) = [agent for agent in AGENTS if agent.name == "codex"]

    assert (code, find(codex, runtime.environ).apps) == (0, ("spec-kit",))


def test_mounted(hooks) -> None:
    """A host installs the hooks for its own app."""
    with configure(app="acme"):
        done = CliRunner().invoke(click_group("acme"), ["hooks", "install", "--for", "codex"])
    (codex,) = [agent for agent in AGENTS if agent.name == "codex"]

    assert (done.exit_code, find(codex, runtime.environ).apps) == (0, ("acme",))
    assert "Nothing is recorded without consent: acme telemetry enable" in done.stderr


def test_reset_takes_the_hooks_away(hooks, capsys) -> None:
    """`reset --all-projects` deletes the hooks of its app, and a plain `reset` keeps them."""
    hooks("install", "--for", "claude", "--for", "codex")
    hooks("install", "--for", "codex", app="other")
    main(["--app", "acme", "reset", "--yes"])
    kept = len(files(hooks.user))
    capsys.readouterr()
    code = main(["--app", "acme", "reset", "--yes", "--all-projects"])
    err = capsys.readouterr().err

    assert (kept, code, files(hooks.user)) == (3, 0, [".codex/hooks.json"])
    assert f"  {hooks.user}/.claude/skills/telemetry-kit/hooks/hooks.json\n" in err
    assert "acme" not in (hooks.user / ".codex/hooks.json").read_text()
