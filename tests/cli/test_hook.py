"""`telemetry-kit hook` exits with 0 and prints nothing, whatever an agent sends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import click
import pytest
import typer
from click.testing import CliRunner as ClickRunner
from typer.testing import CliRunner as TyperRunner

from telemetry_kit import cli, settings
from telemetry_kit.agents import pending
from telemetry_kit.cli import click_group, hook, typer_app
from telemetry_kit.consent import changes
from tests.agents.agents_helpers import Hooks, Stdin, payload

START = json.dumps(payload("claude-SubagentStart"))
EXPANSION = payload("claude-UserPromptExpansion")
WORDS = ("claude", "SubagentStart")
LONG_ID = json.dumps({**payload("claude-SubagentStart"), "session_id": "x" * 10_000})
BAD = {
    "empty": b"",
    "spaces": b" \n",
    "cut": START[:-2].encode(),
    "two objects": (START * 2).encode(),
    "a list": f"[{START}]".encode(),
    "a text": b'"text"',
    "null": b"null",
    "no UTF-8": START.encode().replace(b"reviewer", b"\xff"),
    "UTF-16": START.encode("utf-16"),
    "deep": b'{"a":' * 100_000,
    "a long number": b'{"a":' + b"9" * 10_000 + b"}",
    "an empty object": b"{}",
    "50 MB": json.dumps({**payload("claude-SubagentStart"), "cwd": "x" * 50_000_000}).encode(),
}


def run(place, data: bytes, *args: str, **env: str) -> "subprocess.CompletedProcess[bytes]":
    """Run `telemetry-kit hook` as a process with these bytes on stdin."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "telemetry_kit", *args],
        input=data,
        env={**place.env, **env},
        cwd=place.root,
        capture_output=True,
        check=False,
        timeout=60,
    )


def is_silent(done: "subprocess.CompletedProcess[bytes]") -> bool:
    """Return whether the command exited with 0 and printed nothing."""
    return (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.fixture
def hooks(place, monkeypatch: pytest.MonkeyPatch) -> Hooks:
    """Return the hooks of a project with consent, in this process."""
    return Hooks(monkeypatch)


def test_a_process(place) -> None:
    """The command records one event and prints nothing; durations hold between processes."""
    assert is_silent(run(place, START.encode(), "--app", "flowspec", "hook", *WORDS))
    assert is_silent(run(place, START.encode(), "hook", "claude", "SubagentStop", "--app=flowspec"))
    start, end = place.events()

    assert (start["event_type"], end["event_type"]) == ("agent.invoked", "agent.completed")
    assert 0 < end["duration_ms"] < 60_000


def test_without_consent(undecided) -> None:
    """Without consent the command prints nothing and creates no file."""
    assert is_silent(run(undecided, START.encode(), "hook", *WORDS))
    assert undecided.tree() == []


@pytest.mark.parametrize("variable", ["DO_NOT_TRACK", "CI", "FLOWSPEC_TELEMETRY_DISABLED"])
def test_vetoed(place, variable: str) -> None:
    """Under a veto the command records nothing."""
    assert is_silent(run(place, START.encode(), "hook", *WORDS, **{variable: "1"}))
    assert place.lines() == []


@pytest.mark.parametrize("kind", BAD)
def test_bad_input(place, hooks, capfd, kind: str) -> None:
    """Whatever is on stdin, the command is silent and stores no event."""
    hooks.run(BAD[kind], *WORDS)

    assert capfd.readouterr() == ("", "")
    assert place.lines() == []


def test_a_long_id(place, hooks) -> None:
    """An ID of 10,000 characters is no ID, and the event is recorded without it."""
    hooks.run(LONG_ID.encode(), *WORDS)
    (event,) = place.events()

    assert event["agent"] == place.key.pseudonym("agent", "reviewer")
    assert "session_id" not in event


def test_a_large_payload_is_read_to_its_end(place) -> None:
    """A process reads 50 MB to the end, so that the agent can write all of it, and is silent."""
    assert is_silent(run(place, BAD["50 MB"], "hook", *WORDS))
    assert place.lines() == []


def test_a_closed_stdin(place) -> None:
    """If stdin is closed, another file of this process is not read in its place."""
    command = [sys.executable, "-W", "error", "-m", "telemetry_kit", "hook", *WORDS]
    done = subprocess.run(
        ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *command],
        env=place.env,
        cwd=place.root,
        capture_output=True,
        check=False,
    )

    assert is_silent(done)
    assert place.lines() == []


