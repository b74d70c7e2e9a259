"""`--telemetry` and `--no-telemetry` in real programs save the decision."""

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
    """Return a function that runs a program with Typer, Click or argparse."""
    path = undecided.user.parent / "acme.py"
    path.write_text(HOSTS[request.param])

    def run(*args: str, **env: str):
        return undecided.python("-W", "error", str(path), *args, env=env, stdin=subprocess.DEVNULL)

    run.place, run.kind = undecided, request.param
    return run


def consent_record(host) -> str:
    """Return the consent record of the program."""
    (path,) = host.place.user.rglob("telemetry.enabled")
    return path.read_text()


def test_without_a_flag(host) -> None:
    """Without a flag, no decision is saved and no file is created."""
    done = host("work", "--name", "x")

    assert (done.returncode, done.stdout, done.stderr) == (0, "worked x\n", "")
    assert host.place.tree() == []


def test_consent_is_saved(host) -> None:
    """After `--telemetry`, this run and later runs record, and the program prints nothing more."""
    done = host("--telemetry", "work")
    host("work")

    assert (done.returncode, done.stdout, done.stderr) == (0, "worked \n", "")
    log = host.place.root / ".acme" / "telemetry.jsonl"
    assert [json.loads(line)["event_type"] for line in log.read_text().splitlines()] == [
        "role.selected"
    ] * 2


def test_consent_covers_the_declared_context_keys(host) -> None:
    """`--telemetry` grants consent for exactly the context keys of the program."""
    host("--telemetry", "work")

    assert " context=task:identifier " in consent_record(host)


def test_a_denial_is_saved(host) -> None:
    """After `--no-telemetry`, neither this run nor a later one records."""
    host("--telemetry", "work")
    before = (host.place.root / ".acme" / "telemetry.jsonl").read_bytes()
    assert host("--no-telemetry", "work").returncode == 0
    host("work")
    stored = [p.read_bytes() for p in (host.place.root / ".acme").glob("telemetry*.jsonl")]

    assert stored == [before]
    assert consent_record(host).split()[1] == "no"


def test_the_method_in_the_history(host) -> None:
    """The history contains the method `flag`."""
    host("--telemetry", "work")
    host("--no-telemetry", "work")
    (path,) = host.place.user.rglob("telemetry.history.jsonl")
    entries = [json.loads(line)["entry"] for line in path.read_text().splitlines()]

    assert [(e["decision"], e["method"]) for e in entries] == [("yes", "flag"), ("no", "flag")]


def test_under_a_veto(host) -> None:
    """Under a veto, a grant and a denial are saved, and no event is recorded."""
    host("--telemetry", "work", DO_NOT_TRACK="1")

    assert consent_record(host).split()[1] == "yes"
    assert not (host.place.root / ".acme").exists()
    host("--no-telemetry", "work", DO_NOT_TRACK="1")
    assert consent_record(host).split()[1] == "no"


@pytest.mark.parametrize("flag", ["--telemetry", "--no-telemetry"])
def test_a_decision_that_cannot_be_saved(host, flag: str) -> None:
    """If the decision cannot be saved, the program reports it, continues and records nothing."""
    (host.place.user / ".config").write_text("")
    done = host(flag, "work")

    assert (done.returncode, done.stdout) == (0, "worked \n")
    assert done.stderr.startswith(f"acme: {flag} could not be saved: ")
    assert done.stderr.endswith(". Nothing is recorded in this run.\n")
    assert not (host.place.root / ".acme").exists()


def test_help(host) -> None:
    """The help lists both flags, and printing it saves no decision."""
    done = host("--help", COLUMNS="200")

    assert (done.returncode, "--no-telemetry" in done.stdout) == (0, True)
    assert "private usage log on this computer" in done.stdout
    assert host.place.tree() == []


