"""`telemetry-kit stats` and `answers` in processes of their own."""

import json
import os
import subprocess
import sys

import pytest

from telemetry_kit.schema.encoding import encode

EVENTS = [
    {"event_type": "role.selected", "role": "dev"},
    {"event_type": "role.changed", "role": "qa", "previous_role": "dev"},
    {"event_type": "command.executed", "role": "dev", "command": "/qa:check"},
    {
        "event_type": "command.failed",
        "role": "dev",
        "command": "/qa:check",
        "outcome": "error",
        "error_type": "ValueError",
        "duration_ms": 2048,
    },
    {"event_type": "agent.invoked", "role": "dev", "agent": "writer"},
    {"event_type": "agent.completed", "role": "dev", "agent": "writer", "duration_ms": 64},
    {"event_type": "handoff.clicked", "source_agent": "writer", "target_agent": "tester"},
]


def stored(number, **fields):
    """Return a stored event with this number and these fields."""
    return {
        "schema_version": "1.0",
        "event_id": f"{number:016x}",
        "event_type": fields.pop("event_type"),
        "timestamp": fields.pop("timestamp", "2026-11-22T00:00:00Z"),
        "seq": number,
        **fields,
    }


def fill(place, *events):
    """Append events to the active log of the project."""
    place.log.parent.mkdir(mode=0o700, exist_ok=True)
    with place.log.open("ab") as log:
        log.writelines(encode(stored(n, **dict(e))) for n, e in enumerate(events))
    place.log.chmod(0o600)


def run(place, *args, **env):
    """Run a command in the project."""
    return place.python("-m", "telemetry_kit", *args, env=env)


@pytest.mark.parametrize("command", ["stats", "view"])
def test_no_events_yet(undecided, command):
    """Without events, stderr reports it, the exit code is 0, and no file is created."""
    done = run(undecided, command)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "no events yet\n")
    assert undecided.tree() == []


@pytest.mark.parametrize("columns", [20, 40, 60, 80, 120, 200])
def test_statistics_fit_the_terminal(undecided, columns):
    """No line is wider than the terminal, and each section is printed."""
    fill(undecided, *EVENTS)
    done = run(undecided, "stats", COLUMNS=str(columns), PYTHONUTF8="1")

    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, done.stdout.splitlines())) <= columns
    for title in ("Roles", "Commands", "Agents", "Hand-offs", "Errors", "Events over time"):
        assert title in done.stdout


def test_the_numbers(undecided):
    """The command prints rates with intervals, percentiles and the number of malformed lines."""
    fill(undecided, *EVENTS)
    with undecided.log.open("ab") as log:
        log.write(b"nonsense\n")
    done = run(undecided, "stats", COLUMNS="120", PYTHONUTF8="1")

    assert "[0%, 79%]" in done.stdout
    assert "2.05 s" in done.stdout
    assert "two significant digits" in done.stdout
    assert done.stdout.splitlines()[-1] == "1 malformed line, 0 values dropped."
    assert done.stderr == "telemetry-kit: telemetry.jsonl: 1 malformed line\n"


def test_json(undecided):
    """`--json` prints the same statistics, and a period and a role select events."""
    fill(undecided, *EVENTS, {**EVENTS[0], "timestamp": "2026-10-01T00:00:00Z"})
    whole = json.loads(run(undecided, "stats", "--json").stdout)
    part = json.loads(
        run(undecided, "stats", "--json", "--since=2026-11-01", "--role", "dev").stdout
    )

    assert (whole["events"], part["events"]) == (8, 5)
    assert whole["cross_use"] == [
        {"role": "dev", "command": "/qa:check", "count": 1, "owner": "qa"}
    ]
    assert part["role"] == "dev"


