"""Programs with parsers that `install()` does not follow count their commands by decorators.

Each program of the page runs with the real parser. The session `frameworks` installs all of them.
Elsewhere, a missing one is skipped.
"""

import json
import os
import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs/how-to/other-parsers.md"
PROGRAMS = {
    re.findall(r"^import (cyclopts|fire|asyncclick)", program, re.MULTILINE)[0]: program
    for program in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
}


def test_the_page_has_each_parser() -> None:
    """The page has one program for each of the three parsers."""
    assert list(PROGRAMS) == ["cyclopts", "fire", "asyncclick"]


@pytest.mark.parametrize("parser", PROGRAMS)
def test_a_program_of_the_page(undecided, parser: str) -> None:
    """It records a command by its name, prints what it did before, and mounts the commands."""
    if find_spec(parser) is None and "TELEMETRY_KIT_ALL_FRAMEWORKS" not in os.environ:
        pytest.skip(f"{parser} is not installed")

    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        return undecided.python("-c", PROGRAMS[parser], *words, stdin=subprocess.DEVNULL)

    assert run("build", "site").stdout == "built site\n"
    assert undecided.tree() == []
    assert run("telemetry", "on", "--yes").returncode == 0
    assert run("build", "site").stdout == "built site\n"
    assert run("build").returncode != 0
    log = (undecided.root / ".acme" / "telemetry.jsonl").read_text()
    assert [(e["event_type"], e["command"]) for e in map(json.loads, log.splitlines())] == [
        ("command.executed", "build"),
        ("command.completed", "build"),
    ]
    done = run("telemetry", "clear", "--yes")
    assert "acme telemetry status shows it" in done.stderr
    assert run("telemetry", "reset", "--all-projects", "--yes").returncode == 0
    assert undecided.tree() == []