@pytest.mark.parametrize("words", ["acme --telemetry wo", "acme --no-telemetry "])
def test_completion_decides_nothing(host, words: str) -> None:
    """Completion after a flag parses the line and saves no decision."""
    if host.kind == "argparse":
        pytest.skip("argparse has no completion of its own")
    env = {"COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    kind = "complete_bash" if host.kind == "typer" else "bash_complete"
    done = host(**env, **{"_ACME_PY_COMPLETE": kind, "_ACME.PY_COMPLETE": kind})

    assert "work" in done.stdout
    assert host.place.tree() == []


# -- sources of a decision ---------------------------------------------------------------------

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
def simple_host(request, undecided):
    """Return a function that runs a program of one command with a default for the option."""

    def run(*args: str, default: str = "", **env: str):
        table = f'default_map={{"telemetry": {default}}}, ' if default else ""
        code = SOURCES[request.param].replace("{map}", table).replace("{default!r}", repr(default))
        path = undecided.user.parent / "acme.py"
        path.write_text(code)
        return undecided.python("-W", "error", str(path), *args, env=env, stdin=subprocess.DEVNULL)

    run.place, run.kind = undecided, request.param
    return run


@pytest.mark.parametrize("given", [{"ACME_TELEMETRY": "1"}, {"default": "True"}], ids=str)
def test_only_the_command_line_grants(simple_host, given) -> None:
    """A variable or a table of defaults grants no consent."""
    done = simple_host(**given)

    assert (done.returncode, done.stdout, done.stderr) == (0, "worked\n", "")
    assert simple_host.place.tree() == []


@pytest.mark.parametrize("given", [{"ACME_TELEMETRY": "0"}, {"default": "False"}], ids=str)
def test_each_source_can_deny(simple_host, given) -> None:
    """A variable or a table of defaults can deny."""
    if simple_host.kind == "argparse":
        pytest.skip("argparse has no such ways that reach an action")
    simple_host(**given)

    assert consent_record(simple_host).split()[1] == "no"


@pytest.mark.parametrize(
    ("args", "code"), [(["--bogus"], 2), (["--count", "x"], 2), (["--help"], 0)], ids=str
)
def test_an_invalid_line_saves_no_decision(simple_host, args: list[str], code: int) -> None:
    """If the line has an error or asks for help, no decision is saved."""
    done = simple_host("--telemetry", *args)

    assert done.returncode == code
    assert simple_host.place.tree() == []


def test_the_last_of_two_flags_applies(simple_host) -> None:
    """Two flags on one line save one decision, which is the last."""
    assert simple_host("--telemetry", "--no-telemetry").returncode == 0
    (path,) = simple_host.place.user.rglob("telemetry.history.jsonl")

    entries = [json.loads(line)["entry"] for line in path.read_text().splitlines()]

    assert [e["decision"] for e in entries] == ["no"]


def test_a_repeated_flag_extends_no_scope(simple_host) -> None:
    """If the program later records more, a repeated `--telemetry` leaves the record unchanged."""
    simple_host("--telemetry")
    before = consent_record(simple_host)
    path = simple_host.place.user.parent / "acme.py"
    extended = path.read_text().replace('app="acme"', 'app="acme", timestamp_resolution="second"')
    path.write_text(extended)
    done = simple_host.place.python("-W", "error", str(path), "--telemetry")

    assert (done.returncode, done.stderr) == (0, "")
    assert before == consent_record(simple_host)


KNOWN = SOURCES["argparse"].replace("{default!r}", "''")


def test_unknown_arguments(undecided) -> None:
    """With unknown arguments, a denial is saved and a grant is not."""
    code = KNOWN.replace("parse_args()", "parse_known_args()")
    undecided.run(code, "--telemetry", "--rest")

    assert undecided.tree() == []
    undecided.run(code, "--no-telemetry", "--rest")
    (path,) = undecided.user.rglob("telemetry.enabled")
    assert path.read_text().split()[1] == "no"


def test_intermixed_arguments(undecided) -> None:
    """`parse_intermixed_args` saves the decision."""
    undecided.run(KNOWN.replace("parse_args()", "parse_intermixed_args()"), "--telemetry")

    assert len(list(undecided.user.rglob("telemetry.enabled"))) == 1


def test_a_class_that_parses_in_its_own_way(undecided) -> None:
    """A class whose `parse_args` calls that of argparse saves the decision after it."""
    own = """
class Parser(argparse.ArgumentParser):
    def parse_args(self, args=None):
        found = super().parse_known_args(args)[0]
        if found.count is None:
            self.error("a count is missing")
        return found
"""
    head, call, tail = KNOWN.partition("parser = argparse.ArgumentParser(")
    code = f"{head}{own}{call.replace('argparse.ArgumentParser', 'Parser')}{tail}"
    undecided.run(code, "--telemetry")

    assert undecided.tree() == []
    done = undecided.run(code, "--telemetry", "--count", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(undecided.user.rglob("telemetry.enabled"))) == 1


def test_a_parent_parser(undecided) -> None:
    """A parser with a parent that has the option saves the decision."""
    code = KNOWN.replace(
        "parser.parse_args()",
        "argparse.ArgumentParser(parents=[parser], add_help=False).parse_args()",
    ).replace('(prog="acme")', "(add_help=False)")
    done = undecided.run(code, "--telemetry")

    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(undecided.user.rglob("telemetry.enabled"))) == 1


# -- a denial that cannot be saved -------------------------------------------------------------

LOCKED = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_denial_that_cannot_be_saved(simple_host) -> None:
    """If another process holds the lock, the program reports it and this run records nothing."""
    simple_host("--telemetry")
    log = simple_host.place.root / ".acme" / "telemetry.jsonl"
    before = log.read_bytes()
    lock = simple_host.place.user / ".config/telemetry-kit/acme" / ".telemetry.deciding"
    holder = simple_host.place.start(LOCKED, str(lock))
    assert holder.stdout.readline() == "held\n"
    done = simple_host("--no-telemetry")
    holder.communicate("")

    assert (done.returncode, done.stdout) == (0, "worked\n")
    assert done.stderr == (
        "acme: --no-telemetry could not be saved: another process is writing a decision and does "
        "not finish. Other programs continue to record: set ACME_TELEMETRY_DISABLED=1 to stop "
        "them. Nothing is recorded in this run.\n"
    )
    assert before == log.read_bytes()
    assert consent_record(simple_host).split()[1] == "yes"
