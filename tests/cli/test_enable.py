"""`telemetry-kit enable` and `disable`: as many steps in as out, for a person and for a script."""

import subprocess
import sys
import warnings

import pexpect
import pytest

from telemetry_kit import enable_telemetry, is_telemetry_enabled, track_role_event
from telemetry_kit.consent import cache, notice
from telemetry_kit.consent import history as consent_history


def command(place, *args: str, **env: str):
    return place.python("-m", "telemetry_kit", *args, env=env, stdin=subprocess.DEVNULL)


def at_terminal(place, args: list[str], *keys: str, prompt: str = "later] ") -> tuple[str, int]:
    """What a person sees on stderr who runs a command and presses keys, and how it ends."""
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
        child.expect_exact(prompt)
        screen += child.before + child.after
        child.send(key)
    child.expect(pexpect.EOF)
    child.close()
    assert (place.root / "stdout").read_text() == ""
    (place.root / "stdout").unlink()
    return (screen + child.before).decode("ascii").replace("\r\n", "\n"), child.exitstatus


def is_on(place, root=None) -> bool:
    """Whether recording is on, asked anew: this process remembers for 20 ms of its own clock."""
    cache.invalidate()
    return is_telemetry_enabled(root or place.root)


def history(place) -> list[tuple[str, str]]:
    folder = str(place.record.parent)
    return [(entry["decision"], entry["method"]) for entry in consent_history.read(folder)]


# -- scripts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["enable", "on"])
def test_yes(undecided, name: str) -> None:
    """`--yes` needs no terminal; nothing is asked and nothing is on stdout."""
    done = command(undecided, name, "--yes")

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"Recording is on for {undecided.root} (notice 1).\n"
    assert (is_on(undecided), history(undecided)) == (True, [("yes", "flag")])
    assert list(undecided.root.iterdir()) == []


def test_no(undecided) -> None:
    """`--no` writes the denial down."""
    done = command(undecided, "enable", "--no")

    assert (done.returncode, done.stdout) == (0, "")
    assert history(undecided) == [("no", "flag")]


@pytest.mark.parametrize("name", ["disable", "off"])
def test_disable(place, name: str) -> None:
    """`off` takes one step and no answer, and says what is still there."""
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
    assert track_role_event("role.selected", role="dev")


def test_disable_again(place) -> None:
    """Off twice is off, and no failure."""
    command(place, "off")

    assert command(place, "off").returncode == 0
    assert not is_on(place)


def test_disable_under_a_veto(place) -> None:
    """Off writes the denial also where a veto holds: it is still off when the veto has gone."""
    assert command(place, "off", DO_NOT_TRACK="1").returncode == 0
    assert not is_on(place)


def test_enable_under_a_veto(undecided) -> None:
    """A yes under a veto is kept, and it says that recording stays off, and why."""
    done = command(undecided, "on", "--yes", DO_NOT_TRACK="1")

    assert (done.returncode, done.stderr) == (
        0,
        f"Consent for {undecided.root} is saved, but recording stays off: DO_NOT_TRACK is set.\n",
    )
    assert is_on(undecided)


def test_enable_under_a_no_for_all_projects(undecided) -> None:
    """A yes here does not lift a no for all projects, and says so."""
    command(undecided, "off", "--all-projects")
    done = command(undecided, "on", "--yes")

    assert "but recording stays off: you denied consent for all projects on 20" in done.stderr
    command(undecided, "on", "--yes", "--all-projects")
    assert is_on(undecided)


def test_all_projects(undecided) -> None:
    """For all projects means for others, too."""
    other = undecided.root.parent / "other"
    other.mkdir()
    done = command(undecided, "on", "--yes", "--all-projects")

    assert done.stderr == "Recording is on for all projects (notice 1).\n"
    assert is_on(undecided, other)
    command(undecided, "off", "--all-projects")
    assert not is_on(undecided, other)


@pytest.mark.parametrize("args", [["enable"], ["enable", "--yes", "--no"], ["enable", "--maybe"]])
def test_usage(undecided, args: list[str]) -> None:
    """Nobody to ask, or two answers: 2, and nothing was changed."""
    done = command(undecided, *args)

    assert (done.returncode, done.stdout) == (2, "")
    assert undecided.tree() == []


def test_a_yes_in_a_pipe_is_none(undecided) -> None:
    """`echo y | telemetry-kit enable` is no answer of a person."""
    done = undecided.python("-m", "telemetry_kit", "enable", input="y\n")

    assert (done.returncode, undecided.tree()) == (2, [])
    assert "add --yes or --no. Nothing was changed" in done.stderr


def test_it_cannot_be_written(undecided) -> None:
    """Where nothing can be written: 1, in one sentence, and nothing was decided."""
    (undecided.user / ".local").write_text("")
    done = command(undecided, "on", "--yes")

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert not is_on(undecided)


# -- a person ----------------------------------------------------------------------------------


@pytest.mark.tty
@pytest.mark.parametrize(
    ("key", "decided", "says"),
    [
        ("y\r", [("yes", "prompt")], "Recording is on for "),
        ("n\r", [("no", "prompt")], "Recording is off for "),
        ("\r", [("no", "prompt")], "Recording is off for "),
    ],
    ids=["y", "n", "Enter"],
)
def test_answers(undecided, key: str, decided, says: str) -> None:
    """The notice, the question, one line: on stderr, with 0."""
    screen, code = at_terminal(undecided, ["enable"], key)

    assert code == 0
    assert screen.splitlines()[:-1] == notice.lines(undecided.home)
    assert screen.splitlines()[-1].startswith(f"Start recording? [y/N/later] {says}")
    assert history(undecided) == decided


@pytest.mark.tty
@pytest.mark.parametrize(
    "keys", [["later\r"], ["\x04"], ["a\r", "b\r", "c\r"]], ids=["later", "end of file", "noise"]
)
def test_nothing_was_decided(undecided, keys) -> None:
    """`later`, end of file and three answers that are none: 0, and nothing was decided."""
    screen, code = at_terminal(undecided, ["enable"], *keys)

    assert (code, screen.splitlines()[-1].endswith("Nothing was decided.")) == (0, True)
    assert undecided.tree() == []


@pytest.mark.tty
@pytest.mark.parametrize("name", ["enable", "reset", "clear"])
def test_ctrl_c(undecided, name: str) -> None:
    """Ctrl-C at any question: 130, nothing decided, nothing deleted."""
    _, code = at_terminal(undecided, [name], "\x03", prompt="] ")

    assert (code, undecided.tree()) == (130, [])


@pytest.mark.tty
def test_the_notice_for_all_projects(undecided) -> None:
    """Asked for all projects, the notice names none."""
    screen, _ = at_terminal(undecided, ["on", "--all-projects"], "y\r")

    assert screen.splitlines()[:-1] == notice.lines(undecided.home, everywhere=True)
    (entry,) = consent_history.read(undecided.home.config)
    assert entry["notice_sha256"] == notice.text_sha256(undecided.home, everywhere=True)


@pytest.mark.tty
def test_asked_again_on_request(place) -> None:
    """Who asks for the question gets it, whatever was decided; Enter is no here as well."""
    _, code = at_terminal(place, ["enable"], "\r")

    assert (code, is_on(place)) == (0, False)
    at_terminal(place, ["enable"], "y\r")
    assert is_on(place)


def test_events_of_the_command_are_none(place) -> None:
    """Neither `on` nor `off` records an event about itself."""
    with cache.override_runtime(place.environ):
        enable_telemetry()
    command(place, "on", "--yes")
    command(place, "off")

    assert list(place.root.iterdir()) == []
