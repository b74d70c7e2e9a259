"""The names that a repository shows are found, and added to its settings without other changes."""

import os
import subprocess
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit.agents import names
from telemetry_kit.agents.names import NamesError

PLAN = "---\ndescription: x\nhandoffs:\n  - label: x\n    agent: speckit.tasks\n---\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Make a repository with one file in each folder that has names."""
    contents = {
        ".claude/agents/reviewer.md": "---\nname: code-reviewer\n---\n",
        ".claude/agents/team/tester.md": "no front matter",
        ".claude/skills/poem/SKILL.md": "---\nname: poem\n---\n",
        ".claude/skills/poem/notes/SKILL.md": "---\nname: not-a-skill\n---\n",
        ".claude/skills/poem/other.md": "---\nname: other\n---\n",
        ".claude/commands/speckit.plan.md": PLAN,
        ".claude/commands/flow/implement.md": "---\nname: ignored\n---\n",
        ".github/agents/planner.agent.md": "---\nname: Planner\n---\n",
        ".github/agents/readme.md": "---\nname: no\n---\n",
        ".github/skills/fix/SKILL.md": "",
        ".github/prompts/speckit.plan.prompt.md": "",
        ".agents/skills/poem/SKILL.md": "---\nname: poem\n---\n",
        ".gemini/agents/reader.md": "---\nname: reader\n---\n",
        ".gemini/commands/git/commit.toml": 'prompt = "x"\n',
        ".codex/agents/coder.toml": 'name = "coder"\ndeveloper_instructions = "x"\n',
        ".codex/prompts/draft.md": "",
        ".cursor/commands/tidy.md": "",
        ".opencode/command/ship.md": "",
        "docs/agents/no.md": "---\nname: no\n---\n",
    }
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    return tmp_path


def found_in(repository: Path) -> names.Names:
    return names.find(str(repository), {"PATH": os.environ["PATH"], "HOME": "/nonexistent"})


def test_every_folder(repository: Path) -> None:
    """Each folder has its names: by the front matter, by a key, or by the path."""
    found = found_in(repository)

    assert found.of("agents") == [
        *("Planner", "code-reviewer", "coder", "reader", "speckit.tasks", "team:tester"),
    ]
    assert found.of("commands") == [
        *("/draft", "/fix", "/flow:implement", "/git:commit", "/poem", "/ship", "/speckit.plan"),
        "/tidy",
    ]
    assert found.sources["commands", "/poem"] == [
        ".claude/skills/poem/SKILL.md",
        ".agents/skills/poem/SKILL.md",
    ]
    assert found.sources["agents", "speckit.tasks"] == [".claude/commands/speckit.plan.md"]
    assert found.unknown == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (".claude/agents/x.md", b"---\nname: >\n  x\n---\n"),
        (".claude/agents/x.md", b"---\nname: caf\xe9\n---\n"),
        (".claude/agents/x.md", b"---\nname: 'h:0123456789ab'\n---\n"),
        (".claude/agents/x.md", b"---\nname: " + b"x" * 200 + b"\n---\n"),
        (".claude/commands/x.md", b"---\nhandoffs: {}\n---\n"),
        (".codex/agents/x.toml", b"description = 'no name'\n"),
        (".codex/agents/x.toml", b"name = \n"),
    ],
)
def test_what_is_not_understood(repository: Path, name: str, content: bytes) -> None:
    """A file with another form is listed, and the others are read."""
    before = len(found_in(repository).sources)
    (repository / name).write_bytes(content)
    found = found_in(repository)

    assert found.unknown == [name]
    assert len(found.sources) == before


def test_a_long_file(repository: Path) -> None:
    """Of a long file, the beginning is read, wherever it is cut."""
    path = repository / ".claude/agents/long.md"
    for line in ("é" * 100_000, "é\n" * 100_000, "é\n" * 100_000 + "x"):
        path.write_text(f"---\nname: long\n---\n{line}")

        assert "long" in found_in(repository).of("agents")


def test_what_git_ignores(repository: Path) -> None:
    """A file that git ignores is not shown by the repository, unless it is tracked."""
    (repository / ".gitignore").write_text("reviewer.md\n.claude/skills/\n.gemini/\n")
    add = ["git", "-C", str(repository), "add", "-f", ".gemini/agents/reader.md"]
    subprocess.run(add, check=True)
    found = found_in(repository)

    assert "code-reviewer" not in found.of("agents")
    assert "reader" in found.of("agents")
    assert "/git:commit" not in found.of("commands")
    assert found.sources["commands", "/poem"] == [".agents/skills/poem/SKILL.md"]


def test_links(repository: Path, tmp_path_factory) -> None:
    """A linked file may lie outside of the repository, so it is not read."""
    outside = tmp_path_factory.mktemp("outside") / "secret.md"
    outside.write_text("---\nname: secret\n---\n")
    (repository / ".claude/agents/link.md").symlink_to(outside)
    found = found_in(repository)

    assert ("secret" in found.of("agents"), found.unknown) == (False, [".claude/agents/link.md"])


