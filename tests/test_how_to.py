"""The programs and commands of the how-to pages for authors do what the pages show."""

import fnmatch
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from telemetry_kit.paths import own_folders
from tests.conftest import Place
from tests.consent.prompt_helpers import at_terminal
from tests.docs_helpers import (
    ROOT,
    blocks,
    how_to,
    make_command_lines,
    make_program,
    pattern_of,
    run_console,
    run_shell,
    run_words,
)

RESET = ["telemetry", "reset", "--all-projects", "--yes"]


@pytest.fixture
def page_of(undecided, tmp_path: Path):
    """Return a function that installs the program of a page, and returns the page."""

    def install(name: str) -> Path:
        page = how_to(name)
        make_program(blocks(page, "python")[0], tmp_path / "bin")
        make_command_lines(tmp_path / "bin")
        return page

    return install


def events_of(log: Path) -> list[dict[str, object]]:
    """Return the events of a log."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_tool_without_projects(page_of, undecided, tmp_path: Path) -> None:
    """In user scope, no file appears in the working directory, and a repository may deny."""
    use, reset = blocks(page_of("user-scope"), "console")
    bin_folder = tmp_path / "bin"
    run_console([use], undecided, bin_folder)
    assert list(undecided.root.iterdir()) == []

    (undecided.root / ".git").mkdir()
    (undecided.root / "pyproject.toml").write_text("[tool.telemetry_kit]\nenabled = false\n")
    run_words(["acme", "get", "example.org"], undecided, bin_folder)
    (log,) = undecided.user.rglob("telemetry.jsonl")
    assert [event["command"] for event in events_of(log)] == ["get", "get"]
    assert not any("project_id" in event for event in events_of(log))

    (undecided.root / "pyproject.toml").unlink()
    (undecided.root / ".git").rmdir()
    run_console([reset], undecided, bin_folder)
    assert undecided.tree() == []


def test_slash_commands(page_of, undecided, tmp_path: Path) -> None:
    """The lines of the file record the declared names, and nothing where recording is off."""
    page = page_of("slash-commands")
    bin_folder = tmp_path / "bin"
    grant, view = blocks(page, "console")
    (file,) = blocks(page, "markdown")
    lines = re.findall(r"`(acme telemetry record [^`]+)`", file)
    (allowed,) = re.findall(r"allowed-tools: Bash\((.+):\*\)", file)

    def follow(*lines: str) -> None:
        script = "\n".join(f"{line} --strict" for line in lines)
        done = run_shell(script, undecided, bin_folder, CLAUDECODE="1")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

    follow(*lines)
    assert undecided.tree() == []

    run_console([grant], undecided, bin_folder)
    *success, failure = lines
    follow(*success)
    run_console([view], undecided, bin_folder)
    follow(failure)
    recorded = events_of(undecided.root / ".acme" / "telemetry.jsonl")
    assert [event["event_type"] for event in recorded] == [
        *("command.executed", "agent.invoked", "agent.completed"),
        *("command.completed", "command.failed"),
    ]
    names = {event.get("command") or event["agent"] for event in recorded}
    assert names == {"/acme:implement", "backend-engineer"}
    assert {event["invoker"] for event in recorded} == {"claude-code"}
    assert all(line.startswith(allowed) for line in lines)


def test_a_telemetry_md_of_its_own(page_of, undecided, tmp_path: Path) -> None:
    """In CI, the file is current after the command, and a change of it is found."""
    page = page_of("telemetry-md")
    (write,) = blocks(page, "sh")
    (step,) = re.findall(r"run: (.+)", blocks(page, "yaml")[0])
    run = [run_shell(line, undecided, tmp_path / "bin", CI="true") for line in (write, step)]
    assert [(done.returncode, done.stdout, done.stderr) for done in run] == [(0, "", "")] * 2
    assert undecided.tree() == ["the-work/TELEMETRY.md"]

    made = undecided.root / "TELEMETRY.md"
    text = made.read_text()
    assert "`acme telemetry schema" in text
    assert "`command.completed`" in text
    made.write_text(text.replace("`command.completed`", "`command.finished`"))
    assert run_shell(step, undecided, tmp_path / "bin", CI="true").returncode == 1


@pytest.mark.parametrize("is_uninstalled", [False, True])
def test_what_is_left(page_of, undecided, tmp_path: Path, is_uninstalled: bool) -> None:
    """The page lists each file of ours, and the command that it names deletes them all."""
    page = page_of("uninstall")
    bin_folder = tmp_path / "bin"
    subprocess.run(["git", "init", "-q", "."], cwd=undecided.root, env=undecided.env, check=True)
    before = undecided.tree()
    used = [
        *(["telemetry", "on", "--yes"], ["--role", "dev", "build", "site"], ["telemetry", "stats"]),
        ["telemetry", "export", "-o", str(tmp_path / "events.csv")],
    ]
    for words in used:
        run_words(["acme", *words], undecided, bin_folder)
    config, state = own_folders(undecided.env)
    patterns = {
        pattern: pattern.replace("PROJECT", str(undecided.root))
        .replace("CONFIG", config)
        .replace("STATE", state)
        for row in re.findall(r"^\| (`.+?) \|", page.read_text(), re.MULTILINE)
        for pattern in re.findall(r"`(.+?)`", row)
    }
    tops = (undecided.root, undecided.user)
    ours = [
        str(path)
        for top in tops
        for path in top.rglob("*")
        if path.is_file() and f"{path.relative_to(top.parent)}" not in before
    ]
    unlisted = [f for f in ours if not any(fnmatch.fnmatch(f, p) for p in patterns.values())]
    missing = [name for name, p in patterns.items() if not fnmatch.filter(ours, p)]
    assert (unlisted, missing) == ([], [])

    if is_uninstalled:
        (bin_folder / "acme").unlink()
        (script,) = blocks(page, "sh")
        script = script.removeprefix("uvx ").strip()
        assert run_shell(f"{script} --yes", undecided, bin_folder).returncode == 0
    else:
        run_console(blocks(page, "console"), undecided, bin_folder)
    assert undecided.tree() == before
    assert ".acme" not in (undecided.root / ".git/info/exclude").read_text()


def test_replacing_a_module(page_of, undecided, tmp_path: Path) -> None:
    """The roles of processes become events, and the reading program prints them."""
    page = page_of("replace-your-own")
    bin_folder = tmp_path / "bin"
    run_console(blocks(page, "console"), undecided, bin_folder)
    done = undecided.run(blocks(page, "python")[1], named=False)

    assert (done.stdout, done.stderr) == (blocks(page, "text")[0], "")


# What differs from run to run, and its substitute.
VARIABLE = {
    r"\d{4}-\d\d-\d\d": "DAY",
    r"\b\d[\d.]* (?:ms|s)\b": "TIME",
    r'"duration_ms":\d+': "TIME",
    r"\b\d[\d.]* (?:bytes|kB)": "SIZE",
    r"\b[0-9a-f]{12,16}\b": "RANDOM",
    r"-{3,}": "---",
    r"[ \n]+": " ",
}


def comparable(text: str) -> str:
    """Return a text without what differs from run to run."""
    for pattern, substitute in VARIABLE.items():
        text = re.sub(pattern, substitute, text)
    return text.strip()


@pytest.mark.tty
@pytest.mark.skipif(sys.platform == "darwin", reason="the page shows the folders of Linux")
def test_everything_that_users_see(tmp_path: Path) -> None:
    """Each command of the page prints the text shown, from the first start to the last file."""
    with tempfile.TemporaryDirectory() as name:
        # The question folds a path that is longer than a line of the terminal.
        use_for_a_day(Place(Path(os.path.realpath(name))), tmp_path / "bin")


def use_for_a_day(place: Place, bin_folder: Path) -> None:
    """Run the commands of the page in a project, and compare their output."""
    page = ROOT / "docs" / "what-users-see.md"
    (program,) = blocks(page, "python")
    path = make_program(program, bin_folder)
    subprocess.run(["git", "init", "-q", "."], cwd=place.root, env=place.env, check=True)
    (first, expected), *others = [
        part.split("\n", 1)
        for block in blocks(page, "text")
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    ]
    words = first.split()[1:]
    seen = at_terminal(place, path.read_text(), "y\r", args=words, redirect="")
    # The terminal of the test echoes no key.
    outputs = [(first, expected, seen.screen.replace("later] ", "later] y\n"))]
    for command, text in others:
        output = run_words(["sh", "-c", command], place, bin_folder)
        outputs.append((command, text, output))
    for command, text, output in outputs:
        shown = output.replace(str(place.root), "/home/ann/site")
        shown = comparable(shown.replace(str(place.user), "/home/ann"))
        if "| sort" in command:
            # The folders of the projects have random names.
            assert sorted(shown.split()) == sorted(comparable(text).split())
        else:
            assert re.fullmatch(pattern_of(comparable(text)), shown), (command, output)
    assert place.tree() == [p for p in place.tree() if p.startswith("the-work/.git")]
    assert program == blocks(ROOT / "README.md", "python")[0]


PAGES = ("user-scope", "slash-commands", "telemetry-md", "uninstall", "replace-your-own", "testing")


@pytest.mark.parametrize("name", PAGES)
def test_the_readme_links_the_page(name: str) -> None:
    """A reader finds each page from the README."""
    assert f"docs/how-to/{name}.md" in (ROOT / "README.md").read_text()


def test_the_readme_links_what_users_see() -> None:
    """The README links the page with all texts that users see."""
    assert "docs/what-users-see.md" in (ROOT / "README.md").read_text()
