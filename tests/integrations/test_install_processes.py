"""A program with `install()`, from its first start to its last: what it loads, asks and writes."""

import json
import os
import subprocess

import pytest

from tests.consent.prompt_helpers import at_terminal
from tests.test_cold_start import WRITING

CLICK = """
import sys
import click
from telemetry_kit.integrations.click import install

@click.group()
@click.option("--role")
def app(role):
    pass

@app.command()
@click.argument("number", type=int)
def build(number):
    print("built", number)

@app.group()
def db():
    pass

@db.command()
def migrate():
    print("migrated")
"""
TYPER = """
import sys
import typer
from telemetry_kit.integrations.typer import install

app = typer.Typer()
db = typer.Typer()
app.add_typer(db, name="db")

@app.callback()
def main(role: str = None):
    pass

@app.command()
def build(number: int):
    print("built", number)

@db.callback()
def databases():
    pass

@db.command()
def migrate():
    print("migrated")
"""
ARGPARSE = """
import argparse, sys
from telemetry_kit.integrations.argparse import install

parser = argparse.ArgumentParser(prog="acme")
parser.add_argument("--role")
groups = parser.add_subparsers(required=True)
build = groups.add_parser("build")
build.add_argument("number", type=int)
build.set_defaults(func=lambda args: print("built", args.number))
db = groups.add_parser("db").add_subparsers(required=True)
db.add_parser("migrate").set_defaults(func=lambda args: print("migrated"))
"""
INSTALL = 'install({app}, name="acme", role=["--role", "$ACME_ROLE", "acme.toml:tool.role"])\n'
RUNS = {
    "click": CLICK + INSTALL.format(app="app") + 'app(sys.argv[1:], prog_name="acme")\n',
    "typer": TYPER + INSTALL.format(app="app") + 'app(sys.argv[1:], prog_name="acme")\n',
    "argparse": ARGPARSE
    + INSTALL.format(app="parser")
    + "args = parser.parse_args()\nsys.exit(args.func(args))\n",
}


@pytest.fixture(params=RUNS)
def acme(request, undecided):
    """Return a function that runs a program with Click, Typer or argparse."""

    def run(*words: str, **env: str):
        code = ("-W", "error", "-c", RUNS[request.param])
        return undecided.python(*code, *words, env=env, stdin=subprocess.DEVNULL)

    run.place, run.kind, run.code = undecided, request.param, RUNS[request.param]
    run.log = undecided.root / ".acme" / "telemetry.jsonl"
    return run


def events(acme) -> list[dict]:
    """Return the events in the log."""
    return [json.loads(line) for line in acme.log.read_text().splitlines()]


def names(acme) -> list[str]:
    """Return the commands in the log."""
    return [e["command"] for e in events(acme) if "command" in e]


# -- off ---------------------------------------------------------------------------------------

OFF = {
    *("", "_runtime", "paths", "settings", "integrations", "integrations.program"),
}


def loaded(acme, *words: str) -> set[str]:
    """Run the program, and return the modules of this library that it loads."""
    listing = (
        "import atexit, sys\natexit.register(lambda: print(*sorted(n.partition('.')[2] for n in "
        "sys.modules if n.partition('.')[0] == 'telemetry_kit'), sep=','))\n"
    )
    done = acme.place.python("-c", listing + acme.code, *words, stdin=subprocess.DEVNULL)
    return set(done.stdout.splitlines()[-1].split(","))


def modules_of(acme) -> set[str]:
    """Return the modules of `install()` for the library of the program."""
    own = {"argparse": {"integrations.argparse", "integrations.argparse_commands"}}
    shared = {"integrations.click_commands", "integrations.click_flag"}
    return own.get(acme.kind, shared | {f"integrations.{acme.kind}"})


@pytest.mark.parametrize("words", [["build", "1"], ["build", "x"], ["--help"]], ids=str)
def test_off_loads_nothing_that_records(acme, words: list[str]) -> None:
    """Without a decision, a program without a terminal loads what `install()` needs, no more."""
    expected = OFF | modules_of(acme)
    found = loaded(acme, *words)
    if acme.kind == "typer" and words == ["--help"]:
        # The help of the program names the group.
        found -= {"cli", "cli.registry", "cli.mounting", "cli.typer_adapter"}
    if acme.kind == "click" and words == ["--help"]:
        found -= {"cli", "cli.registry", "cli.mounting", "cli.click_adapter"}

    assert expected == found
    assert acme.place.tree() == []


