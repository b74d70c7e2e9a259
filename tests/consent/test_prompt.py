"""The consent prompt at a real terminal: each answer, and how it looks."""

import hashlib
import os
import re

import pytest

from telemetry_kit import is_telemetry_enabled
from telemetry_kit.consent import notice
from telemetry_kit.consent import prompt as consent_prompt
from tests.conftest import NAMED
from tests.consent.prompt_helpers import (
    ASKED,
    CTRL_C,
    CTRL_D,
    HOST,
    PROMPT,
    asked,
    at_terminal,
    history,
)

# -- the answers ---------------------------------------------------------------------------------


@pytest.mark.tty
@pytest.mark.parametrize("keys", ["y\r", "Y\r", "yes\r", " YES \r", "\ty\r"], ids=repr)
def test_yes(undecided, keys) -> None:
    """`y` turns recording on in the very run in which it is said."""
    seen = at_terminal(undecided, HOST, keys)

    assert (seen.code, seen.stdout) == (0, "True True\n")
    assert undecided.types() == ["role.selected"]
    assert "Recording is on. telemetry-kit off stops it." in seen.screen
    assert [(e["decision"], e["method"]) for e in history(undecided)] == [("yes", "prompt")]


@pytest.mark.tty
@pytest.mark.parametrize("keys", ["\r", "n\r", "N\r", "no\r", "  \r"], ids=repr)
def test_no(undecided, keys) -> None:
    """`n` and Enter are no: nothing is recorded, no key is made, and it is not asked again."""
    seen = at_terminal(undecided, HOST, keys)

    assert (seen.code, seen.stdout) == (0, "False False\n")
    assert "Recording is off. telemetry-kit on starts it." in seen.screen
    assert list(undecided.root.iterdir()) == []
    assert not undecided.key_file.exists()
    assert [(e["decision"], e["method"]) for e in history(undecided)] == [("no", "prompt")]
    again = at_terminal(undecided, HOST)
    assert again == ("", "False False\n", 0)


@pytest.mark.tty
@pytest.mark.parametrize(
    "keys",
    [
        *(["later\r"], ["l\r"], ["LATER\r"], [CTRL_D], ["what\r", "maybe\r", "1\r"]),
        *([b"\xff\r"] * 3, ["y" * 3000 + "\r"] * 3, ["\x1b[A\r", "ja\r", CTRL_D]),
    ],
    ids=lambda keys: repr(keys)[:30],
)
def test_later(undecided, keys) -> None:
    """`later`, end of file and three answers that are none decide nothing and leave nothing."""
    seen = at_terminal(undecided, HOST, *keys)

    assert (seen.code, seen.stdout) == (0, "False False\n")
    assert seen.screen.endswith("Nothing was decided.\n")
    assert undecided.tree() == []


@pytest.mark.tty
def test_it_is_asked_again_after_later(undecided) -> None:
    """Who said `later` is asked in the next run."""
    at_terminal(undecided, HOST, "later\r")

    assert asked(at_terminal(undecided, HOST, "y\r"))
    assert is_telemetry_enabled()


@pytest.mark.tty
def test_a_second_try(undecided) -> None:
    """After two answers that are none, the third one counts."""
    seen = at_terminal(undecided, HOST, "yep\r", "ok\r", "y\r")

    assert seen.screen.count("Please answer y, n or later.") == 2
    assert undecided.types() == ["role.selected"]


@pytest.mark.tty
def test_ctrl_c_reaches_the_host(undecided) -> None:
    """Ctrl-C is the host's: it is raised again, and nothing was decided."""
    code = f"{NAMED}try:\n    telemetry_kit.ask_consent()\nexcept KeyboardInterrupt:"
    seen = at_terminal(undecided, code + "\n    raise SystemExit(7)", CTRL_C)

    assert (seen.code, seen.stdout) == (7, "")
    assert undecided.tree() == []


@pytest.mark.tty
def test_ctrl_c_unhandled(undecided) -> None:
    """A host that does not catch it ends as it would without us."""
    seen = at_terminal(undecided, HOST, CTRL_C)

    # Python 3.13 colours its tracebacks.
    plain = re.sub(r"\x1b\[[0-9;]*m", "", seen.screen)

    assert plain.rstrip().endswith("KeyboardInterrupt")
    assert undecided.tree() == []


AROUND = """
from telemetry_kit import ask_consent, configure, role_session, track_role_event, tracks

configure(app="flowspec")

@tracks("command.executed", command="/main")
def main():
    with role_session("pm"):
        assert track_role_event("handoff.clicked") is None
        assert ask_consent()
        with role_session("dev"):
            inside()

@tracks("agent.invoked", agent="worker")
def inside():
    pass

main()
"""


# -- before, during and after --------------------------------------------------------------------


@pytest.mark.tty
def test_nothing_from_before_the_answer(undecided) -> None:
    """What began before the answer leaves no trace, not even as somebody's parent or past."""
    at_terminal(undecided, AROUND, "y\r")

    assert undecided.types() == ["role.selected", "agent.invoked", "agent.completed"]
    assert {"dev"} == {e["role"] for e in undecided.events()}
    assert [e["seq"] for e in undecided.events()] == [0, 1, 2]
    assert not any("previous_role" in e or "command" in e for e in undecided.events())


