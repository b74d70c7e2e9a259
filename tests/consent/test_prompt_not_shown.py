"""When the consent prompt is not shown, and when it is shown again."""

import subprocess
import sys

import pexpect
import pytest

from telemetry_kit import disable_telemetry, is_telemetry_enabled
from telemetry_kit.consent import cache
from telemetry_kit.consent import prompt as consent_prompt
from tests.consent.prompt_helpers import CTRL_D, HOST, PROMPT, asked, at_terminal, history

# -- when the prompt is not shown ----------------------------------------------------------------


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
def test_not_if_the_environment_denies(undecided, env) -> None:
    """In CI, under pytest and under every switch that denies, the prompt is not shown."""
    assert at_terminal(undecided, HOST, **env) == ("", "False False\n", 0)
    assert undecided.tree() == []


@pytest.mark.tty
def test_not_if_the_repository_denies(undecided) -> None:
    """If a file of the project denies, the prompt is not shown."""
    (undecided.root / "pyproject.toml").write_text("[tool.telemetry_kit]\nenabled = false\n")

    assert at_terminal(undecided, HOST).screen == ""


@pytest.mark.tty
@pytest.mark.parametrize("redirect", ['>"$OUT" </dev/null', '>"$OUT" 2>/dev/null', '>"$OUT" <&-'])
def test_not_without_a_terminal(undecided, redirect) -> None:
    """If stdin or stderr is no terminal, the prompt is not shown."""
    assert at_terminal(undecided, HOST, redirect=redirect) == ("", "False False\n", 0)
    assert undecided.tree() == []


def test_not_through_pipes(undecided) -> None:
    """A `y` in a pipe does not grant consent."""
    done = undecided.run(HOST, input="y\n")

    assert (done.returncode, done.stdout, done.stderr) == (0, "False False\n", "")
    assert undecided.tree() == []


@pytest.mark.tty
def test_not_when_quiet(undecided) -> None:
    """If the host passes `quiet=True`, the prompt is not shown."""
    code = HOST.replace("ask_consent()", "ask_consent(quiet=True)")

    assert at_terminal(undecided, code) == ("", "False False\n", 0)


@pytest.mark.tty
def test_not_in_the_background(undecided) -> None:
    """A background job does not show the prompt, since the terminal would stop it."""
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
@pytest.mark.parametrize("mode", RAW)
def test_not_at_a_raw_terminal(undecided, mode: str) -> None:
    """If the host has set the terminal to raw mode, the prompt is not shown."""
    code = f"import termios, tty\n{RAW[mode]}\n{HOST}"

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
def test_not_in_completions_and_coding_agents(undecided, env) -> None:
    """In a shell completion and under a coding agent, the prompt is not shown."""
    assert at_terminal(undecided, HOST, **env) == ("", "False False\n", 0)
    assert undecided.tree() == []


@pytest.mark.tty
@pytest.mark.parametrize("env", AGENTS, ids=lambda env: "".join(env))
def test_enable_does_not_prompt_a_coding_agent(undecided, env) -> None:
    """Under a coding agent, `enable` without `--yes` or `--no` fails."""
    code = "import sys; sys.argv[1:] = ['--app', 'flowspec', 'enable']\n"
    code += "from telemetry_kit.cli import main; sys.exit(main())"
    seen = at_terminal(undecided, code, **env)

    sentence = " ".join(seen.screen.split())
    assert (seen.code, "only a person can answer: add --yes or --no" in sentence) == (2, True)
    assert undecided.tree() == []


@pytest.mark.tty
@pytest.mark.parametrize(
    "env",
    [{"CODEX_HOME": "/home/somebody/.codex"}, {"CLAUDECODE": "0"}, {"AI_AGENT": " False "}, {}],
    ids=lambda env: "".join(env),
)
def test_shown_without_a_coding_agent(undecided, env) -> None:
    """If no variable of a coding agent is true, the prompt is shown."""
    assert asked(at_terminal(undecided, HOST, "n\r", **env))


@pytest.mark.tty
def test_not_if_the_answer_cannot_be_saved(undecided) -> None:
    """If no answer can be saved, the prompt is not shown, since every run would repeat it."""
    (undecided.user / ".config").write_text("")

    assert at_terminal(undecided, HOST) == ("", "False False\n", 0)


@pytest.mark.tty
def test_an_answer_that_fails_to_be_saved(undecided) -> None:
    """If the answer cannot be written after the prompt, an error is printed."""
    code = HOST.replace(
        "answer =",
        "import errno, os, time\ndef full(*_, **__):\n    raise OSError(28, '')\n"
        "os.fsync = full\nanswer =",
    )
    seen = at_terminal(undecided, code, "y\r")

    assert "could not be saved: the consent record cannot be written (ENOSPC)" in seen.screen
    assert seen.stdout == "False False\n"