def test_output_and_exit_codes_are_the_same(acme) -> None:
    """A program prints and exits as it does without `install()`, when off and when on."""
    plain = acme.code.replace("install(", "(lambda *_, **__: None)(")
    for state in ("off", "on"):
        if state == "on":
            acme("telemetry", "on", "--yes")
        for words in (["build", "7"], ["build", "x"]):
            own = acme.place.python("-c", plain, *words)
            done = acme(*words)
            error = done.stderr.replace(", 'telemetry'", "").replace(",telemetry", "")

            assert (own.returncode, own.stdout) == (done.returncode, done.stdout)
            assert own.stderr.splitlines()[-1:] == error.splitlines()[-1:]


# -- on ----------------------------------------------------------------------------------------


def test_on_loads_only_what_records(acme) -> None:
    """A run with consent loads what a decorated call loads, and the module about roles."""
    acme("telemetry", "on", "--yes")
    acme("build", "1")  # the first run stores what the program declares
    found = loaded(acme, "build", "1")
    packages = {n.partition(".")[0] for n in WRITING if "." in n}
    expected = OFF | modules_of(acme) | WRITING | packages
    expected |= {"instrumentation", "instrumentation.tracks", "instrumentation.spans"}

    assert expected | {"integrations.roles"} == found


def test_from_the_first_start_to_reset(acme) -> None:
    """The user turns recording on, sees the commands in plain text, and deletes everything."""
    assert acme("telemetry", "status", "--check").returncode == 10
    assert acme("telemetry", "on", "--yes").returncode == 0
    acme("build", "1")
    acme("db", "migrate")
    acme("telemetry", "record", "command.executed", "--command", "db migrate", "--strict")

    assert ["build", "build", "db migrate", "db migrate", "db migrate"] == names(acme)
    shown = acme("telemetry", "stats")
    assert (shown.returncode, "db migrate" in shown.stdout, shown.stderr) == (0, True, "")
    assert acme("telemetry", "verify").returncode == 0
    done = acme("telemetry", "reset", "--all-projects", "--yes")
    assert (done.returncode, acme.place.tree()) == (0, [])


def test_roles(acme) -> None:
    """Each event has the role. A change between two runs is `role.changed`."""
    acme("telemetry", "on", "--yes")
    acme("db", "migrate")
    (acme.place.root / "acme.toml").write_text('[tool]\nrole = "dev"\n')
    acme("db", "migrate")
    acme("db", "migrate", ACME_ROLE="qa")
    acme("--role", "sec", "db", "migrate", ACME_ROLE="qa")
    acme("db", "migrate", ACME_ROLE="sec")
    found = [(e["event_type"], e.get("role"), e.get("previous_role")) for e in events(acme)]

    assert [e for e in found if e[0].startswith("role.")] == [
        ("role.selected", "dev", None),
        ("role.changed", "qa", "dev"),
        ("role.changed", "sec", "qa"),
        ("role.selected", "sec", None),
    ]
    roles = [role for kind, role, _ in found if kind.startswith("command.")]
    assert roles == [None, None, "dev", "dev", "qa", "qa", "sec", "sec", "sec", "sec"]
    assert acme("telemetry", "verify").returncode == 0


@pytest.mark.parametrize("acme", ["click"], indirect=True)
def test_a_role_that_is_not_declared(acme) -> None:
    """Such a role is a pseudonym, and is stored nowhere for the next run."""
    acme("telemetry", "on", "--yes")
    acme("db", "migrate", ACME_ROLE="dev")
    acme("db", "migrate", ACME_ROLE="jane")
    acme("db", "migrate", ACME_ROLE="dev")
    found = [(e["event_type"], e.get("previous_role")) for e in events(acme) if "role" in e]

    assert [e for e in found if e[0].startswith("role.")] == [
        ("role.selected", None),
        ("role.changed", "dev"),
        ("role.selected", None),
    ]
    text = b"".join(p.read_bytes() for p in acme.place.user.rglob("*") if p.is_file())
    assert b"jane" not in text + acme.log.read_bytes()


