"""`telemetry-kit enable` and `disable` for a user at a terminal and for a script."""

import subprocess
import sys
import warnings
from pathlib import Path

import pexpect
import pytest

from telemetry_kit import enable_telemetry, is_telemetry_enabled, track_role_event
from telemetry_kit.consent import cache, notice, prompt
from telemetry_kit.consent import history as consent_history


def command(place, *args: str, **env: str):
    """Run a command without a terminal."""
    return place.python("-m", "telemetry_kit", *args, env=env, stdin=subprocess.DEVNULL)


def at_terminal(place, args: list[str], *keys: str, until: str = "later] ") -> tuple[str, int]:
    """Run a command in a terminal, press keys, and return stderr and the exit code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = pexpect.spawn(
            "/bin/sh",
            ["-c", 'exec "$@" >stdout', "sh", sys.executable, "-m", "telemetry_kit", *args],
            cwd=place.root,
            env={"TERM": "xterm", **place.env},
            timeout=30,
            echo=False,
        )
    child.delaybeforesend = None
    screen = b""
    for key in keys:
        child.expect_exact(until)
        screen += child.before + child.after
        child.send(key)
    child.expect(pexpect.EOF)
    child.close()
    assert (place.root / "stdout").read_text() == ""
    (place.root / "stdout").unlink()
    return (screen + child.before).decode("ascii").replace("\r\n", "\n"), child.exitstatus


def is_on(place, root=None) -> bool:
    """Return whether recording is on, without the cached decision."""
    cache.invalidate()
    return is_telemetry_enabled(root or place.root)


def history(place) -> list[tuple[str, str]]:
    """Return the decisions and their methods from the history."""
    folder = str(place.record.parent)
    return [(entry["decision"], entry["method"]) for entry in consent_history.read(folder)]


# -- scripts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["enable", "on"])
def test_enable_yes(undecided, name: str) -> None:
    """`--yes` grants consent without a terminal or a question, and prints nothing on stdout."""
    done = command(undecided, name, "--yes")

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"Recording is on for {undecided.root} (notice 1).\n"
    assert (is_on(undecided), history(undecided)) == (True, [("yes", "flag")])
    assert list(undecided.root.iterdir()) == []


def test_enable_no(undecided) -> None:
    """`--no` saves a denial."""
    done = command(undecided, "enable", "--no")

    assert (done.returncode, done.stdout) == (0, "")
    assert history(undecided) == [("no", "flag")]


@pytest.mark.parametrize("name", ["disable", "off"])
def test_disable(place, name: str) -> None:
    """`off` denies consent without a question, and reports that events are still stored."""
    with cache.override_runtime(place.environ):
        track()
    done = command(place, name)

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == (
        f"Recording is off for {place.root}. Nothing is recorded any more.\n"
        "The recorded events are still there: telemetry-kit clear deletes them.\n"
    )
    assert history(place)[-1] == ("no", "flag")
    assert not is_on(place)


def track() -> None:
    """Record an event."""
    assert track_role_event("role.selected", role="dev")


def test_disable_again(place) -> None:
    """`off` succeeds if recording is off."""
    command(place, "off")

    assert command(place, "off").returncode == 0
    assert not is_on(place)


def test_disable_under_a_veto(place) -> None:
    """Under a veto, `off` saves the denial, which applies after the veto ends."""
    assert command(place, "off", DO_NOT_TRACK="1").returncode == 0
    assert not is_on(place)


def test_enable_under_a_veto(undecided) -> None:
    """Under a veto, `on` saves the consent, and reports the veto that keeps recording off."""
    done = command(undecided, "on", "--yes", DO_NOT_TRACK="1")

    assert (done.returncode, done.stderr) == (
        0,
        f"Consent for {undecided.root} is saved, but recording stays off: DO_NOT_TRACK is set.\n",
    )
    assert is_on(undecided)


def test_enable_after_a_denial_for_all_projects(undecided) -> None:
    """Consent for one project does not end a denial for all projects.

    The command reports the denial.
    """
    command(undecided, "off", "--all-projects")
    done = command(undecided, "on", "--yes")

    assert "but recording stays off: you denied consent for all projects on 20" in done.stderr
    command(undecided, "on", "--yes", "--all-projects")
    assert is_on(undecided)


def test_all_projects(undecided) -> None:
    """A decision with `--all-projects` applies in another project."""
    other = undecided.root.parent / "other"
    other.mkdir()
    done = command(undecided, "on", "--yes", "--all-projects")

    assert done.stderr == "Recording is on for all projects (notice 1).\n"
    assert is_on(undecided, other)
    command(undecided, "off", "--all-projects")
    assert not is_on(undecided, other)


@pytest.mark.parametrize("args", [["enable"], ["enable", "--yes", "--no"], ["enable", "--maybe"]])
def test_usage(undecided, args: list[str]) -> None:
    """Without a terminal or with two answers, the exit code is 2 and no file is created."""
    done = command(undecided, *args)

    assert (done.returncode, done.stdout) == (2, "")
    assert undecided.tree() == []


def test_an_answer_in_a_pipe_is_ignored(undecided) -> None:
    """An answer in a pipe, such as `echo y`, does not grant consent."""
    done = undecided.python("-m", "telemetry_kit", "enable", input="y\n")

    assert (done.returncode, undecided.tree()) == (2, [])
    assert "add --yes or --no. Nothing was changed" in done.stderr


def test_a_decision_that_cannot_be_saved(undecided) -> None:
    """If the decision cannot be saved, the exit code is 1 and recording stays off."""
    (undecided.user / ".local").write_text("")
    done = command(undecided, "on", "--yes")

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert not is_on(undecided)


# -- at a terminal -----------------------------------------------------------------------------


@pytest.mark.tty
@pytest.mark.parametrize(
    ("key", "decided", "reply"),
    [
        ("y\r", [("yes", "prompt")], "Recording is on for "),
        ("n\r", [("no", "prompt")], "Recording is off for "),
        ("\r", [("no", "prompt")], "Recording is off for "),
    ],
    ids=["y", "n", "Enter"],
)
def test_answers(undecided, key: str, decided, reply: str) -> None:
    """The command prints the notice, asks, saves the answer and exits with 0."""
    screen, code = at_terminal(undecided, ["enable"], key)

    assert code == 0
    shown = notice.lines(undecided.home)
    answer = screen.splitlines()[len(shown) :]

    assert screen.splitlines()[: len(shown)] == shown
    assert " ".join(answer).startswith(f"{prompt.QUESTION}{reply}")
    assert history(undecided) == decided


@pytest.mark.tty
@pytest.mark.parametrize(
    ("key", "answer", "reply"),
    [("always\r", b"v1 yes ", "on for all projects"), ("never\r", b"v1 no ", "off for all proj")],
)
def test_answers_for_all_projects(undecided, key: str, answer: bytes, reply: str) -> None:
    """`always` and `never` decide for all projects of the app, and for nothing else."""
    screen, code = at_terminal(undecided, ["enable"], key)
    (record,) = undecided.user.rglob("telemetry.enabled")

    assert (code, reply in screen) == (0, True)
    assert record.parent == Path(undecided.home.config)
    assert record.read_bytes().startswith(answer)


@pytest.mark.tty
def test_the_question_for_all_projects(undecided) -> None:
    """With `--all-projects`, `y` already decides for all projects, so `always` is not offered."""
    screen, _ = at_terminal(undecided, ["enable", "--all-projects"], "always\r", "n\r")

    assert screen.count(prompt.ALL_PROJECTS_QUESTION) == 2
    assert "Please answer y, n or later." in screen


@pytest.mark.tty
@pytest.mark.parametrize(
    "keys", [["later\r"], ["\x04"], ["a\r", "b\r", "c\r"]], ids=["later", "end of file", "noise"]
)
def test_no_valid_answer(undecided, keys) -> None:
    """After `later`, end of file or three invalid answers, no decision is saved."""
    screen, code = at_terminal(undecided, ["enable"], *keys)

    assert (code, screen.splitlines()[-1].endswith("Nothing was decided.")) == (0, True)
    assert undecided.tree() == []


@pytest.mark.tty
@pytest.mark.parametrize("name", ["enable", "reset", "clear"])
def test_ctrl_c(undecided, name: str) -> None:
    """After Ctrl-C at a question, the exit code is 130, and no file is created or deleted."""
    _, code = at_terminal(undecided, [name], "\x03", until="] ")

    assert (code, undecided.tree()) == (130, [])


@pytest.mark.tty
def test_the_notice_for_all_projects(undecided) -> None:
    """With `--all-projects`, the notice names no project."""
    screen, _ = at_terminal(undecided, ["on", "--all-projects"], "y\r")

    assert screen.splitlines()[:-1] == notice.lines(undecided.home, everywhere=True)
    (entry,) = consent_history.read(undecided.home.config)
    assert entry["notice_sha256"] == notice.text_sha256(undecided.home, everywhere=True)


@pytest.mark.tty
def test_enable_asks_again(place) -> None:
    """`enable` asks also after a decision, and Enter denies."""
    _, code = at_terminal(place, ["enable"], "\r")

    assert (code, is_on(place)) == (0, False)
    at_terminal(place, ["enable"], "y\r")
    assert is_on(place)


def test_enable_and_disable_record_no_event(place) -> None:
    """Neither `on` nor `off` records an event."""
    with cache.override_runtime(place.environ):
        enable_telemetry()
    command(place, "on", "--yes")
    command(place, "off")

    assert list(place.root.iterdir()) == []