@pytest.mark.tty
def test_nothing_about_the_answer(undecided) -> None:
    """Neither a yes nor a no is an event; the history is where the user's own files are."""
    at_terminal(undecided, f"{NAMED}telemetry_kit.ask_consent()", "y\r")

    assert list(undecided.root.iterdir()) == []
    assert len(history(undecided)) == 1


@pytest.mark.tty
def test_a_running_program_hears_the_yes(undecided) -> None:
    """A program that began before the answer records from its next event on."""
    loop = (
        "import sys\nfrom telemetry_kit import track_role_event as t\n"
        "for _ in sys.stdin:\n    print(t('role.selected', role='qa') is not None, flush=True)\n"
    )
    child = undecided.start(loop)
    child.stdin.write("go\n")
    child.stdin.flush()
    before = child.stdout.readline()
    at_terminal(undecided, HOST, "y\r")
    after, _ = child.communicate("go\n", timeout=30)

    assert (before, after) == ("False\n", "True\n")


LOOKS = {
    "plain": {},
    "no colour": {"NO_COLOR": "1"},
    "dumb": {"TERM": "dumb"},
    "C locale": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "ascii": {"PYTHONIOENCODING": "ascii:strict"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
}


# -- how it looks --------------------------------------------------------------------------------


@pytest.mark.tty
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("columns", [80, 200])
def test_it_looks_the_same_everywhere(undecided, look, columns) -> None:
    """No colour, no control sequence, ASCII, at most 15 lines, whatever the terminal is."""
    seen = at_terminal(undecided, HOST, "n\r", columns=columns, **LOOKS[look])
    question, _, _ = seen.screen.partition(PROMPT)
    lines = question.splitlines()

    assert lines == [*notice.lines(undecided.home), consent_prompt.QUESTION[: -len(PROMPT)]]
    assert len(lines) <= 15
    assert all(line.isascii() and line.isprintable() and len(line) <= 78 for line in lines)
    assert seen.stdout == "False False\n"


@pytest.mark.tty
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("columns", [20, 40, 78])
def test_a_narrow_terminal(undecided, look, columns) -> None:
    """Lines are broken between words; the words, and so the text that was shown, are the same."""
    seen = at_terminal(undecided, HOST, "n\r", columns=columns, **LOOKS[look])
    text = " ".join([*notice.lines(undecided.home), consent_prompt.QUESTION])
    question, prompt, answer = seen.screen.partition(PROMPT)
    shown = question + prompt
    lines = [*shown.splitlines(), *answer.splitlines()]
    # What is longer than a line, a path, is broken anywhere.
    words = {word for word in text.split() if len(word) <= columns - 3}

    assert "".join(shown.split()) == "".join(text.split())
    assert words <= set(shown.split())
    assert all(line.isascii() and line.isprintable() and len(line) < columns for line in lines)
    assert seen.stdout == "False False\n"


@pytest.mark.tty
@pytest.mark.parametrize("columns", [0, 1, 13])
def test_a_terminal_of_no_width(undecided, columns) -> None:
    """Where the width is unknown or absurd, lines are left to the terminal."""
    seen = at_terminal(undecided, HOST, "y\r", columns=columns)

    assert seen.screen.splitlines()[:14] == notice.lines(undecided.home)
    assert seen.stdout == "True True\n"


@pytest.mark.tty
@pytest.mark.parametrize(
    "name",
    ["deep/" * 30 + "x", "gr\xfc\xdfe \u65e5\u672c", "new\nline \x1b[31m\x07", b"\xff\xfe"],
    ids=["long", "not ASCII", "control", "not UTF-8"],
)
def test_any_folder(undecided, name) -> None:
    """A folder of any name is shown in one line of printable ASCII."""
    folder = os.path.join(os.fsencode(undecided.root), os.fsencode(name))
    try:
        os.makedirs(os.path.join(folder, b".git"))
    except OSError:
        pytest.skip("this file system does not have such names")
    code = f"import os; os.chdir({folder!r})\n{HOST}"
    for env in (LOOKS["plain"], LOOKS["C locale"], LOOKS["ascii"]):
        seen = at_terminal(undecided, code, "later\r", **env)
        lines = seen.screen.partition(PROMPT)[0].splitlines()
        assert len(lines) <= 15
        assert all(line.isascii() and line.isprintable() and len(line) <= 78 for line in lines)
        assert any(line.endswith("/.flowspec/telemetry.jsonl") for line in lines)


@pytest.mark.tty
def test_another_app(undecided) -> None:
    """The commands it names are about the app that asks."""
    code = HOST.replace("answer =", "configure(app='acme')\nanswer =")
    seen = at_terminal(undecided, code, "y\r")

    assert f"{ASKED} acme in this project?" in seen.screen
    assert "telemetry-kit --app acme view shows it" in seen.screen.replace("\n", " ")
    assert "telemetry-kit --app acme off stops it." in seen.screen


@pytest.mark.tty
def test_what_was_shown_is_what_is_kept(undecided) -> None:
    """The history holds the hash of the very text that was on the screen."""
    seen = at_terminal(undecided, HOST, "y\r")
    shown = seen.screen.partition(PROMPT)[0].splitlines()[:-1]

    assert (
        hashlib.sha256("\n".join(shown).encode()).hexdigest()
        == (history(undecided)[0]["notice_sha256"])
    )