@pytest.mark.parametrize(
    "args",
    [("--role", "dev"), ("--since", "2026-11-22"), ("--until", "2026-11-22"), ()],
    ids=["role", "since", "until", "all"],
)
def test_commands_of_another_role_in_a_period(undecided, args):
    """A public, declared or recorded role owns its commands.

    This applies also if a filter excludes the events of that role.
    """
    (undecided.root / ".flowspec").mkdir()
    (undecided.root / ".flowspec" / "telemetry.toml").write_text('roles = ["designer"]\n')
    started = {"event_type": "command.executed", "role": "dev"}
    fill(
        undecided,
        {"event_type": "role.selected", "role": "guest", "timestamp": "2026-11-01T00:00:00Z"},
        *({**started, "command": f"/{role}:x"} for role in ("qa", "designer", "guest", "nobody")),
        {"event_type": "role.selected", "role": "guest", "timestamp": "2026-11-25T00:00:00Z"},
    )
    found = json.loads(run(undecided, "stats", "--json", *args).stdout)["cross_use"]
    text = run(undecided, "answers", *args[:2] if args[:1] != ("--role",) else ()).stdout

    assert sorted(row["owner"] for row in found) == ["designer", "guest", "qa"]
    assert "another role's commands were used 3 times" in " ".join(text.split())


def test_a_role_without_events(undecided):
    """A public role without events is valid and has an empty result."""
    fill(undecided, *EVENTS)
    done = run(undecided, "stats", "--role", "sec")
    data = run(undecided, "stats", "--role", "sec", "--json")

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "no such events: see telemetry-kit stats\n"
    assert (data.returncode, json.loads(data.stdout)["events"]) == (0, 0)


def test_a_role_that_is_stored_as_a_pseudonym(place):
    """The user can select such a role by its name in plain text."""
    place.run("from telemetry_kit import role_session\nwith role_session('chief'): pass")
    found = json.loads(run(place, "stats", "--role", "chief", "--json").stdout)

    assert (found["role"], found["events"]) == ("chief", 1)
    assert found["roles"][0]["role"].startswith("h:")


BROKEN = "telemetry-2026-11-01.jsonl.gz"


@pytest.mark.parametrize("events", [EVENTS, []], ids=["some", "none"])
@pytest.mark.parametrize(
    "args",
    [
        ("stats",),
        ("stats", "--json"),
        ("stats", "--role", "nobody"),
        ("answers",),
        ("answers", "--json"),
        ("view",),
        ("view", "--tree"),
        ("view", "--json"),
        ("view", "--role", "nobody"),
    ],
    ids=" ".join,
)
def test_an_archive_that_cannot_be_read(undecided, events, args):
    """The exit code is 1, stderr names the archive, and the other events are printed."""
    fill(undecided, *events)
    (undecided.log.parent / BROKEN).write_bytes(b"\x1f\x8b\x08broken")
    done = run(undecided, *args)
    lines = done.stderr.splitlines()

    assert done.returncode == 1
    assert len(lines) == 2
    assert lines[0].startswith(f"telemetry-kit: {BROKEN}: the archive is ")
    assert lines[1].endswith(f"incomplete: {BROKEN} could not be read to the end")
    assert "yet" not in done.stderr
    if args == ("stats", "--json"):
        assert json.loads(done.stdout)["incomplete"] == [BROKEN]
    if args == ("answers", "--json"):
        assert {tuple(row["incomplete"]) for row in json.loads(done.stdout)} == {(BROKEN,)}


def test_no_file_is_incomplete(undecided):
    """If all files were read, the list of incomplete files is empty."""
    fill(undecided, *EVENTS)
    stats = json.loads(run(undecided, "stats", "--json").stdout)
    answers = json.loads(run(undecided, "answers", "--json").stdout)

    assert [stats["incomplete"], *(row["incomplete"] for row in answers)] == [[]] * 16


def test_answers_of_a_role(undecided):
    """`answers --role` uses only the events of that role."""
    fill(undecided, *EVENTS)
    rows = json.loads(run(undecided, "answers", "--role", "qa", "--json").stdout)

    assert rows[0]["answer"] == "qa (1, 100%)."


