"""The cases in which the consent prompt is not shown, and when it is shown again."""

import subprocess
import sys

import pexpect
import pytest

from telemetry_kit import disable_telemetry, is_telemetry_enabled
from telemetry_kit.consent import cache
from telemetry_kit.consent import prompt as consent_prompt
from tests.consent.prompt_helpers import CTRL_D, HOST, PROMPT, asked, at_terminal, history

# -- when it is not asked ------------------------------------------------------------------------


@pytest.mark.tty
@pytest.mark.parametrize(
    "env",
    [
        *({"CI": "true"}, {"GITHUB_ACTIONS": "true"}, {"DO_NOT_TRACK": "1"}, {"HOME": ""}),
        *({"FLOWSPEC_TELEMETRY_DISABLED": "yes"}, {"TELEMETRY_KIT_DISABLED": "banana"}),
        {"PYTEST_VERSION": "9"},
    ],
    ids=lambda env: "".join(env),
)
def test_not_where_a_veto_holds(undecided, env) -> None:
    """In CI, under pytest and under every kill switch nobody is asked."""
    assert at_terminal(undecided, HOST, **env) == ("", "False False\n", 0)
    assert undecided.tree() == []


@pytest.mark.tty
def test_not_where_the_repository_denies(undecided) -> None:
    """A project that says no is not asked about."""
    (undecided.root / "pyproject.toml").write_text("[tool.telemetry_kit]\nenabled = false\n")

    assert at_terminal(undecided, HOST).screen == ""


@pytest.mark.tty
@pytest.mark.parametrize("redirect", ['>"$OUT" </dev/null', '>"$OUT" 2>/dev/null', '>"$OUT" <&-'])
def test_not_without_a_terminal(undecided, redirect) -> None:
    """With stdin or stderr not a terminal nobody is asked."""
    assert at_terminal(undecided, HOST, redirect=redirect) == ("", "False False\n", 0)
    assert undecided.tree() == []


def test_not_through_pipes(undecided) -> None:
    """A `y` in a pipe is no answer of a person."""
    done = undecided.run(HOST, input="y\n")

    assert (done.returncode, done.stdout, done.stderr) == (0, "False False\n", "")
    assert undecided.tree() == []


@pytest.mark.tty
def test_not_when_quiet(undecided) -> None:
    """A host that was told to be quiet, or to print JSON, says so and nobody is asked."""
    code = HOST.replace("ask_consent()", "ask_consent(quiet=True)")

    assert at_terminal(undecided, code) == ("", "False False\n", 0)


@pytest.mark.tty
def test_not_in_the_background(undecided) -> None:
    """A job in the background would be stopped by the question: it is not put."""
    code = (
        "import os\nif os.fork():\n"
        "    _, status = os.wait()\n    os._exit(os.waitstatus_to_exitcode(status))\n"
        "os.setpgid(0, 0)\n"
    )

    assert at_terminal(undecided, code + HOST) == ("", "False False\n", 0)


RAW = {
    "raw": "tty.setraw(0)",
    "key by key": "tty.setcbreak(0)",
    "Enter ends no line": (
        "modes = termios.tcgetattr(0); modes[0] &= ~termios.ICRNL; "
        "termios.tcsetattr(0, termios.TCSANOW, modes)"
    ),
}


@pytest.mark.tty
@pytest.mark.parametrize("how", RAW)
def test_not_at_a_raw_terminal(undecided, how: str) -> None:
    """A terminal that a host reads key by key gives no line: it is not asked, nothing hangs."""
    code = f"import termios, tty\n{RAW[how]}\n{HOST}"

    assert at_terminal(undecided, code) == ("", "False False\n", 0)
    assert undecided.tree() == []


COMPLETIONS = [
    *({"_FLOWSPEC_COMPLETE": "bash_complete"}, {"_ACME_TOOL_COMPLETE": "complete_zsh"}),
    *({"_ARGCOMPLETE": "1"}, {"COMP_LINE": "flowspec im"}),
]


AGENTS = [
    *({"CLAUDECODE": "1"}, {"CODEX_SANDBOX": "seatbelt"}, {"CODEX_THREAD_ID": "019a"}),
    *({"CODEX_CI": "1"}, {"COPILOT_CLI": "1"}, {"CURSOR_AGENT": "1"}, {"GEMINI_CLI": "1"}),
    {"AI_AGENT": "goose"},
]