@pytest.mark.tty
def test_input_before_the_prompt_is_no_answer(undecided) -> None:
    """A line that was typed before the prompt does not answer it."""
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
def test_an_answer_without_enter(undecided) -> None:
    """`y` and end of file without Enter do not grant consent."""
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
def test_a_denial_by_another_process_during_the_prompt(undecided, everywhere: bool) -> None:
    """A denial that another process saves during the prompt remains, and a message reports it."""
    meanwhile = f"disable_telemetry(all_projects={everywhere})"
    seen = at_terminal(undecided, MEANWHILE.format(meanwhile=meanwhile) + HOST, "y\r")

    assert "another decision was made meanwhile. Nothing was" in " ".join(seen.screen.split())
    assert seen.stdout == "False False\n"
    assert [p.read_text().split()[1] for p in undecided.user.rglob("telemetry.enabled")] == ["no"]


@pytest.mark.tty
def test_a_veto_during_the_prompt(undecided) -> None:
    """If a switch is set during the prompt, the grant is saved, but recording stays off."""
    meanwhile = "os = __import__('os'); os.environ['DO_NOT_TRACK'] = '1'"
    seen = at_terminal(undecided, MEANWHILE.format(meanwhile=meanwhile) + HOST, "y\r")

    message = "Your consent is saved, but recording stays off: DO_NOT_TRACK is set."
    assert message in seen.screen
    assert seen.stdout == "False False\n"


@pytest.mark.tty
def test_not_if_the_projects_directory_is_a_file(undecided) -> None:
    """If the directory of the record cannot be created, the prompt is not shown."""
    config = undecided.user / ".config/telemetry-kit/flowspec"
    config.mkdir(parents=True, mode=0o700)
    (config / "projects").write_text("")

    assert at_terminal(undecided, HOST) == ("", "False False\n", 0)


@pytest.mark.tty
def test_not_if_a_nested_repository_denies(undecided) -> None:
    """If a nested repository denies, the prompt is not shown, since a grant has no effect."""
    (undecided.root / ".flowspec").mkdir()
    repo = undecided.root / "repo"
    (repo / ".git").mkdir(parents=True)
    (repo / "pyproject.toml").write_text("[tool.telemetry_kit]\nenabled = false\n")

    assert at_terminal(undecided, f"import os\nos.chdir({str(repo)!r})\n" + HOST).screen == ""


@pytest.mark.tty
def test_not_after_a_grant(place) -> None:
    """If the user has granted consent, the prompt is not shown."""
    assert at_terminal(place, HOST) == ("", "True True\n", 0)


def test_a_grant_needs_no_terminal(place) -> None:
    """A grant is valid in a program without a terminal, as coding agents run it."""
    done = place.run(HOST, stdin=subprocess.DEVNULL)

    assert (done.stdout, done.stderr) == ("True True\n", "")
    assert place.types() == ["role.selected"]


def test_not_without_streams(undecided, monkeypatch) -> None:
    """In a host without streams, such as `pythonw`, `ask_consent()` returns False."""
    for stream in (None, object()):
        monkeypatch.setattr(sys, "stdin", stream)
        assert False is consent_prompt.ask_consent()


def test_an_internal_error_returns_false(undecided, monkeypatch) -> None:
    """Outside of tests, `ask_consent()` returns False on an internal error."""
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
    """Replace words of the record."""
    text = place.record.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    place.record.write_text(text)


# -- when the prompt is shown again --------------------------------------------------------------


@pytest.mark.tty
def test_shown_after_a_grant_has_expired(place) -> None:
    """After a grant has expired, the prompt is shown again with the full notice."""
    words = dict(w.split("=") for w in place.record.read_text().split()[3:])
    edit(place, (words["expires"], "2024-01-01"))

    assert asked(at_terminal(place, HOST, "y\r"))
    assert is_telemetry_enabled()
    assert [e["decision"] for e in history(place)] == ["yes", "yes"]


@pytest.mark.tty
def test_shown_once_for_a_later_notice(undecided) -> None:
    """After a denial, the prompt is shown once for each later notice."""
    at_terminal(undecided, HOST, "n\r")

    assert asked(at_terminal(undecided, LATER_NOTICE + HOST, "\r"))
    assert at_terminal(undecided, LATER_NOTICE + HOST).screen == ""
    assert [e["notice"] for e in history(undecided)] == [1, 2]


@pytest.mark.tty
def test_not_after_a_denial_for_all_projects(undecided) -> None:
    """A denial for all projects includes later notices, since a project cannot override it."""
    with cache.override_runtime(undecided.environ):
        disable_telemetry(all_projects=True)

    assert at_terminal(undecided, LATER_NOTICE + HOST).screen == ""


@pytest.mark.tty
@pytest.mark.parametrize("data", [b"", b"v1 yes", b"v9 yes 2026-01-01\n", b"v1 no 20\n"], ids=repr)
def test_not_if_the_record_is_damaged(place, data) -> None:
    """A damaged record may be a denial, so the prompt is not shown and the record is kept."""
    place.record.write_bytes(data)

    assert at_terminal(place, HOST) == ("", "False False\n", 0)
    assert data == place.record.read_bytes()
