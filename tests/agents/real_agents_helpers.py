"""Run real coding agents offline: each in a project and a home directory of its own."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.agents import models_helpers

# `nox -s agents` installs the agents into this folder.
FOLDER = os.environ.get("TELEMETRY_KIT_AGENTS", "")
APP = "acme"
MARKER = "NOT-TO-BE-STORED"
PROMPT = f"/flow:implement START-AGENT {MARKER}"
FAILING = f"{PROMPT} FAIL-INSIDE"
HANDING_OFF = f"{PROMPT} HAND-OFF"
WAIT_SECONDS = 20.0
RUN_SECONDS = 120
AGENT = "---\nname: {name}\ndescription: reviews\n---\nYou review.\n"
COMMAND = "---\ndescription: implements\n---\nSTART-AGENT now: $ARGUMENTS\n"
CODEX_SETTINGS = """\
model = "gpt-5"
model_provider = "loop"
check_for_update_on_startup = false
[analytics]
enabled = false
[model_providers.loop]
name = "loop"
base_url = "{url}/v1"
wire_api = "responses"
env_key = "FAKE_KEY"
request_max_retries = 0
stream_max_retries = 0
supports_websockets = false
[agents.reviewer]
description = "reviews"
config_file = "reviewer.toml"
"""


class Machine:
    """A user with one coding agent, a project with names, and consent.

    Args:
        base: an empty folder.
        agent: the name of the agent.
    """

    def __init__(self, base: Path, agent: str) -> None:
        self.agent = agent
        self.home = base / "home"
        self.project = base / "project"
        self.log = self.project / ".acme/telemetry.jsonl"
        self.base = base
        folders = [str(Path(FOLDER, ".bin")), str(Path(shutil.which("node") or "").parent)]
        self.env = {
            "HOME": str(self.home),
            "PATH": ":".join([*folders, "/usr/bin", "/bin"]),
            "LANG": "C.UTF-8",
        }
        for folder in (self.home, self.project):
            folder.mkdir()
        subprocess.run(["git", "init", "-q", self.project], env=self.env, check=True)
        for name in ("reviewer", "helper"):
            for path in (
                self.project / f".claude/agents/{name}.md",
                self.project / f".github/agents/{name}.agent.md",
                self.home / f".gemini/agents/{name}.md",
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(AGENT.format(name=name))
        command = self.project / ".claude/commands/flow/implement.md"
        command.parent.mkdir(parents=True)
        command.write_text(COMMAND)
        self.kit("enable", "--yes")
        self.kit("names", "--write")

    def kit(self, *words: str, code: int = 0) -> str:
        """Run a command of ours, and return its stdout."""
        script = Path(sys.executable).with_name("telemetry-kit")
        done = subprocess.run(
            [script, "--app", APP, *words],
            cwd=self.project,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    def run(self, prompt: str) -> subprocess.CompletedProcess[str]:
        """Run the agent with a prompt, offline, and return its exit code and output."""
        return RUNS[self.agent](self, prompt)

    def start(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a program of the agent."""
        return subprocess.run(
            words,
            cwd=self.project,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )

    def events(self, count: int = 0) -> list[dict[str, Any]]:
        """Return the events, after a wait for the hooks that run beside the agent."""
        until = time.monotonic() + WAIT_SECONDS
        while True:
            lines = self.log.read_bytes().splitlines() if self.log.exists() else []
            if len(lines) >= count or time.monotonic() > until:
                return [json.loads(line) for line in lines if line]
            time.sleep(0.05)

    def summary(self, count: int = 0) -> list[tuple[str, str]]:
        """Return the type of each event, and the names in it."""
        fields = ("command", "agent", "source_agent", "target_agent")
        return [
            (event["event_type"], " ".join(str(event[f]) for f in fields if f in event))
            for event in self.events(count)
        ]

    def stored(self) -> bytes:
        """Return all bytes that we have stored, with the names of the files."""
        tops = (self.home / ".local", self.home / ".config/telemetry-kit", self.project / ".acme")
        files = [path for top in tops for path in top.rglob("*") if path.is_file()]
        return b"\n".join(str(path).encode() + b"\n" + path.read_bytes() for path in files)


def run_claude(machine: Machine, prompt: str) -> subprocess.CompletedProcess[str]:
    """Run Claude Code."""
    quiet = (
        *("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_TELEMETRY", "DISABLE_AUTOUPDATER"),
        "DISABLE_ERROR_REPORTING",
    )
    with models_helpers.serve(models_helpers.messages) as url:
        return machine.start(
            *("claude", "-p", prompt, "--allowedTools", "Agent,Task"),
            ANTHROPIC_BASE_URL=url,
            ANTHROPIC_API_KEY="fake",
            **dict.fromkeys(quiet, "1"),
        )


def run_copilot(machine: Machine, prompt: str) -> subprocess.CompletedProcess[str]:
    """Run Copilot CLI."""
    with models_helpers.serve(models_helpers.messages) as url:
        return machine.start(
            *("copilot", "-p", prompt),
            COPILOT_OFFLINE="true",
            COPILOT_PROVIDER_BASE_URL=url,
            COPILOT_PROVIDER_TYPE="anthropic",
            COPILOT_PROVIDER_API_KEY="fake",
            COPILOT_MODEL="claude-sonnet-4.5",
            COPILOT_ALLOW_ALL="true",
        )


def run_codex(machine: Machine, prompt: str) -> subprocess.CompletedProcess[str]:
    """Run Codex."""
    folder = machine.home / ".codex"
    folder.mkdir(exist_ok=True)
    (folder / "reviewer.toml").write_text('developer_instructions = "You review."\n')
    with models_helpers.serve(models_helpers.responses) as url:
        (folder / "config.toml").write_text(CODEX_SETTINGS.format(url=url))
        return machine.start(
            *("codex", "exec", "--dangerously-bypass-hook-trust", prompt), FAKE_KEY="fake"
        )


def run_gemini(machine: Machine, prompt: str) -> subprocess.CompletedProcess[str]:
    """Run Gemini CLI."""
    answers = machine.base / "answers.jsonl"
    models_helpers.gemini_answers(answers)
    return machine.start(
        *("gemini", "--fake-responses", str(answers), "--yolo", "--skip-trust"),
        *("-m", "gemini-2.5-pro", "-p", prompt),
        GEMINI_API_KEY="fake",
        GEMINI_CLI_NO_RELAUNCH="true",
    )


RUNS: dict[str, Callable[[Machine, str], subprocess.CompletedProcess[str]]] = {
    "claude": run_claude,
    "copilot": run_copilot,
    "codex": run_codex,
    "gemini": run_gemini,
}


def foreign_hook(machine: Machine) -> tuple[Path, Path]:
    """Write a hook of the user for the end of a turn.

    Returns:
        The file with the hook, and the file that the hook creates.
    """
    made = machine.base / "made-by-the-hook"
    command = f"touch '{made}'"
    hook: dict[str, Any] = {"type": "command", "command": command}
    places = {
        "claude": (".claude/settings.json", "Stop", {"hooks": [hook]}),
        "copilot": (".copilot/hooks/mine.json", "Stop", hook),
        "codex": (".codex/hooks.json", "Stop", {"hooks": [hook]}),
        "gemini": (".gemini/settings.json", "AfterAgent", {"hooks": [{"name": "mine", **hook}]}),
    }
    name, event, entry = places[machine.agent]
    path = machine.home / name
    path.parent.mkdir(parents=True, exist_ok=True)
    version = {"version": 1} if machine.agent == "copilot" else {}
    path.write_text(json.dumps({**version, "hooks": {event: [entry]}}))
    return path, made
