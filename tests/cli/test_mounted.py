"""A program with the mounted commands has its own app name, folder, kill switch and exit codes."""

import json
import subprocess
import sys
import warnings

import pexpect
import pytest

HOST = '''
"""A tool with our commands mounted, as its author would write it."""
import typer
import telemetry_kit.cli
from telemetry_kit import configure, tracks

configure(app="acme", commands=["build"])
app = typer.Typer()
app.add_typer(telemetry_kit.cli.typer_app("acme"), name="telemetry")

@app.command()
@tracks("command.executed", command="build")
def build(fail: bool = False) -> None:
    """Build something."""
    if fail:
        raise typer.Exit(3)

if __name__ == "__main__":
    app()
'''


@pytest.fixture
def acme(undecided):
    """Return a function that runs a program with the mounted commands."""
    path = undecided.user.parent / "acme.py"
    path.write_text(HOST)

    def run(*args: str, **env: str):
        return undecided.python("-W", "error", str(path), *args, env=env, stdin=subprocess.DEVNULL)

    run.place = undecided
    run.path = path
    run.log = undecided.root / ".acme" / "telemetry.jsonl"
    return run


def types(acme) -> list[str]:
    """Return the event types in the log."""
    if not acme.log.exists():
        return []
    return [json.loads(line)["event_type"] for line in acme.log.read_text().splitlines()]


def test_off_without_consent(acme) -> None:
    """Without consent, the program runs, records nothing and creates no folder."""
    assert acme("build").returncode == 0
    done = acme("telemetry", "status", "--check")

    assert (done.returncode, "  app      acme\n" in done.stdout) == (10, True)
    assert acme.place.tree() == []


def test_all_commands_of_the_host(acme) -> None:
    """Each command uses the app name of the host."""
    done = acme("telemetry", "enable", "--yes")
    assert (done.returncode, done.stdout) == (0, "")
    acme("build")
    assert acme("build", "--fail").returncode == 3
    pair = ["command.executed", "command.completed"]
    assert types(acme) == [*pair, "command.executed", "command.failed"]
    assert not (acme.place.root / ".flowspec").exists()

    shown = acme("telemetry", "view", "--json")
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    assert {row["command"] for row in rows} == {"build"}
    assert rows[0]["exit_code"] == 3

    assert acme("telemetry", "clear", "--yes").returncode == 0
    assert types(acme) == []
    acme("telemetry", "off")
    acme("build")
    assert types(acme) == []


def test_the_kill_switch_of_the_host(acme) -> None:
    """`ACME_TELEMETRY_DISABLED` is a veto, and the variable of another app is not."""
    acme("telemetry", "on", "--yes")

    assert acme("telemetry", "status", "--check", ACME_TELEMETRY_DISABLED="1").returncode == 11
    assert acme("telemetry", "status", "--check", FLOWSPEC_TELEMETRY_DISABLED="1").returncode == 0
    acme("build", ACME_TELEMETRY_DISABLED="yes")
    assert types(acme) == []


def test_consent_is_per_app(acme) -> None:
    """Consent for one app does not apply to another app."""
    acme("telemetry", "on", "--yes")
    own = acme.place.python("-m", "telemetry_kit", "--app", "flowspec", "status", "--check")

    assert own.returncode == 10


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["telemetry", "enable"], 2),
        (["telemetry", "clear"], 2),
        (["telemetry", "schema", "--format", "xml"], 2),
        (["telemetry", "enable", "--maybe"], 2),
        (["telemetry", "nonsense"], 2),
        (["telemetry", "--app", "NO SUCH", "status"], 2),
        (["telemetry", "status", "--check"], 10),
        (["telemetry", "view"], 0),
        (["telemetry", "--help"], 0),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else None,
)
def test_exit_codes(acme, args, code) -> None:
    """Each command has its documented exit code and prints no traceback."""
    done = acme(*args)

    assert (done.returncode, "Traceback" in done.stderr) == (code, False)


