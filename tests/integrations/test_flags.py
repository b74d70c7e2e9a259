"""`--telemetry / --no-telemetry` in real hosts: remembered, and never in the host's way."""

import json
import subprocess

import pytest

pytest.importorskip("click")

TYPER = '''
import typer
from telemetry_kit import configure, role_session
from telemetry_kit.integrations.typer import TelemetryOption

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
from telemetry_kit.integrations.click import telemetry_option

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
from telemetry_kit.integrations.argparse import add_telemetry_argument

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
    entries = [json.loads(line)["entry"] for line in path.read_text().splitlines()]

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
    """Where nothing can be written the host goes on, is told so, and nothing is recorded."""
    (host.place.user / ".config").write_text("")
    done = host(flag, "work")

    assert (done.returncode, done.stdout) == (0, "worked \n")
    assert done.stderr.startswith(f"acme: {flag} could not be saved: ")
    assert done.stderr.endswith(". Nothing is recorded in this run.\n")
    assert not (host.place.root / ".acme").exists()


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


# -- what counts as said -----------------------------------------------------------------------

SOURCES = {
    "click": """
import click
from telemetry_kit import configure, role_session
from telemetry_kit.integrations.click import telemetry_option
configure(app="acme")

@click.command()
@telemetry_option
@click.option("--count", type=int, default=0)
def main(count):
    with role_session("dev"):
        print("worked")

main({map}auto_envvar_prefix="ACME")
""",
    "typer": """
import typer
from telemetry_kit import configure, role_session
from telemetry_kit.integrations.typer import TelemetryOption
configure(app="acme")
app = typer.Typer()

@app.command()
def main(telemetry: TelemetryOption = None, count: int = 0):
    with role_session("dev"):
        print("worked")

app({map}auto_envvar_prefix="ACME")
""",
    "argparse": """
import argparse
from telemetry_kit import configure, role_session
from telemetry_kit.integrations.argparse import add_telemetry_argument
configure(app="acme")
parser = argparse.ArgumentParser(prog="acme")
add_telemetry_argument(parser)
parser.add_argument("--count", type=int)
if {default!r}:
    parser.set_defaults(telemetry={default!r} == "True")
parser.parse_args()
with role_session("dev"):
    print("worked")
""",
}


@pytest.fixture(params=SOURCES)
def single(request, undecided):
    """A host of one command; call it with arguments and with what it says for want of them."""

    def run(*args: str, default: str = "", **env: str):
        table = f'default_map={{"telemetry": {default}}}, ' if default else ""
        code = SOURCES[request.param].replace("{map}", table).replace("{default!r}", repr(default))
        path = undecided.user.parent / "acme.py"
        path.write_text(code)
        return undecided.python("-W", "error", str(path), *args, env=env, stdin=subprocess.DEVNULL)

    run.place, run.kind = undecided, request.param
    return run


@pytest.mark.parametrize("given", [{"ACME_TELEMETRY": "1"}, {"default": "True"}], ids=str)
def test_only_a_typed_yes_is_one(single, given) -> None:
    """A variable or a table of defaults grants nothing: a person has to type it."""
    done = single(**given)

    assert (done.returncode, done.stdout, done.stderr) == (0, "worked\n", "")
    assert single.place.tree() == []


@pytest.mark.parametrize("given", [{"ACME_TELEMETRY": "0"}, {"default": "False"}], ids=str)
def test_a_no_from_anywhere_is_one(single, given) -> None:
    """The host's own ways to set an option may deny."""
    if single.kind == "argparse":
        pytest.skip("argparse has no such ways that reach an action")
    single(**given)

    assert record(single).split()[1] == "no"


@pytest.mark.parametrize(
    ("args", "code"), [(["--bogus"], 2), (["--count", "x"], 2), (["--help"], 0)], ids=str
)
def test_a_line_that_is_not_valid_decides_nothing(single, args: list[str], code: int) -> None:
    """A mistake behind the flag, or a request for help, leaves no yes behind."""
    done = single("--telemetry", *args)

    assert done.returncode == code
    assert single.place.tree() == []


def test_the_last_of_two_counts(single) -> None:
    """Both on one line are one decision."""
    assert single("--telemetry", "--no-telemetry").returncode == 0
    (path,) = single.place.user.rglob("telemetry.history.jsonl")

    entries = [json.loads(line)["entry"] for line in path.read_text().splitlines()]

    assert [e["decision"] for e in entries] == ["no"]


def test_again_does_not_widen(single) -> None:
    """`--telemetry` in an alias leaves a yes as it was given when the tool records more by now."""
    single("--telemetry")
    before = record(single)
    path = single.place.user.parent / "acme.py"
    wider = path.read_text().replace('app="acme"', 'app="acme", timestamp_resolution="second"')
    path.write_text(wider)
    done = single.place.python("-W", "error", str(path), "--telemetry")

    assert (done.returncode, done.stderr) == (0, "")
    assert before == record(single)


KNOWN = SOURCES["argparse"].replace("{default!r}", "''")


def test_words_left_over(undecided) -> None:
    """Where a host leaves words over, a no counts and a yes does not."""
    code = KNOWN.replace("parse_args()", "parse_known_args()")
    undecided.run(code, "--telemetry", "--rest")

    assert undecided.tree() == []
    undecided.run(code, "--no-telemetry", "--rest")
    (path,) = undecided.user.rglob("telemetry.enabled")
    assert path.read_text().split()[1] == "no"


def test_intermixed(undecided) -> None:
    """Every way to parse ends in the decision."""
    undecided.run(KNOWN.replace("parse_args()", "parse_intermixed_args()"), "--telemetry")

    assert len(list(undecided.user.rglob("telemetry.enabled"))) == 1


def test_from_a_parent(undecided) -> None:
    """A parser that has it from another one decides as well."""
    code = KNOWN.replace(
        "parser.parse_args()",
        "argparse.ArgumentParser(parents=[parser], add_help=False).parse_args()",
    ).replace('(prog="acme")', "(add_help=False)")
    done = undecided.run(code, "--telemetry")

    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(undecided.user.rglob("telemetry.enabled"))) == 1


# -- a no that cannot be kept ------------------------------------------------------------------

LOCKED = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_no_that_cannot_be_kept_holds_in_this_run(single) -> None:
    """While another process holds the lock: the host is told in one sentence and waits a second."""
    single("--telemetry")
    log = single.place.root / ".acme" / "telemetry.jsonl"
    before = log.read_bytes()
    lock = single.place.user / ".config/telemetry-kit/acme" / ".telemetry.deciding"
    holder = single.place.start(LOCKED, str(lock))
    assert holder.stdout.readline() == "held\n"
    done = single("--no-telemetry")
    holder.communicate("")

    assert (done.returncode, done.stdout) == (0, "worked\n")
    assert done.stderr == (
        "acme: --no-telemetry could not be saved: another process is writing a decision and does "
        "not finish. Other programs continue to record: set ACME_TELEMETRY_DISABLED=1 to stop "
        "them. Nothing is recorded in this run.\n"
    )
    assert before == log.read_bytes()
    assert record(single).split()[1] == "yes"
