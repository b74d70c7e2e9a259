"""The documentation matches the program: its examples run, its links and tables are correct."""

import contextlib
import doctest
import importlib
import importlib.util
import os
import re
from pathlib import Path

import pytest

import telemetry_kit
from telemetry_kit import configure, tracks
from telemetry_kit.cli.registry import COMMANDS
from telemetry_kit.consent import notice
from telemetry_kit.integrations.pytest import TelemetryEvents
from telemetry_kit.schema import catalog
from telemetry_kit.testing import Granted
from tests.consent.prompt_helpers import at_terminal
from tests.docs_helpers import (
    ROOT,
    blocks,
    make_command_lines,
    make_program,
    run_console,
    run_shell,
)

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("examples/*.md")])
# The pages about whole programs.
PARSERS = ("typer", "click", "argparse")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_name_existing_files(page: Path) -> None:
    """Every relative link names a file that exists."""
    missing = [
        link
        for link in LINK.findall(page.read_text())
        if "://" not in link and not (page.parent / link).exists()
    ]

    assert missing == []


def run_example(name: str, text: str) -> None:
    """Run the example of a docstring, which has to use the name that it is about."""
    example = doctest.DocTestParser().get_doctest(text, {"__name__": name}, name, name, 0)
    printed: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(example, out=printed.append)

    assert "Example:\n" in text
    assert any(name in one.source for one in example.examples)
    assert (result.failed, "".join(printed)) == (0, "")


@pytest.mark.parametrize("name", telemetry_kit.__all__)
def test_the_example_of_a_public_name_runs(undecided, name: str) -> None:
    """The docstring of each public name has an example with the correct output."""
    thing = getattr(telemetry_kit, name)
    module = importlib.import_module(f"telemetry_kit.{telemetry_kit._MODULES[name]}")
    run_example(name, module.__doc__ if isinstance(thing, str) else thing.__doc__)


@pytest.mark.parametrize(
    ("module", "name"), [("testing", "granted_consent"), ("integrations.pytest", "TelemetryEvents")]
)
def test_the_example_of_a_helper_for_tests_runs(undecided, module: str, name: str) -> None:
    """The names for tests of host programs have an example with the correct output, too."""
    thing = getattr(importlib.import_module(f"telemetry_kit.{module}"), name)
    run_example(name, thing.__doc__)


def test_the_testing_page_lists_every_attribute() -> None:
    """The page describes each public attribute of the fixture and of `granted_consent()`."""
    page = (ROOT / "docs/how-to/testing.md").read_text()
    missing = [
        name
        for thing in (TelemetryEvents, Granted)
        for name in (*vars(thing), *re.findall(r"^        (\w+): ", thing.__doc__, re.MULTILINE))
        if name[0] != "_" and f"| `.{name}" not in page and name != "captured"
    ]

    assert missing == []


def test_the_tutorial_shows_the_real_output(undecided, tmp_path: Path) -> None:
    """Each command of the tutorial prints the output shown. `...` matches any text."""
    page = ROOT / "docs" / "tutorial.md"
    (program,) = blocks(page, "python")
    (undecided.root / "notes.py").write_text(program)
    bin_folder = tmp_path / "bin"
    make_command_lines(bin_folder)
    run_console(blocks(page, "console"), undecided, bin_folder)


INSTALL_PAGES = [ROOT / "README.md", *(ROOT / f"docs/how-to/{n}.md" for n in PARSERS)]


@pytest.mark.parametrize("page", INSTALL_PAGES, ids=page_id)
def test_programs_with_one_call(undecided, tmp_path: Path, page: Path) -> None:
    """The program at the top of each page does what the page shows, and leaves no file."""
    bin_folder = tmp_path / "bin"
    make_program(blocks(page, "python")[0], bin_folder)
    shown = [*blocks(page, "console"), *blocks(page, "text")]
    console = [block for block in shown if block.startswith("$ acme")]
    run_console(console, undecided, bin_folder)

    assert console != []
    assert undecided.tree() == []


@pytest.mark.tty
def test_the_question_of_the_page(undecided, tmp_path: Path) -> None:
    """The page about Typer shows the question as its user sees it."""
    page = ROOT / "docs" / "how-to" / "typer.md"
    program = make_program(blocks(page, "python")[0], tmp_path / "bin").read_text()
    seen = at_terminal(undecided, program, "y\r", args=["build", "site"])
    pattern = re.escape(blocks(page, "text")[0]).replace(r"\.\.\.", ".*")
    # The terminal of the test echoes no key.
    pattern = pattern.replace(re.escape("later] y\n"), re.escape("later] "))

    assert re.fullmatch(pattern, seen.screen), seen.screen


