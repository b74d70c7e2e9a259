"""The consent prompt at a real terminal: the answers, and the layout."""

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
def test_a_grant(undecided, keys) -> None:
    """The answer `y` turns recording on in the same run."""
    seen = at_terminal(undecided, HOST, keys)

    assert (seen.code, seen.stdout) == (0, "True True\n")
    assert undecided.types() == ["role.selected"]
    assert "Recording is on. telemetry-kit off stops it." in seen.screen
    assert [(e["decision"], e["method"]) for e in history(undecided)] == [("yes", "prompt")]


@pytest.mark.tty
@pytest.mark.parametrize("keys", ["\r", "n\r", "N\r", "no\r", "  \r"], ids=repr)
def test_a_denial(undecided, keys) -> None:
    """`n` and Enter deny. No event or key is written, and the prompt is not shown again."""
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
def test_no_decision(undecided, keys) -> None:
    """After `later`, end of file or three invalid answers, no decision is saved."""
    seen = at_terminal(undecided, HOST, *keys)

    assert (seen.code, seen.stdout) == (0, "False False\n")
    assert seen.screen.endswith("Nothing was decided.\n")
    assert undecided.tree() == []


@pytest.mark.tty
def test_the_prompt_is_shown_again_after_later(undecided) -> None:
    """After the answer `later`, the next run shows the prompt again."""
    at_terminal(undecided, HOST, "later\r")

    assert asked(at_terminal(undecided, HOST, "y\r"))
    assert is_telemetry_enabled()


@pytest.mark.tty
def test_a_valid_answer_after_invalid_ones(undecided) -> None:
    """After two invalid answers, the user can give a valid one."""
    seen = at_terminal(undecided, HOST, "yep\r", "ok\r", "y\r")

    assert seen.screen.count("Please answer y, n, always, never or later.") == 2
    assert undecided.types() == ["role.selected"]


@pytest.mark.tty
def test_ctrl_c_is_raised_in_the_host(undecided) -> None:
    """On Ctrl-C, the prompt raises KeyboardInterrupt in the host, and saves no decision."""
    code = f"{NAMED}try:\n    telemetry_kit.ask_consent()\nexcept KeyboardInterrupt:"
    seen = at_terminal(undecided, code + "\n    raise SystemExit(7)", CTRL_C)

    assert (seen.code, seen.stdout) == (7, "")
    assert undecided.tree() == []


@pytest.mark.tty
def test_unhandled_ctrl_c_ends_the_host(undecided) -> None:
    """If the host does not catch KeyboardInterrupt, it ends with a traceback."""
    seen = at_terminal(undecided, HOST, CTRL_C)

    # Python 3.13 and later print tracebacks in colour.
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


# -- events around the prompt --------------------------------------------------------------------


@pytest.mark.tty
def test_nothing_before_the_answer_is_recorded(undecided) -> None:
    """Spans that started before the answer are not recorded, not even as parents of events."""
    at_terminal(undecided, AROUND, "y\r")

    assert undecided.types() == ["role.selected", "agent.invoked", "agent.completed"]
    assert {"dev"} == {e["role"] for e in undecided.events()}
    assert [e["seq"] for e in undecided.events()] == [0, 1, 2]
    assert not any("previous_role" in e or "command" in e for e in undecided.events())


@pytest.mark.tty
def test_the_answer_is_no_event(undecided) -> None:
    """The answer is recorded in the user's history, and not as an event of the project."""
    at_terminal(undecided, f"{NAMED}telemetry_kit.ask_consent()", "y\r")

    assert list(undecided.root.iterdir()) == []
    assert len(history(undecided)) == 1


@pytest.mark.tty
def test_a_running_program_notices_the_grant(undecided) -> None:
    """A program that started before the grant records its next event."""
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


