"""Exit codes if the output fails, a stream is closed, or a folder is missing."""

import gzip
import json
import os
import subprocess
import sys
import warnings

import pexpect
import pytest

from tests.cli.export_helpers import fill, stored

COMMAND = f"{sys.executable} -W error -m telemetry_kit"


def shell(place, line: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run a line of shell in the project. `$TK` is the command."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        env={**place.env, "TK": COMMAND, **env},
        cwd=place.root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("command", ["status", "status --explain", "view", "audit"])
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_folder_name_outside_the_encoding(undecided, command: str, encoding: str) -> None:
    """A folder name outside the encoding of stdout is printed escaped."""
    (undecided.root / "日本").mkdir()
    done = shell(undecided, f"cd 日本 && $TK {command}", PYTHONIOENCODING=encoding)

    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    if command.startswith("status"):
        assert "\\u65e5\\u672c" in done.stdout


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("$TK status >&-", 0),
        ("$TK --help >&-", 0),
        ("$TK status --check >&-", 10),
        ("$TK status --check 2>&-", 10),
        ("$TK status --check >/dev/full", 1),
        ("$TK status --check | true", 10),
        ("PYTHONUNBUFFERED=1 $TK status --check | true", 10),
        ("$TK status | true", 0),
        ("$TK stats >&-", 0),
        ("$TK --help >/dev/full", 1),
        ("$TK enable --yes 2>&-", 0),
        ("$TK enable --yes 2>/dev/full", 0),
        ("$TK off 2>&-", 0),
        ("$TK nonsense 2>&-", 2),
        ("$TK nonsense 2>/dev/full", 2),
        ("$TK record nonsense --strict 2>/dev/full", 2),
    ],
)
def test_an_output_that_cannot_be_written(undecided, line: str, code: int) -> None:
    """The command has its exit code and prints no traceback."""
    done = shell(undecided, line)

    assert code == done.returncode
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("command", ["status", "on --yes", "off", "view", "stats --json", "reset"])
@pytest.mark.parametrize("project", ["nowhere", "a-file", ""])
def test_a_missing_project(undecided, command: str, project: str) -> None:
    """A missing project is a usage error, and no decision changes in the current folder."""
    (undecided.root / "a-file").write_text("")
    before = undecided.tree()
    done = shell(undecided, f"$TK --project '{project}' {command}")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"telemetry-kit: there is no folder {project!r}: see --project. Nothing was changed\n"
    )
    assert before == undecided.tree()


def test_record_in_a_missing_project(place) -> None:
    """`record` writes no event to the current folder.

    Only `--strict` reports the missing project.
    """
    done = shell(place, "$TK record agent.invoked --agent x --project nowhere")
    strict = shell(place, "$TK record agent.invoked --agent x --project nowhere --strict")

    assert (done.returncode, done.stderr, place.types()) == (0, "", [])
    assert (strict.returncode, strict.stderr) == (
        2,
        "telemetry-kit record: there is no folder 'nowhere': see --project\n",
    )


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("pyproject.toml", "[tool.telemetry_kit]\nEnabled = false\n", "did you mean enabled?"),
        ("pyproject.toml", "[tool.telemetry_kit]\ndeny = true\n", "unknown setting 'deny'"),
        ("pyproject.toml", "[tool.telemetry-kit]\nenabled = false\n", "write [tool.telemetry_kit]"),
        (".flowspec/telemetry.toml", "ENABLED = false\n", "did you mean enabled?"),
    ],
)
def test_status_reports_a_misspelled_veto(place, file: str, text: str, message: str) -> None:
    """A misspelled setting does not deny, and `status` reports it."""
    (place.root / ".flowspec").mkdir(exist_ok=True)
    (place.root / file).write_text(text)
    done = shell(place, "$TK status")

    assert done.returncode == 0
    assert message in done.stdout
    assert done.stdout.count("trouble") == 1


# -- a reader that has closed its pipe, a full disk, and no stdout at all ------------------------