@pytest.mark.parametrize("number", [1, 2, 3])
def test_more_programs_of_the_page(undecided, tmp_path: Path, number: int) -> None:
    """The other programs of the page about Typer run, and record a command and its role."""
    page = ROOT / "docs" / "how-to" / "typer.md"
    bin_folder = tmp_path / "bin"
    make_program(blocks(page, "python")[number], bin_folder)
    run_console(["$ acme telemetry on --yes\nRecording is on for ...\n"], undecided, bin_folder)
    line = "$ acme --role reviewer build site\n" if number == 1 else "$ acme build site\n"
    run_console([line], undecided, bin_folder)
    log = (undecided.root / ".acme" / "telemetry.jsonl").read_text()

    assert log.count('"command":"build"') == 2
    assert log.count('"role":"reviewer"') == (3 if number == 1 else 0)


def test_the_decorators_of_the_readme(place) -> None:
    """The example of the README with decorators records three events."""
    program = blocks(ROOT / "README.md", "python")[1]
    done = place.run(program)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert place.types() == ["role.selected", "agent.invoked", "agent.completed"]
    assert {"/flow:implement"} == {event["command"] for event in place.events()}


@pytest.mark.parametrize("page", ["scripts.md"])
def test_how_to_programs_run(place, page: str) -> None:
    """The programs of the how-to pages exit without an error."""
    for program in blocks(ROOT / "docs" / "how-to" / page, "python"):
        done = place.run(program)

        assert (done.returncode, done.stderr) == (0, "")


def test_the_page_about_reading_shows_the_real_output(undecided) -> None:
    """The programs of the page about reading print the output shown for these events."""
    with configure(app="acme", agents=["planner", "reviewer"]):
        undecided.grant()
        for agent, error in (
            ("planner", None),
            ("planner", None),
            ("planner", 1),
            ("reviewer", None),
        ):
            with contextlib.suppress(ZeroDivisionError), tracks("agent.invoked", agent=agent):
                assert error is None or error / 0
    page = ROOT / "docs" / "how-to" / "read-events.md"
    for program, text in zip(blocks(page, "python"), blocks(page, "text"), strict=True):
        done = undecided.run(program.replace('since="7d"', 'since="2024-02-28"'), named=False)

        assert (done.stdout, done.stderr) == (text, "")


def test_the_script_of_the_how_to_records_one_span(place, tmp_path: Path) -> None:
    """The start and the end that the script records have the same span."""
    (script,) = blocks(ROOT / "docs" / "how-to" / "scripts.md", "sh")
    make_command_lines(tmp_path / "bin")
    done = run_shell(script, place, tmp_path / "bin")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert place.types() == ["agent.invoked", "agent.completed"]
    assert len({event["span_id"] for event in place.events()}) == 1


def test_the_tests_of_the_testing_page_pass(undecided) -> None:
    """The tests in the how-to page about testing pass in their own pytest."""
    test, granted, program = blocks(ROOT / "docs" / "how-to" / "testing.md", "python")
    (undecided.root / "test_page.py").write_text(test)
    (undecided.root / "test_granted.py").write_text(granted)
    plugin = [] if _is_installed() else ["-p", "telemetry_kit.integrations.pytest"]
    done = undecided.python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *plugin
    )

    assert "2 passed" in done.stdout, done.stdout + done.stderr
    second = undecided.run(program)

    assert (second.returncode, second.stderr) == (0, "")


def _is_installed() -> bool:
    from importlib.metadata import entry_points

    return any(point.name == "telemetry_kit" for point in entry_points(group="pytest11"))


def test_the_python_reference_is_current() -> None:
    """The Python reference equals the output of `docs/make.py`."""
    made = _make()

    assert made.python_page() == (ROOT / "docs/reference/python.md").read_text()


def test_the_reference_lists_every_command() -> None:
    """Each command has a chapter in the reference and a line in the help."""
    page = (ROOT / "docs/reference/commands.md").read_text()
    chapters = re.findall(r"^## `([\w-]+)`$", page, re.MULTILINE)

    assert [names[0] for names, _, _ in COMMANDS] == chapters


def _make():
    spec = importlib.util.spec_from_file_location("docs_make", ROOT / "docs" / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_dictionary_is_current() -> None:
    """`TELEMETRY.md` equals the output of `telemetry-kit schema`."""
    assert notice.dictionary() == (ROOT / "TELEMETRY.md").read_text()


def test_each_event_has_a_question() -> None:
    """Every event in the catalog names its question and its owner."""
    assert all(e.question.endswith("?") and e.owner for e in catalog.EVENTS.values())


@pytest.mark.skipif(os.name != "posix", reason="console blocks are for a POSIX shell")
def test_the_readme_has_exactly_two_commands() -> None:
    """The top of the README has one command for the demo and one for the tests."""
    commands = [
        line for block in blocks(ROOT / "README.md", "console") for line in block.splitlines()
    ]

    assert len(commands) == 2
    assert commands[0].endswith("telemetry-kit demo")
    assert commands[1].endswith("nox")
