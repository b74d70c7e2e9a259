"""The question, put to a person at a real terminal, and every case in which it is not put."""

import hashlib
import os
import re
import subprocess
import sys
import warnings
from typing import NamedTuple

import pexpect
import pytest

from telemetry_kit import disable_telemetry, is_telemetry_enabled
from telemetry_kit.consent import cache, notice
from telemetry_kit.consent import history as consent_history
from telemetry_kit.consent import prompt as consent_prompt
from tests.conftest import NAMED

HOST = """
import os, sys
from telemetry_kit import ask_consent, configure, role_session, tracks
configure(app="flowspec")
answer = ask_consent()
with role_session("dev"):
    on_disk = os.path.exists(".flowspec/telemetry.jsonl")
print(answer, on_disk)
"""
CTRL_C, CTRL_D, ENTER = "\x03", "\x04", "\r"
PROMPT = "later] "
ASKED = "Record how you use"


class Seen(NamedTuple):
    """What a person saw, what a pipe got, and how it ended."""

    screen: str
    stdout: str
    code: int


def at_terminal(place, code, *keys, columns=80, redirect='>"$OUT"', args=(), **env):
    """Run a program at a terminal of its own and press keys at each question it puts.

    Its stdout goes into a file, so that the screen is what stderr got.
    """
    out = place.user.parent / "stdout"
    out.write_bytes(b"")
    program = [sys.executable, "-W", "error", "-c", code, *args]
    with warnings.catch_warnings():
        # Later interpreters warn of a fork in a process with threads; the child execs at once.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = pexpect.spawn(
            "/bin/sh",
            ["-c", f'exec "$@" {redirect}', "sh", *program],
            cwd=place.root,
            env={"TERM": "xterm", **place.env, "OUT": str(out), **env},
            dimensions=(24, columns),
            timeout=30,
            echo=False,
        )
    child.delaybeforesend = None
    child.delayafterclose = child.ptyproc.delayafterclose = 0.01
    screen = b""
    for key in keys:
        child.expect_exact(PROMPT)
        screen += child.before + child.after
        child.send(key)
    child.expect(pexpect.EOF)
    screen += child.before
    child.close()
    return Seen(screen.decode("ascii").replace("\r\n", "\n"), out.read_text(), child.exitstatus)


def asked(seen):
    return ASKED in seen.screen


def history(place):
    return consent_history.read(os.path.dirname(place.record))


# -- the answers -------------------------------------------------------------------------------


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


# -- before, during and after ------------------------------------------------------------------

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


# -- when it is not asked ----------------------------------------------------------------------


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


# -- asked again -------------------------------------------------------------------------------

LATER_NOTICE = "from telemetry_kit.schema import catalog\ncatalog.NOTICE_VERSION = 2\n"


def edit(place, *changes):
    """Change words of the record by hand."""
    text = place.record.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    place.record.write_text(text)


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


# -- how it looks ------------------------------------------------------------------------------

LOOKS = {
    "plain": {},
    "no colour": {"NO_COLOR": "1"},
    "dumb": {"TERM": "dumb"},
    "C locale": {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    "ascii": {"PYTHONIOENCODING": "ascii:strict"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
}


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