def test_without_git(repository: Path) -> None:
    """If git cannot say what it ignores, nothing of the folder is listed."""
    found = names.find(str(repository), {"PATH": "/nonexistent", "HOME": "/nonexistent"})

    assert (found.sources, ".claude/agents" in found.unknown) == ({}, True)


def test_no_repository(repository: Path) -> None:
    """Without a repository, every file is listed."""
    expected = found_in(repository).sources
    (repository / ".git").rename(repository / "no-git")

    assert found_in(repository).sources == expected


def test_an_empty_folder(tmp_path: Path) -> None:
    """A repository without such folders has no names."""
    found = found_in(tmp_path)

    assert (found.sources, found.unknown) == ({}, [])


# -- telemetry.toml ------------------------------------------------------------------------------

NAMES = {"roles": ["design"], "agents": ["a", 'quo"te'], "commands": ["/x"]}
ROLES = {"/pm:*": "pm"}


@pytest.mark.parametrize(
    "before",
    [
        "",
        "# mine\n",
        "# mine",
        "enabled = false\n",
        'agents = []\nroles = ["z"]\n',
        'agents = ["z"]  # these\n',
        'agents = [\n    "z",  # last\n]\n',
        'agents = [\n    "z"  # no comma ]\n]\n\n[other]\nx = 1\n',
        'agents = ["a ] b", \'c\']\n[command_roles]\n"/qa:*" = "qa"\n\n[other]\nx = [\n  1,\n]\n',
        '[command_roles]  # roles\n"/qa:*" = "qa"',
        'agents=["z"]\r\n\r\n[other]\r\nx = 1\r\n',
        '"agents" = [ "z" ]\n',
    ],
)
def test_a_file_keeps_what_it_has(before: str, tmp_path: Path) -> None:
    """Names are added to a file, whose values, comments and mode stay as they are."""
    path = tmp_path / ".acme/telemetry.toml"
    if before:
        path.parent.mkdir()
        path.write_bytes(before.encode())
        path.chmod(0o640)
    added = names.declare(str(path), NAMES, ROLES)
    old, new = tomllib.loads(before), tomllib.loads(path.read_bytes().decode())

    assert sorted(added) == sorted(["design", "a", 'quo"te', "/x", "/pm:*"])
    for vocabulary, more in NAMES.items():
        assert sorted(new[vocabulary]) == sorted([*old.get(vocabulary, []), *more])
    assert new["command_roles"] == {**old.get("command_roles", {}), **ROLES}
    assert {k: v for k, v in old.items() if k not in new} == {}
    assert [new[k] for k in ("enabled", "other") if k in old] == [
        old[k] for k in ("enabled", "other") if k in old
    ]
    for comment in ("# mine", "# these", "# last", "# no comma", "# roles"):
        assert (comment in before) == (comment in path.read_text())
    assert path.stat().st_mode & 0o777 == (0o640 if before else 0o644)
    unchanged = path.read_bytes()

    assert names.declare(str(path), NAMES, ROLES) == []
    assert path.read_bytes() == unchanged


@pytest.mark.parametrize(
    ("before", "message"),
    [
        ("agents = [\n", "is no TOML file"),
        ('agents = "x"\n', "has a form that is not changed here. Add to it:\nroles = "),
        ("command_roles = {}\n", "has a form that is not changed here"),
        ("[agents]\nx = 1\n", "has a form that is not changed here"),
        ('[command_roles]\n"/pm:*" = "arch"\n', "maps /pm:* to arch: change it there"),
    ],
)
def test_a_file_that_cannot_be_extended(before: str, message: str, tmp_path: Path) -> None:
    """A file of another form stays as it is, and the message says what to add."""
    path = tmp_path / "telemetry.toml"
    path.write_text(before)
    with pytest.raises(NamesError) as raised:
        names.declare(str(path), NAMES, ROLES)

    assert (message in str(raised.value), path.read_text()) == (True, before)


def test_a_linked_file(tmp_path: Path) -> None:
    """Nothing is written through a link."""
    (tmp_path / "real.toml").write_text("")
    path = tmp_path / "telemetry.toml"
    path.symlink_to("real.toml")
    with pytest.raises(OSError, match="symbolic links"):
        names.declare(str(path), NAMES, ROLES)

    assert (path.is_symlink(), path.read_text()) == (True, "")


LETTERS = st.characters(codec="utf-8", categories=("L", "N", "P", "S"))
NAME = st.text(LETTERS, min_size=1, max_size=20)


@given(old=st.lists(NAME), more=st.lists(NAME, min_size=1), has_lines=st.booleans())
def test_any_names(old: list[str], more: list[str], has_lines: bool) -> None:
    """Whatever letters names have, the file has all of them afterwards."""
    items = [names.quoted(name) for name in old]
    lines = "".join(f"\n  {item}," for item in items) + "\n"
    text = f"agents = [{lines if has_lines else ', '.join(items)}]\n"
    new = names.extended(text, {"agents": old}, {"agents": more}, {})

    assert sorted(tomllib.loads(new)["agents"]) == sorted([*old, *more])
