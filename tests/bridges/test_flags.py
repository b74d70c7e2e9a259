"""`--telemetry / --no-telemetry` in real hosts: remembered, and never in the host's way."""

import json
import subprocess

import pytest

pytest.importorskip("click")

TYPER = '''
import typer
from telemetry_kit import configure, role_session
from telemetry_kit.bridges.typer import TelemetryOption

configure(app="acme", context={"task": "identifier"})
app = typer.Typer()

@app.callback()
def main(telemetry: TelemetryOption = None) -> None:
    """A host."""

@app.command()
def work(name: str = "") -> None:
    with role_session("dev"):
        print("worked", name)

app()
'''
CLICK = '''
import click
from telemetry_kit import configure, role_session
from telemetry_kit.bridges.click import telemetry_option

configure(app="acme", context={"task": "identifier"})

@click.group()
@telemetry_option
def main() -> None:
    """A host."""

@main.command()
@click.option("--name", default="")
def work(name) -> None:
    with role_session("dev"):
        print("worked", name)

main()
'''
ARGPARSE = """
import argparse
from telemetry_kit import configure, role_session
from telemetry_kit.bridges.argparse import add_telemetry_argument

configure(app="acme", context={"task": "identifier"})
parser = argparse.ArgumentParser(prog="acme")
add_telemetry_argument(parser)
work = parser.add_subparsers(required=True).add_parser("work")
work.add_argument("--name", default="")
given = parser.parse_args()
with role_session("dev"):
    print("worked", given.name)
"""
HOSTS = {"typer": TYPER, "click": CLICK, "argparse": ARGPARSE}


@pytest.fixture(params=HOSTS)
def host(request, undecided):
    """One of the three hosts; call it with arguments."""
    path = undecided.user.parent / "acme.py"
    path.write_text(HOSTS[request.param])

    def run(*args: str, **env: str):
        return undecided.python("-W", "error", str(path), *args, env=env, stdin=subprocess.DEVNULL)

    run.place, run.kind = undecided, request.param
    return run


def record(host) -> str:
    (path,) = host.place.user.rglob("telemetry.enabled")
    return path.read_text()


def test_neither(host) -> None:
    """Without the flag nothing is decided, and nothing is made."""
    done = host("work", "--name", "x")

    assert (done.returncode, done.stdout, done.stderr) == (0, "worked x\n", "")
    assert host.place.tree() == []


def test_yes_is_remembered(host) -> None:
    """`--telemetry` records in this very run, and in later ones without it; it says nothing."""
    done = host("--telemetry", "work")
    host("work")

    assert (done.returncode, done.stdout, done.stderr) == (0, "worked \n", "")
    log = host.place.root / ".acme" / "telemetry.jsonl"
    assert [json.loads(line)["event_type"] for line in log.read_text().splitlines()] == [
        "role.selected"
    ] * 2


def test_yes_covers_what_is_declared(host) -> None:
    """The host's own context keys are known here: a yes is for them and for no others."""
    host("--telemetry", "work")

    assert " context=task:identifier " in record(host)


def test_no_is_remembered(host) -> None:
    """`--no-telemetry` is a no, in this run and in later ones."""
    host("--telemetry", "work")
    before = (host.place.root / ".acme" / "telemetry.jsonl").read_bytes()
    assert host("--no-telemetry", "work").returncode == 0
    host("work")
    stored = [p.read_bytes() for p in (host.place.root / ".acme").glob("telemetry*.jsonl")]

    assert stored == [before]
    assert record(host).split()[1] == "no"


def test_history(host) -> None:
    """The history says that it was a flag."""
    host("--telemetry", "work")
    host("--no-telemetry", "work")
    (path,) = host.place.user.rglob("telemetry.history.jsonl")
    entries = [json.loads(line) for line in path.read_text().splitlines()]

    assert [(e["decision"], e["method"]) for e in entries] == [("yes", "flag"), ("no", "flag")]


def test_under_a_veto(host) -> None:
    """A yes under a veto is kept and records nothing; a no is written all the same."""
    host("--telemetry", "work", DO_NOT_TRACK="1")

    assert record(host).split()[1] == "yes"
    assert not (host.place.root / ".acme").exists()
    host("--no-telemetry", "work", DO_NOT_TRACK="1")
    assert record(host).split()[1] == "no"


@pytest.mark.parametrize("flag", ["--telemetry", "--no-telemetry"])
def test_it_cannot_be_kept(host, flag: str) -> None:
    """Where nothing can be written the host goes on, and nothing is recorded."""
    (host.place.user / ".config").write_text("")
    done = host(flag, "work")

    assert (done.returncode, done.stdout, done.stderr) == (0, "worked \n", "")


def test_help(host) -> None:
    """Both spellings are in the host's help, and asking for help decides nothing."""
    done = host("--help", COLUMNS="200")

    assert (done.returncode, "--no-telemetry" in done.stdout) == (0, True)
    assert "private usage log on this computer" in done.stdout
    assert host.place.tree() == []


@pytest.mark.parametrize("words", ["acme --telemetry wo", "acme --no-telemetry "])
def test_completion_decides_nothing(host, words: str) -> None:
    """Pressing Tab behind the flag parses the line, and is no answer."""
    if host.kind == "argparse":
        pytest.skip("argparse has no completion of its own")
    env = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    kind = "complete_bash" if host.kind == "typer" else "bash_complete"
    done = host(**env, **{"_ACME_PY_COMPLETE": kind, "_ACME.PY_COMPLETE": kind})

    assert "work" in done.stdout
    assert host.place.tree() == []