@pytest.mark.parametrize("acme", ["click"], indirect=True)
def test_clear_deletes_the_role_of_the_run_before(acme) -> None:
    """After `clear`, the next run does not know the role of the run before."""
    acme("telemetry", "on", "--yes")
    acme("db", "migrate", ACME_ROLE="dev")
    acme("telemetry", "clear", "--yes")
    acme("db", "migrate", ACME_ROLE="qa")

    assert events(acme)[0]["event_type"] == "role.selected"


# -- the question ------------------------------------------------------------------------------


@pytest.mark.tty
@pytest.mark.parametrize(
    ("acme", "answer", "recorded", "code", "told"),
    [
        *((kind, "y\r", True, 0, "Recording is on. acme telemetry off stops it.") for kind in RUNS),
        ("click", "\r", False, 10, "Recording is off. acme telemetry on starts it."),
        ("click", "later\r", False, 10, "Nothing was decided."),
    ],
    indirect=["acme"],
)
def test_the_question(acme, answer, recorded, code, told) -> None:
    """It comes once, names the commands, and is followed by the command that was typed."""
    screen = at_terminal(acme.place, acme.code, answer, args=["build", "7"])

    assert (screen.code, screen.stdout) == (0, "built 7\n")
    assert "In plain text: build, db migrate.\n" in screen.screen
    assert "acme telemetry view shows it" in screen.screen
    assert (told in screen.screen, "telemetry-kit" in screen.screen) == (True, False)
    assert recorded == acme.log.exists()
    assert acme("telemetry", "status", "--check").returncode == code


@pytest.mark.parametrize("acme", ["click"], indirect=True)
@pytest.mark.tty
@pytest.mark.parametrize(
    ("answer", "code", "told"),
    [
        ("always\r", 0, "Recording is on for all projects. acme telemetry off --all-projects"),
        ("NEVER\r", 10, "Recording is off for all projects. acme telemetry on --all-projects"),
    ],
)
def test_the_answer_for_all_projects(acme, answer, code, told) -> None:
    """After `always` or `never`, another project does not ask again."""
    screen = at_terminal(acme.place, acme.code, answer, args=["build", "7"])
    other = acme.place.root.parent / "other"
    other.mkdir()
    acme.place.root = other
    again = at_terminal(acme.place, acme.code, args=["build", "7"])

    assert told in screen.screen
    assert (again.screen, again.stdout) == ("", "built 7\n")
    assert acme("telemetry", "status", "--check").returncode == code


@pytest.mark.tty
@pytest.mark.parametrize(
    ("acme", "words"),
    [
        *((kind, ["build", "x"]) for kind in RUNS),
        *(("click", words) for words in (["build", "--help"], ["nonsense"])),
        *((kind, ["telemetry", "status"]) for kind in RUNS),
    ],
    indirect=["acme"],
    ids=str,
)
def test_no_question(acme, words: list[str]) -> None:
    """Help, mistakes and the commands of this library ask nothing."""
    screen = at_terminal(acme.place, acme.code, args=words, PYTHONIOENCODING="ascii")

    assert "Record how you use" not in screen.screen
    assert acme.place.tree() == []


@pytest.mark.parametrize("acme", ["click"], indirect=True)
@pytest.mark.tty
def test_no_question_under_a_veto(acme) -> None:
    """A variable that denies, and a coding agent, are asked nothing."""
    for variable in ("DO_NOT_TRACK", "ACME_TELEMETRY_DISABLED", "CI", "CLAUDECODE"):
        screen = at_terminal(acme.place, acme.code, args=["build", "7"], **{variable: "1"})

        assert (screen.screen, screen.stdout) == ("", "built 7\n")


# -- the user's machine ------------------------------------------------------------------------


@pytest.mark.parametrize("acme", ["click"], indirect=True)
def test_the_machine_never_gets_in_the_way(acme) -> None:
    """Without HOME, or with folders that cannot be written, the program runs and prints as ever."""
    acme("telemetry", "on", "--yes", "--all-projects")
    (acme.place.root / ".acme").write_text("a file of the user\n")
    for env in ({}, {"HOME": ""}, {"HOME": "/no/such/folder"}, {"XDG_STATE_HOME": os.devnull}):
        done = acme("build", "7", ACME_ROLE="dev", **env)

        assert (done.returncode, done.stdout, done.stderr) == (0, "built 7\n", "")