# Forks for each case, so that the interpreter's own exit is part of it and the imports are not.
EACH = """
import io, json, os, sys
import click, typer
import telemetry_kit.cli
from telemetry_kit import configure
from telemetry_kit.cli.commands import answers, audit, doctor, export, status, verify, view

configure(app="flowspec")
typer_host = typer.Typer(pretty_exceptions_enable=False)
typer_host.add_typer(telemetry_kit.cli.typer_app("flowspec"), name="telemetry")
typer_host.callback()(lambda: None)
click_host = click.Group("host")
click_host.add_command(telemetry_kit.cli.click_group("flowspec"), name="telemetry")
mains = {"own": telemetry_kit.cli.main, "typer": typer_host, "click": click_host}

def run(host, line, output):
    kind, _, unbuffered = output.partition(" ")
    reader, pipe = os.pipe()
    os.close(reader)
    os.dup2(os.open("err", os.O_WRONLY | os.O_TRUNC | os.O_CREAT), 2)
    path = "/dev/full" if kind == "full" else "out"
    file = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CREAT)
    os.dup2(pipe if kind == "pipe" else file, 1)
    if unbuffered:
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "w", closefd=False), "utf-8", write_through=True)
    if kind == "none":
        os.close(1)
        sys.stdout = None
    words = line.split()
    sys.exit(mains[host](words if host == "own" else ["telemetry", *words]))

found = []
for case in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        break
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with open("err") as err:
        found.append([*case, code, err.read()])
else:
    print(json.dumps(found))
    sys.exit()
run(*case)
"""
FAILING = ("doctor", "answers", "verify", "view --json -n 999", "export")
OWN = (*FAILING, "status --check", "audit --json", "record --help", "--help", "")
MOUNTED = ("doctor", "export --format csv", "view --help", "--help")
OUTPUTS = ("file", "pipe", "full", "pipe unbuffered", "full unbuffered", "none")
CASES = [
    (host, line, output)
    for host, lines in (("own", OWN), ("typer", MOUNTED), ("click", MOUNTED))
    for line in lines
    for output in (OUTPUTS if line in ("doctor", "export", "view --help") else OUTPUTS[:3])
]
FULL = (
    "not finished, the system reports: No space left on device",
    "stdout cannot be written (the disk is full): the output is incomplete",
)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
def test_every_output_that_cannot_be_written(place) -> None:
    """A command without a reader has its own exit code and messages.

    Also one that fails, prints its help, or is mounted. If the disk is full, it exits with 1 and
    reports that in one sentence.
    """
    fill(place, *(stored(number) for number in range(3)))
    damaged = place.log.with_name("telemetry-2024-01-01.jsonl.gz")
    damaged.write_bytes(gzip.compress(place.log.read_bytes() * 50)[:-20])
    place.log.chmod(0o640)
    done = place.python("-W", "error", "-c", EACH, json.dumps(CASES))
    assert (done.returncode, done.stderr) == (0, "")
    found = {tuple(case): (code, err) for *case, code, err in json.loads(done.stdout)}
    expected = {}
    for host, line, output in CASES:
        own = found[host, line, "file"]
        if output.startswith("full"):
            last = found[host, line, output][1].splitlines()[-1:]
            is_full = bool(last) and last[0].partition(": ")[2] in FULL
            own = (1, found[host, line, output][1] if is_full else FULL)
        expected[host, line, output] = own

    assert expected == found
    assert {found["own", line, "file"][0] for line in FAILING} == {1}


def test_follow_ends_without_a_reader(place) -> None:
    """`view --follow` ends if the reader of its pipe has closed it."""
    fill(place, stored(1))
    done = shell(place, "exec 3> >(true); wait $!; $TK view --follow >&3")

    assert (done.returncode, done.stderr) == (0, "")


# -- the width of the terminal -----------------------------------------------------------------

SCREENS = """
import os, sys
from telemetry_kit.cli import main
sys.stderr = open(os.devnull, "w")
for line in ("status --explain", "doctor", "audit", "preview"):
    main(line.split())
"""


@pytest.mark.tty
@pytest.mark.parametrize("columns", [80, 40])
def test_commands_fit_the_terminal(place, columns: int) -> None:
    """No line is wider than the terminal, with long paths, names and problems."""
    folder = place.log.parent
    folder.mkdir(mode=0o700)
    (folder / "telemetry.toml").write_text(f"agents = {[f'agent-{n}' for n in range(30)]}\nb = 1\n")
    place.python("-m", "telemetry_kit", "export", "-o", "events.jsonl", check=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = pexpect.spawn(
            sys.executable,
            ["-c", SCREENS],
            cwd=place.root,
            env={**place.env, "TERM": "xterm", "DO_NOT_TRACK": "long-" * 40},
            dimensions=(50, columns),
            timeout=60,
            encoding="utf-8",
        )
    child.expect(pexpect.EOF)
    child.close()
    lines = child.before.splitlines()

    assert [line for line in lines if len(line) > columns] == []
    for text in ("DO_NOT_TRACK", "agent-29", "agent.failed", "events.jsonl", "unknown setting 'b'"):
        assert text in " ".join(" ".join(lines).split())