def test_a_terminal_is_not_read(place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who types the command by hand does not wait."""
    stdin = Stdin(START.encode())
    stdin.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", stdin)

    assert hook.main(list(WORDS)) == 0
    assert place.lines() == []


def test_killed_half_way(place) -> None:
    """A hook that is killed while the agent writes leaves nothing."""
    before = place.tree()
    command = [sys.executable, "-m", "telemetry_kit", "hook", *WORDS]
    read, write = os.pipe()
    process = subprocess.Popen(command, stdin=read, env=place.env, cwd=place.root)
    os.close(read)
    os.write(write, START[:40].encode())
    process.send_signal(signal.SIGKILL)
    process.wait()
    os.close(write)

    assert place.tree() == before


@pytest.mark.parametrize(
    "args",
    [
        *([], ["claude"], ["claude", "Stop", "more"], ["claude", "Stop", "--colour", "red"]),
        *(["claude", "Stop", "--app"], ["claude", "Stop", "--app", "../x"]),
        *(["claude", "Stop", "--project", "/nowhere"], ["\x1b]0;x\x07", "\n"]),
    ],
    ids=repr,
)
def test_wrong_arguments(place, hooks, capfd, args: list[str]) -> None:
    """Wrong arguments are ignored without a word."""
    hooks.run(START.encode(), *args)

    assert capfd.readouterr() == ("", "")
    assert place.lines() == []


def test_an_unexpected_error(place, hooks, capfd, monkeypatch: pytest.MonkeyPatch) -> None:
    """An internal error is not printed, and is no exit code that would stop the agent."""

    def fail(_folder: str) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(pending, "entries", fail)
    hooks.run(START.encode(), *WORDS)

    assert capfd.readouterr() == ("", "")


def test_an_event_that_cannot_be_written(place, hooks) -> None:
    """If the event does not fit on the disk, nothing says that something is running."""
    hooks.run(START.encode(), "claude", "SubagentStop")
    size = place.log.stat().st_size
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
    code = limit + f"from telemetry_kit.cli import main; main(['hook', *{WORDS!r}])"
    done = place.python("-W", "error", "-c", code, input=START)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert place.types() == ["agent.completed"]
    assert [path for path in place.tree() if "running" in path] == []


def test_help(place, capfd) -> None:
    """`--help` prints how to use it."""
    assert hook.main(["--help"], "acme telemetry") == 0
    assert capfd.readouterr().out.startswith("Usage: acme telemetry hook AGENT EVENT")


def test_a_project_elsewhere(place, hooks, make_place) -> None:
    """`--project` names a folder of the project, as for every command."""
    other = make_place("other")
    os.chdir(other.root)
    hooks.run(START.encode(), *WORDS, "--project", str(place.root))

    assert place.types() == ["agent.invoked"]


# -- mounted -------------------------------------------------------------------------------------


def mounted_click(args: list[str]) -> int:
    host = click.Group("acme")
    host.add_command(click_group("flowspec"), name="telemetry")
    done = ClickRunner().invoke(host, ["telemetry", *args], input=START)
    assert (done.output, done.exception) == ("", None)
    return done.exit_code


def mounted_typer(args: list[str]) -> int:
    host = typer.Typer()
    host.add_typer(typer_app("flowspec"), name="telemetry")
    done = TyperRunner().invoke(host, ["telemetry", *args], input=START)
    assert (done.output, done.exception) == ("", None)
    return done.exit_code


@pytest.mark.parametrize("run_mounted", [mounted_click, mounted_typer])
def test_mounted(place, run_mounted: Callable[[list[str]], int]) -> None:
    """`acme telemetry hook` records the same event, for the app of the host."""
    assert run_mounted(["hook", *WORDS]) == 0
    assert place.types() == ["agent.invoked"]


def test_in_the_table_of_commands(capfd) -> None:
    """The command line lists the command."""
    assert cli.main(["--help"]) == 0
    assert "\n  hook " in capfd.readouterr().out


# -- the app -------------------------------------------------------------------------------------


@pytest.fixture
def apps(place, hooks) -> Hooks:
    """Two apps whose user has granted consent here; `plan` is a command of one of them."""
    for app, command in (("acme", "/plan"), ("beta", "/build")):
        settings.configure(app=app)
        folder = place.root / f".{app}"
        folder.mkdir()
        (folder / "telemetry.toml").write_text(f'commands = ["{command}"]\n')
        place.grant()
    settings.configure(app="flowspec")
    changes.reset(place.home)
    settings.state.replace(settings.Settings())
    return hooks


def logged(place) -> dict[str, list[str]]:
    """Return the event types in the log of each app."""
    found = {}
    for app in ("acme", "beta", "flowspec"):
        log = place.root / f".{app}/telemetry.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        found[app] = [json.loads(line)["event_type"] for line in lines]
    return {app: types for app, types in found.items() if types}


@pytest.mark.parametrize("named", [["--app", "acme", "--app", "beta"], []], ids=["named", "known"])
@pytest.mark.parametrize(("command", "app"), [("plan", "acme"), ("build", "beta")])
def test_the_app_that_declares_the_name(
    place, apps, command: str, app: str, named: list[str]
) -> None:
    """With several apps, a command and its end belong to the one that declares it."""
    start = json.dumps({**EXPANSION, "command_name": command}).encode()
    stop = json.dumps(payload("claude-Stop")).encode()
    for data, event in ((start, "UserPromptExpansion"), (stop, "Stop")):
        apps.run(data, *named, "claude", event)
        settings.state.replace(settings.Settings())

    assert logged(place) == {app: ["command.executed", "command.completed"]}


def test_a_name_of_no_app(place, apps) -> None:
    """If no app declares the name, it is the only app of the project; of several, none."""
    apps.run(START.encode(), "--app", "acme", "--app", "beta", *WORDS)
    found = logged(place)
    (place.root / ".beta/telemetry.toml").unlink()
    settings.configure(app="beta")
    changes.reset(place.home)
    settings.state.replace(settings.Settings())
    apps.run(START.encode(), "--app", "acme", "--app", "beta", *WORDS)

    assert (found, logged(place)) == ({}, {"acme": ["agent.invoked"]})


def test_the_app_of_the_environment(place, apps) -> None:
    """`TELEMETRY_KIT_APP` names the app where no option does."""
    place.environ["TELEMETRY_KIT_APP"] = "beta"
    apps.run(START.encode(), *WORDS)

    assert logged(place) == {"beta": ["agent.invoked"]}


def test_an_app_without_consent(place, apps) -> None:
    """If the app that declares the name has no consent here, nothing is recorded."""
    settings.configure(app="acme")
    changes.disable_telemetry(place.root)
    settings.state.replace(settings.Settings())
    apps.run(json.dumps(EXPANSION).encode(), "claude", "UserPromptExpansion")

    assert logged(place) == {}