TERMINALS = {
    "plain": {},
    "no colour": {"NO_COLOR": "1"},
    "dumb": {"TERM": "dumb"},
    "C locale": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "ascii": {"PYTHONIOENCODING": "ascii:strict"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
}


# -- layout --------------------------------------------------------------------------------------


@pytest.mark.tty
@pytest.mark.parametrize("terminal", TERMINALS)
@pytest.mark.parametrize("columns", [80, 200])
def test_every_terminal_has_the_same_layout(undecided, terminal, columns) -> None:
    """At any terminal, the prompt is plain ASCII in at most 15 lines."""
    seen = at_terminal(undecided, HOST, "n\r", columns=columns, **TERMINALS[terminal])
    question, _, _ = seen.screen.partition(PROMPT)
    lines = question.splitlines()

    assert lines == [*notice.lines(undecided.home), consent_prompt.QUESTION[: -len(PROMPT)]]
    assert len(lines) <= 15
    assert all(line.isascii() and line.isprintable() and len(line) <= 78 for line in lines)
    assert seen.stdout == "False False\n"


@pytest.mark.tty
@pytest.mark.parametrize("terminal", TERMINALS)
@pytest.mark.parametrize("columns", [20, 40, 78])
def test_a_narrow_terminal(undecided, terminal, columns) -> None:
    """At a narrow terminal, lines are wrapped between words, and the text is the same."""
    seen = at_terminal(undecided, HOST, "n\r", columns=columns, **TERMINALS[terminal])
    text = " ".join([*notice.lines(undecided.home), consent_prompt.QUESTION])
    question, prompt, answer = seen.screen.partition(PROMPT)
    shown = question + prompt
    lines = [*shown.splitlines(), *answer.splitlines()]
    # A word that is longer than a line, such as a path, is wrapped anywhere.
    words = {word for word in text.split() if len(word) <= columns - 3}

    assert "".join(shown.split()) == "".join(text.split())
    assert words <= set(shown.split())
    assert all(line.isascii() and line.isprintable() and len(line) < columns for line in lines)
    assert seen.stdout == "False False\n"


@pytest.mark.tty
@pytest.mark.parametrize("columns", [0, 1, 13])
def test_a_terminal_without_a_width(undecided, columns) -> None:
    """If the width is unknown or too small, the prompt does not wrap lines."""
    seen = at_terminal(undecided, HOST, "y\r", columns=columns)

    assert seen.screen.splitlines()[:14] == notice.lines(undecided.home)
    assert seen.stdout == "True True\n"


@pytest.mark.tty
@pytest.mark.parametrize(
    "name",
    ["deep/" * 30 + "x", "gr\xfc\xdfe \u65e5\u672c", "new\nline \x1b[31m\x07", b"\xff\xfe"],
    ids=["long", "not ASCII", "control", "not UTF-8"],
)
def test_any_directory_name(undecided, name) -> None:
    """A directory with any name is shown in one line of printable ASCII."""
    folder = os.path.join(os.fsencode(undecided.root), os.fsencode(name))
    try:
        os.makedirs(os.path.join(folder, b".git"))
    except OSError:
        pytest.skip("this file system does not have such names")
    code = f"import os; os.chdir({folder!r})\n{HOST}"
    for env in (TERMINALS["plain"], TERMINALS["C locale"], TERMINALS["ascii"]):
        seen = at_terminal(undecided, code, "later\r", **env)
        lines = seen.screen.partition(PROMPT)[0].splitlines()
        assert len(lines) <= 15
        assert all(line.isascii() and line.isprintable() and len(line) <= 78 for line in lines)
        assert any(line.endswith("/.flowspec/telemetry.jsonl") for line in lines)


@pytest.mark.tty
def test_another_app(undecided) -> None:
    """The prompt of another app names that app and its commands."""
    code = HOST.replace("answer =", "configure(app='acme')\nanswer =")
    seen = at_terminal(undecided, code, "y\r")

    assert f"{ASKED} acme in this project?" in seen.screen
    assert "telemetry-kit --app acme view shows it" in seen.screen.replace("\n", " ")
    assert "telemetry-kit --app acme off stops it." in seen.screen


@pytest.mark.tty
def test_the_history_has_the_hash_of_the_displayed_text(undecided) -> None:
    """The history contains the hash of the text on the screen."""
    seen = at_terminal(undecided, HOST, "y\r")
    shown = seen.screen.partition(PROMPT)[0].splitlines()[:-1]

    assert (
        hashlib.sha256("\n".join(shown).encode()).hexdigest()
        == (history(undecided)[0]["notice_sha256"])
    )