@pytest.mark.tty
@pytest.mark.parametrize("env", COMPLETIONS + AGENTS, ids=lambda env: "".join(env))
def test_not_where_no_person_runs_it(undecided, env) -> None:
    """In a shell completion and under a coding agent nobody is asked, and nothing is decided."""
    assert at_terminal(undecided, HOST, **env) == ("", "False False\n", 0)
    assert undecided.tree() == []


@pytest.mark.tty
@pytest.mark.parametrize("env", AGENTS, ids=lambda env: "".join(env))
def test_enable_asks_no_agent(undecided, env) -> None:
    """`enable` without an answer puts no question to a coding agent; it takes `--yes` or `--no`."""
    code = "import sys; sys.argv[1:] = ['--app', 'flowspec', 'enable']\n"
    code += "from telemetry_kit.cli import main; sys.exit(main())"
    seen = at_terminal(undecided, code, **env)

    assert (seen.code, "only a person can answer: add --yes or --no" in seen.screen) == (2, True)
    assert undecided.tree() == []


@pytest.mark.tty
@pytest.mark.parametrize(
    "env",
    [{"CODEX_HOME": "/home/somebody/.codex"}, {"CLAUDECODE": "0"}, {"AI_AGENT": " False "}, {}],
    ids=lambda env: "".join(env),
)
def test_a_person_is_asked(undecided, env) -> None:
    """Where an agent only keeps its files somewhere, or says that it is none, a person is asked."""
    assert asked(at_terminal(undecided, HOST, "n\r", **env))


@pytest.mark.tty
def test_not_where_the_answer_cannot_be_kept(undecided) -> None:
    """Where no answer could be remembered the same question would come back for ever."""
    (undecided.user / ".config").write_text("")

    assert at_terminal(undecided, HOST) == ("", "False False\n", 0)


@pytest.mark.tty
def test_an_answer_that_cannot_be_kept_after_all(undecided) -> None:
    """Where writing fails although it looked possible, the person is told."""
    code = HOST.replace(
        "answer =",
        "import errno, os, time\ndef full(*_, **__):\n    raise OSError(28, '')\n"
        "os.fsync = full\nanswer =",
    )
    seen = at_terminal(undecided, code, "y\r")

    assert "could not be saved: the consent record cannot be written (ENOSPC)" in seen.screen
    assert seen.stdout == "False False\n"


@pytest.mark.tty
def test_what_was_typed_ahead_is_no_answer(undecided) -> None:
    """A line that was typed before anybody could read the question does not answer it."""
    code = "import time\nprint('ready', file=__import__('sys').stderr)\ntime.sleep(0.5)\n" + HOST
    child = pexpect.spawn(
        sys.executable,
        ["-W", "error", "-c", code],
        cwd=undecided.root,
        env={"TERM": "xterm", **undecided.env},
        timeout=30,
        echo=False,
    )
    child.expect_exact("ready")
    child.send("y\r")
    child.expect_exact(PROMPT)
    child.send("what\ry\r")
    child.expect_exact("Please answer")
    child.expect_exact(PROMPT)
    child.send("later\r")
    child.expect_exact("Nothing was decided.")
    child.expect(pexpect.EOF)
    child.close()

    assert undecided.tree() == []


@pytest.mark.tty
def test_an_answer_without_its_enter(undecided) -> None:
    """`y` and then end of file is a person who left, not one who agreed."""
    seen = at_terminal(undecided, HOST, "y" + CTRL_D + CTRL_D)

    assert (seen.code, seen.stdout) == (0, "False False\n")
    assert undecided.tree() == []


MEANWHILE = """
from telemetry_kit import disable_telemetry
from telemetry_kit.consent import prompt as asking
from telemetry_kit.consent import policy as consent
from telemetry_kit.consent import changes as control
ask = asking.ask
def slow(*given):
    answer = ask(*given)
    {meanwhile}
    return answer
asking.ask = slow
"""


@pytest.mark.tty
@pytest.mark.parametrize("everywhere", [False, True], ids=["project", "all"])
def test_a_no_from_elsewhere_while_the_question_stood(undecided, everywhere: bool) -> None:
    """It stays, and the person is told."""
    meanwhile = f"disable_telemetry(all_projects={everywhere})"
    seen = at_terminal(undecided, MEANWHILE.format(meanwhile=meanwhile) + HOST, "y\r")

    assert "another decision was made meanwhile. Nothing was" in " ".join(seen.screen.split())
    assert seen.stdout == "False False\n"
    assert [p.read_text().split()[1] for p in undecided.user.rglob("telemetry.enabled")] == ["no"]