def test_without_block_characters(undecided):
    """An ASCII terminal gets ASCII bars."""
    fill(undecided, *EVENTS)
    done = run(undecided, "stats", PYTHONIOENCODING="ascii", PYTHONUTF8="0", LC_ALL="C")

    assert done.returncode == 0
    assert done.stdout.isascii()
    assert "####" in done.stdout


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("stats", "--since", "tomorrow"), "write the day as"),
        (("stats", "--since", "2026-02-30"), "write the day as"),
        (("stats", "--since", "2026-11-02", "--until", "2026-11-01"), "swap them"),
        (("stats", "--role", "dve"), "did you mean 'dev'?"),
        (("stats", "--rol", "dev"), "there is no option '--rol': did you mean '--role'?"),
        (("stats", "--role", ""), "write a name"),
        (("stats", "--role", "xxxxxx"), "there are all, arch, dev, ops, pm, qa, sec"),
        (("stats", "--role", "xxxxxx", "--json"), "no events of it"),
        (("stats", "--since"), "--since: expected one argument"),
        (("stats", "--top", "0"), "write a whole number of at least 1"),
        (("stats", "--by", "month"), "--by 'month': there are day, week"),
        (("stats", "--command", "/qa:chek"), "did you mean '/qa:check'?"),
        (("stats", "more"), "unexpected argument 'more'"),
        (("answers", "--until", "x"), "write the day as"),
        (("answers", "--role", "dve"), "did you mean 'dev'?"),
        (("stats", "--since", "0m7d"), "write the day as"),
        (("stats", "--since", "99999m"), "write the day as"),
        (("stats", "--since", "20261123"), "write the day as"),
        (("--app", "No App", "stats"), "use 1 to 40"),
        (("view", "--event", "command.faild"), "did you mean 'command.failed'?"),
        (("view", "--outcome", "okay"), "did you mean 'ok'?"),
        (("view", "--role", "dve"), "did you mean 'dev'?"),
        (("view", "--agent", "writr"), "did you mean 'writer'?"),
        (("view", "--tree", "--json"), "--tree cannot be used with"),
        (("view", "--until", "2026-13-01"), "write the day as"),
    ],
)
def test_invalid_arguments(undecided, args, message):
    """An invalid argument is reported in one sentence on stderr, and the exit code is 2."""
    fill(undecided, *EVENTS)
    done = run(undecided, *args)

    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_answers(undecided):
    """Each question is one line, followed by its answer."""
    fill(undecided, *EVENTS)
    done = run(undecided, "answers", COLUMNS="100")
    lines = done.stdout.splitlines()

    assert lines[:2] == ["Which roles are selected most?", "  dev (1, 50%) and qa (1, 50%)."]
    assert "  /qa:check 1 of 1, only ValueError (1)." in lines
    assert len(json.loads(run(undecided, "answers", "--json").stdout)) == 15


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device of Linux")
@pytest.mark.parametrize(
    "args", [("stats",), ("view", "--json"), ("answers",), ("audit", "--json")]
)
def test_a_full_disk(undecided, args):
    """If the output cannot be written, stderr has one sentence and the exit code is 1."""
    fill(undecided, *EVENTS)
    before = undecided.log.read_bytes()
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "telemetry_kit", *args],
            cwd=undecided.root,
            env=undecided.env,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert done.returncode == 1
    assert done.stderr == (
        "telemetry-kit: not finished, the system reports: No space left on device\n"
    )
    assert undecided.log.read_bytes() == before


NESTED = """
import os, subprocess, sys
from telemetry_kit import child_environment, role_session
with role_session("dev"):
    for role in ("qa", "pm", "qa"):
        with role_session(role):
            pass
    child = "import telemetry_kit as t; t.configure(app='flowspec')\\nwith t.role_session('ops'): 1"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", child], env={**os.environ, **child_environment()})
"""


def test_nested_sessions_and_child_processes_are_one_session(place):
    """`stats` and `answers` count the different sessions, also those of one role."""
    assert place.run(NESTED).stderr == ""
    assert place.types().count("role.changed") == 3
    assert place.types().count("role.selected") == 3
    whole, role = (
        run(place, "stats"),
        json.loads(run(place, "stats", "--role", "qa", "--json").stdout),
    )
    answers = run(place, "answers").stdout, run(place, "answers", "--role", "qa").stdout

    assert whole.stdout.startswith("6 events in 1 session, ")
    assert (role["events"], role["sessions"]) == (2, 1)
    assert "3 times, in 1 session;" in answers[0]
    assert "2 times, in 1 session;" in answers[1]
