"""The payloads of coding agents, and a hook that runs in this process."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from telemetry_kit.cli import hook

PAYLOADS = Path(__file__).parent / "payloads"
NAMES = sorted(path.stem for path in PAYLOADS.glob("*.json"))
# In the order in which each agent sends them. A word after the event tells variants apart.
TURNS = {
    "claude": ["UserPromptExpansion", "SubagentStart", "SubagentStop", "Stop"],
    "copilot": [
        *("UserPromptSubmit", "SubagentStart", "UserPromptSubmit-inner", "Stop-inner"),
        *("SubagentStop", "Stop"),
    ],
    "codex": [
        "UserPromptSubmit",
        "SubagentStart",
        "UserPromptSubmit-inner",
        "SubagentStop",
        "Stop",
    ],
    "gemini": [
        *("BeforeAgent", "BeforeTool", "BeforeTool-other-tool", "AfterTool-other-tool"),
        *("AfterTool", "AfterAgent"),
    ],
}


def payload(name: str) -> dict[str, Any]:
    """Return a payload by the name of its file."""
    found: dict[str, Any] = json.loads((PAYLOADS / f"{name}.json").read_text())
    return found


class Stdin:
    """Standard input with given bytes."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)

    def isatty(self) -> bool:
        return False


class Hooks:
    """Runs `telemetry-kit hook` in this process.

    Args:
        monkeypatch: replaces standard input.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def run(self, data: bytes, *args: str) -> None:
        """Run it with these bytes on standard input."""
        self._monkeypatch.setattr(sys, "stdin", Stdin(data))

        assert hook.main(list(args)) == 0

    def send(self, name: str, *args: str, **changed: Any) -> None:
        """Send the payload of a file, with some fields replaced; None removes a field."""
        agent, event = name.split("-")[:2]
        fields = {**payload(name), **changed}
        fields = {key: value for key, value in fields.items() if value is not None}
        self.run(json.dumps(fields).encode(), agent, event, *args)

    def turn(self, agent: str) -> None:
        """Send the payloads of one turn."""
        for event in TURNS[agent]:
            self.send(f"{agent}-{event}")
