"""`telemetry-kit names` lists the names that a repository shows, and declares them."""

import json
import subprocess
import tomllib
from pathlib import Path

import pytest

from telemetry_kit import configure, track_role_event
from telemetry_kit.cli import main
from telemetry_kit.consent import cache

PLAN = "---\nhandoffs:\n  - label: Tasks\n    agent: speckit.tasks\n---\n"


@pytest.fixture
def names(place, capsys):
    """Return a function that runs `names` in a spec-kit project; it returns stdout and stderr."""
    for name, content in {
        ".claude/commands/speckit.plan.md": PLAN,
        ".claude/agents/reviewer.md": "",
        ".claude/commands/pm/assess.md": "",
        ".claude/skills/odd/SKILL.md": "---\nname: [odd]\n---\n",
    }.items():
        (place.root / name).parent.mkdir(parents=True, exist_ok=True)
        (place.root / name).write_text(content)
    subprocess.run(["git", "init", "-q", place.root], check=True)
    place.environ["PATH"] = place.env["PATH"]

    def run(*words: str, code: int = 0) -> tuple[str, str]:
        found = main(["names", *words])
        printed = capsys.readouterr()
        assert found == code, printed.err
        return printed.out, printed.err

    return run


def test_what_is_listed(names, place) -> None:
    """Each name has its kind and its source; nothing is written."""
    before = place.tree()
    out, err = names()

    assert [line.split() for line in out.splitlines()] == [
        ["kind", "name", "declared", "source"],
        ["agent", "reviewer", "no", ".claude/agents/reviewer.md"],
        ["agent", "speckit.tasks", "no", ".claude/commands/speckit.plan.md"],
        ["command", "/pm:assess", "no", ".claude/commands/pm/assess.md"],
        ["command", "/speckit.plan", "no", ".claude/commands/speckit.plan.md"],
    ]
    assert "Not understood: .claude/skills/odd/SKILL.md\n" in err
    assert f"--write adds all to {place.home.naming_files[0]}" in err
    assert place.tree() == before


def test_written(names, place) -> None:
    """`--write` declares the names: later events have them in plain text."""
    before = track_role_event("agent.invoked", agent="reviewer", command="/pm:assess")
    out, err = names("--write", "--roles", "/pm:*=pm", "--roles=speckit.*=maker")
    path = Path(place.home.naming_files[0])
    with cache.override_runtime(place.environ):
        after = track_role_event("agent.invoked", agent="reviewer", command="/pm:assess")

    assert tomllib.loads(path.read_text()) == {
        "roles": ["maker"],
        "agents": ["reviewer", "speckit.tasks"],
        "commands": ["/pm:assess", "/speckit.plan"],
        "command_roles": {"/pm:*": "pm", "/speckit.*": "maker"},
    }
    assert [before["agent"][:2], before["command"][:2]] == ["h:", "h:"]
    assert [after["agent"], after["command"]] == ["reviewer", "/pm:assess"]
    assert f"Added 7 entries to {path}." in err
    assert [line.split()[2:4] for line in out.splitlines() if line.startswith("command")] == [
        ["pm", "yes"],
        ["maker", "yes"],
    ]
    assert f"Nothing to add to {path}." in names("--write")[1]


def test_a_role_without_writing(names, place) -> None:
    """Without `--write`, the table shows the roles as they would be."""
    out, _ = names("--roles", "/pm:*=pm", "--json")
    rows = {row["name"]: row for row in json.loads(out)["names"]}

    assert (rows["/pm:assess"]["role"], rows["/speckit.plan"]["role"]) == ("pm", None)
    assert rows["/pm:assess"]["sources"] == [".claude/commands/pm/assess.md"]
    assert json.loads(out)["not_understood"] == [".claude/skills/odd/SKILL.md"]
    assert not Path(place.home.naming_files[0]).exists()


@pytest.mark.parametrize("text", ["pm", "=pm", "/pm:*=", "/pm= h:0123456789ab", ""])
def test_a_bad_role(names, text: str) -> None:
    """Another form is a usage error with an example."""
    _, err = names("--roles", text, "--write", code=2)

    assert "write a command and its role, such as /pm:*=pm" in err


def test_a_file_that_cannot_be_extended(names, place) -> None:
    """If the file cannot be extended, it stays as it is, and the message says what to add."""
    path = Path(place.home.naming_files[0])
    path.parent.mkdir(exist_ok=True)
    path.write_text('agents = "x"\n')
    _, err = names("--write", code=1)

    assert path.read_text() == 'agents = "x"\n'
    assert f"nothing was written: {path} has a form that is not changed here." in err
    assert 'agents = ["reviewer", "speckit.tasks"]' in err


def test_a_folder_in_the_way(names, place) -> None:
    """If the file cannot be written, the reason is named."""
    Path(place.home.naming_files[0]).mkdir(parents=True)
    _, err = names("--write", code=1)

    assert "nothing was written: " in err
    assert "Traceback" not in err


def test_user_scope(names, place) -> None:
    """A tool without projects has no settings in a repository, and none are made."""
    with configure(app="http", scope="user"):
        _, err = names("--write", code=2)

    assert "http has no settings in projects: add the names to " in err
    assert not (place.root / ".http").exists()


def test_no_names(undecided, capsys) -> None:
    """A repository without agents and commands is no error."""
    code = main(["names"])
    printed = capsys.readouterr()

    assert (code, printed.out) == (0, "")
    assert "This repository has no agents, commands or skills of a coding agent." in printed.err
