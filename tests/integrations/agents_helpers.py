"""Run the examples of the pages about agents, and show what they recorded."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from telemetry_kit.testing import Captured

HOW_TO = Path(__file__).parents[2] / "docs/how-to"
# In every prompt. No event may contain it.
SECRET = "jane@example.org wants a report"


# What the session `frameworks` installs.
FRAMEWORKS = (
    *("agents", "fastmcp", "langgraph.graph", "pydantic_ai", "opentelemetry.sdk.trace"),
    *("openinference.instrumentation.langchain", "opentelemetry.instrumentation.langchain"),
)


def require(*modules: str) -> None:
    """Skip the test if a framework is missing."""
    if not all(map(is_installed, modules)):
        pytest.skip(f"{' or '.join(modules)} is not installed")


def is_installed(module: str) -> bool:
    """Whether a module, and the packages around it, can be imported."""
    package, _, _ = module.rpartition(".")
    return (not package or is_installed(package)) and find_spec(module) is not None


def sections(page: str) -> dict[str, str]:
    """Return the examples of a page by their headings; the one before any has the page's own."""
    text = (HOW_TO / page).read_text()
    parts = re.split(r"^##? (.*)\n", text, flags=re.MULTILINE)[1:]
    found = {}
    for heading, part in zip(parts[::2], parts[1::2], strict=True):
        blocks = re.findall(r"^```python\n(.*?)^```", part, re.MULTILINE | re.DOTALL)
        if blocks:
            (found[heading],) = blocks
    return found


def run_module(code: str) -> dict[str, Any]:
    """Run an example as a module, and return its names."""
    names: dict[str, Any] = {"__name__": "acme"}
    exec(compile(code, "acme.py", "exec"), names)
    return names


def recorded(captured: Captured) -> list[tuple[str, str | None, str | None, str | None]]:
    """Return type, role, agent and agent around it of each event that belongs to a span.

    No event holds anything of a prompt, and all names were declared.
    """
    assert not any(b"jane" in line for line in captured.lines)
    assert captured.undeclared == captured.dropped == []

    events = [event for event in captured.events if "span_id" in event]
    agents = {event["span_id"]: event.get("agent") for event in events}
    return [
        (e["event_type"], e.get("role"), e.get("agent"), agents.get(e.get("parent_id")))
        for e in events
    ]