def test_help_lists_the_commands(acme) -> None:
    """The help lists the commands, `record` included."""
    text = acme("telemetry", "--help", COLUMNS="200").stdout

    assert all(name in text for name in ("status", "enable", "disable", "view", "clear", "audit"))
    assert any("record " in line and "Record one event" in line for line in text.splitlines())


@pytest.mark.tty
@pytest.mark.parametrize(
    ("key", "code", "decided"), [("y\r", 0, 0), ("\r", 0, 10), ("\x03", 130, 10)]
)
def test_at_a_terminal(acme, key: str, code: int, decided: int) -> None:
    """The question names the app of the host, and Ctrl-C exits with 130."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = pexpect.spawn(
            sys.executable,
            [str(acme.path), "telemetry", "enable"],
            cwd=acme.place.root,
            env={"TERM": "xterm", **acme.place.env},
            timeout=30,
            encoding="ascii",
        )
    child.expect_exact("later] ")
    assert "Record how you use acme in this project?" in child.before
    assert "acme telemetry view shows it" in child.before
    child.send(key)
    child.expect(pexpect.EOF)
    child.close()

    assert child.exitstatus == code
    assert acme("telemetry", "status", "--check").returncode == decided


def test_a_scope_extension_in_a_host(acme) -> None:
    """`status` lists the settings of the host that extend the granted scope."""
    acme("telemetry", "on", "--yes")
    extended = 'configure(app="acme", timestamp_resolution="hour", '
    acme.path.write_text(HOST.replace('configure(app="acme", ', extended))
    done = acme("telemetry", "status", "--check")

    assert (done.returncode, "times by the hour instead of the day" in done.stdout) == (12, True)
    acme("build")
    assert json.loads(acme.log.read_text().splitlines()[0])["timestamp"].endswith("T00:00:00Z")


def test_record_is_mounted(acme) -> None:
    """`acme telemetry record` records one event of the host, with the names that it declared."""
    acme("telemetry", "on", "--yes")
    words = ["role.selected", "--role", "dev", "--command", "build"]
    done = acme("telemetry", "record", *words)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (line,) = acme.log.read_text().splitlines()
    assert (json.loads(line)["source"], json.loads(line)["command"]) == ("cli", "build")


MESSAGES = {
    "stats --until 2020-01-01": "see acme telemetry stats",
    "view --since never": "acme telemetry: --since 'never'",
    "view --role=": "acme telemetry: --role '': write a name",
    "record no.event --strict": "acme telemetry record: unknown event",
    "off": "are still there: acme telemetry clear deletes them.",
    "clear --yes": "Consent is unchanged: acme telemetry status shows it.",
    "--app other clear --yes": "acme telemetry --app other status shows it",
}


def test_the_commands_that_users_are_told(acme) -> None:
    """Every message names commands of the host, never `telemetry-kit`, which it does not have."""
    acme("telemetry", "on", "--yes")
    acme("telemetry", "record", "role.selected", "--role", "dev")
    for line, message in MESSAGES.items():
        done = acme("telemetry", *line.split(), COLUMNS="200")

        assert message in " ".join((done.stdout + done.stderr).split()), line
        assert "telemetry-kit" not in done.stdout + done.stderr, line


@pytest.mark.parametrize("args", [["--help"], ["telemetry", "--help"], ["build"]], ids=str)
def test_commands_are_made_when_they_are_used(acme, args: list[str]) -> None:
    """A host that only mounts the commands loads no table of options, parser or command."""
    code = f"import sys; sys.argv = {['acme', *args]!r}\n" + HOST.replace(
        "    app()", "    try: app()\n    except SystemExit: pass"
    )
    listing = "import sys; print([n for n in sys.modules if n.startswith('telemetry_kit.cli.')])"
    done = acme.place.python("-c", f"{code}\n{listing}")
    found = done.stdout.splitlines()[-1]

    assert ("telemetry_kit.cli.typer_adapter" in found, done.stderr) == (True, "")
    # The help of the group has one line for each command, so it makes all of them.
    assert ("telemetry_kit.cli.options" in found) == ("telemetry" in args)