@pytest.mark.tty
def test_a_veto_that_came_while_the_question_stood(undecided) -> None:
    """The yes is kept, and nobody is told that recording is on."""
    meanwhile = "os = __import__('os'); os.environ['DO_NOT_TRACK'] = '1'"
    seen = at_terminal(undecided, MEANWHILE.format(meanwhile=meanwhile) + HOST, "y\r")

    kept = "Your consent is saved, but recording stays off: DO_NOT_TRACK is set."
    assert kept in seen.screen
    assert seen.stdout == "False False\n"


@pytest.mark.tty
def test_not_where_the_folder_of_projects_is_a_file(undecided) -> None:
    """Nor where the answer's own folder could not be made."""
    config = undecided.user / ".config/telemetry-kit/flowspec"
    config.mkdir(parents=True, mode=0o700)
    (config / "projects").write_text("")

    assert at_terminal(undecided, HOST) == ("", "False False\n", 0)


@pytest.mark.tty
def test_not_where_a_repository_nearby_denies(undecided) -> None:
    """A yes would change nothing."""
    (undecided.root / ".flowspec").mkdir()
    repo = undecided.root / "repo"
    (repo / ".git").mkdir(parents=True)
    (repo / "pyproject.toml").write_text("[tool.telemetry_kit]\nenabled = false\n")

    assert at_terminal(undecided, f"import os\nos.chdir({str(repo)!r})\n" + HOST).screen == ""


@pytest.mark.tty
def test_not_when_it_was_granted(place) -> None:
    """Who has said yes is not asked."""
    assert at_terminal(place, HOST) == ("", "True True\n", 0)


def test_a_grant_needs_no_terminal(place) -> None:
    """Agents run commands without a terminal: the yes stays valid."""
    done = place.run(HOST, stdin=subprocess.DEVNULL)

    assert (done.stdout, done.stderr) == ("True True\n", "")
    assert place.types() == ["role.selected"]


def test_nobody_is_asked_with_closed_streams(undecided, monkeypatch) -> None:
    """A host without any streams, `pythonw` for instance, gets its answer all the same."""
    for stream in (None, object()):
        monkeypatch.setattr(sys, "stdin", stream)
        assert False is consent_prompt.ask_consent()


def test_never_raises(undecided, monkeypatch) -> None:
    """Outside of tests an internal error is an answer, too: no."""
    done = undecided.run(
        "from telemetry_kit.consent import prompt as asking\n"
        "from telemetry_kit.consent import changes as control\n"
        "def broken(*_): raise RuntimeError\n"
        "control.paths_of = broken\n"
        "print(asking.ask_consent())"
    )

    assert (done.stdout, done.stderr) == ("False\n", "")


LATER_NOTICE = "from telemetry_kit.schema import catalog\ncatalog.NOTICE_VERSION = 2\n"


def edit(place, *changes):
    """Change words of the record by hand."""
    text = place.record.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    place.record.write_text(text)


# -- asked again ---------------------------------------------------------------------------------


@pytest.mark.tty
def test_an_expired_yes_is_asked_about_again(place) -> None:
    """Twelve months later the yes is no longer one, and the whole notice is shown again."""
    words = dict(w.split("=") for w in place.record.read_text().split()[3:])
    edit(place, (words["expires"], "2024-01-01"))

    assert asked(at_terminal(place, HOST, "y\r"))
    assert is_telemetry_enabled()
    assert [e["decision"] for e in history(place)] == ["yes", "yes"]


@pytest.mark.tty
def test_a_no_to_an_earlier_notice(undecided) -> None:
    """A later notice is asked about once more; the no to that one holds as well."""
    at_terminal(undecided, HOST, "n\r")

    assert asked(at_terminal(undecided, LATER_NOTICE + HOST, "\r"))
    assert at_terminal(undecided, LATER_NOTICE + HOST).screen == ""
    assert [e["notice"] for e in history(undecided)] == [1, 2]


@pytest.mark.tty
def test_a_no_for_all_projects_is_not_undone_in_one(undecided) -> None:
    """A no for all projects answers later notices, too: a yes here would not lift it."""
    with cache.override_runtime(undecided.environ):
        disable_telemetry(all_projects=True)

    assert at_terminal(undecided, LATER_NOTICE + HOST).screen == ""


@pytest.mark.tty
@pytest.mark.parametrize("data", [b"", b"v1 yes", b"v9 yes 2026-01-01\n", b"v1 no 20\n"], ids=repr)
def test_a_damaged_record_is_not_asked_about(place, data) -> None:
    """What cannot be read may be a no: it is off, left as it is, and nobody is asked."""
    place.record.write_bytes(data)

    assert at_terminal(place, HOST) == ("", "False False\n", 0)
    assert data == place.record.read_bytes()
