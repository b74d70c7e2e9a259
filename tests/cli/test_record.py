"""`telemetry-kit record` records one event from a script and prints nothing."""

import json
import os
import subprocess
import sys

import pytest

VALID = ["agent.invoked", "--agent", "backend-engineer", "--role", "dev", "--command", "/flow:x"]
FLAGS = ("--role", "--command", "--agent", "--workflow", "--source-agent", "--target-agent")
INVALID = {
    "nothing": [],
    "unknown event": ["agent.invokd"],
    "empty event": [""],
    "two events": ["agent.invoked", "agent.started"],
    "unknown option": ["agent.invoked", "--colour", "red"],
    "no value": ["agent.invoked", "--role"],
    "option only": ["--role", "dev"],
    "bad app": ["agent.invoked", "--app", "../x"],
    "bad outcome": ["agent.completed", "--outcome", "fine"],
    "bad exit code": ["command.completed", "--exit-code", "zero"],
    "huge exit code": ["command.completed", "--exit-code", "9" * 5000],
    "bad duration": ["agent.completed", "--duration-ms", "1.5"],
    "dash": ["-"],
    "dashes": ["--"],
    "single dash": ["agent.invoked", "-r", "dev"],
    "escape": ["\x1b]0;x\x07"],
    "newline": ["agent.invoked\n{}"],
}


def record(place, *args: str, **options: object) -> "subprocess.CompletedProcess[str]":
    """Run `python -m telemetry_kit record`."""
    return place.python("-W", "error", "-m", "telemetry_kit", "record", *args, **options)


def is_silent(done: "subprocess.CompletedProcess[str]") -> bool:
    """Return whether the command exited with 0 and printed nothing."""
    return (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_event(place) -> None:
    """The event is stored with undeclared names as pseudonyms and the source `cli`."""
    assert is_silent(record(place, *VALID))
    (event,) = place.events()

    assert (
        event["event_type"],
        event["role"],
        event["source"],
    ) == ("agent.invoked", "dev", "cli")
    assert place.key.pseudonym("agent", "backend-engineer") == event["agent"]
    assert place.key.pseudonym("command", "/flow:x") == event["command"]


def test_every_option(place) -> None:
    """Each field can be given as an option. Declared names are stored in plain text."""
    (place.root / ".flowspec").mkdir()
    (place.root / ".flowspec/telemetry.toml").write_text(
        "roles = ['x']\nagents = ['x']\ncommands = ['x']\nworkflows = ['x']\n"
    )
    named = [word for flag in FLAGS for word in (flag, "x")]
    given = ["--outcome", "error", "--exit-code", "-3", "--duration-ms", "1234"]

    assert is_silent(record(place, "command.failed", *named, *given))
    (event,) = place.events()
    names = {flag[2:].replace("-", "_"): "x" for flag in FLAGS}
    assert {**names, "outcome": "error", "exit_code": -3, "duration_ms": 1300}.items() <= (
        event.items()
    )


def test_values_that_do_not_fit_are_counted(place) -> None:
    """An empty name, and a number or outcome that is none, are dropped and counted."""
    given = ["--agent", "", "--outcome", "fine", "--exit-code", "many", "--duration-ms", "-1"]

    assert is_silent(record(place, "command.failed", "--role", "dev", *given))
    (event,) = place.events()

    assert (event["role"], event["dropped"]) == ("dev", 4)
    assert not {"agent", "outcome", "exit_code", "duration_ms"} & set(event)


def test_equals_signs(place) -> None:
    """`--role=dev` equals `--role dev`, and a value can contain an equals sign."""
    assert is_silent(record(place, "agent.invoked", "--role=dev", "--agent=a=b"))
    (event,) = place.events()

    assert ("dev", place.key.pseudonym("agent", "a=b")) == (event["role"], event["agent"])


def test_options_before_the_event(place) -> None:
    """Options can be before the event."""
    assert is_silent(record(place, "--role", "dev", "agent.invoked"))
    assert [event["role"] for event in place.events()] == ["dev"]


def test_without_consent(undecided) -> None:
    """Without consent, the command exits with 0, prints nothing and creates no file."""
    assert is_silent(record(undecided, *VALID))
    assert undecided.tree() == []


@pytest.mark.parametrize("variable", ["DO_NOT_TRACK", "CI", "FLOWSPEC_TELEMETRY_DISABLED"])
def test_vetoed(place, variable: str) -> None:
    """Under a veto, the command prints nothing and records no event."""
    assert is_silent(record(place, *VALID, env={variable: "1"}))
    assert place.lines() == []


@pytest.mark.parametrize("kind", INVALID)
def test_invalid_arguments_are_ignored(place, kind: str) -> None:
    """With invalid arguments, the exit code is 0, and each stored line is complete."""
    assert is_silent(record(place, *INVALID[kind]))
    assert all(line.endswith(b"}\n") for line in place.lines())


@pytest.mark.parametrize("kind", INVALID)
def test_strict_reports_invalid_arguments(place, kind: str) -> None:
    """With `--strict`, the exit code is 2, stderr has one sentence, and no event is recorded."""
    done = record(place, "--strict", *INVALID[kind])

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("telemetry-kit record: ")
    assert done.stderr.rstrip("\n").isprintable()
    assert len(done.stderr) < 400
    assert place.lines() == []


def test_strict_suggests_the_closest_event(place) -> None:
    """With `--strict`, the error suggests the closest event."""
    done = record(place, "agent.invokd", "--strict")

    assert "'agent.invoked'" in done.stderr


def test_strict_with_valid_arguments(place) -> None:
    """With `--strict` and valid arguments, the command prints nothing."""
    assert is_silent(record(place, *VALID, "--strict"))
    assert len(place.lines()) == 1


def test_strict_without_consent(undecided) -> None:
    """With `--strict` and without consent, the command prints nothing."""
    assert is_silent(record(undecided, *VALID, "--strict"))


@pytest.mark.parametrize("position", ["before", "after"])
def test_project_and_app(place, position: str) -> None:
    """`--project` and `--app` can be before or after the command."""
    from telemetry_kit import configure

    with configure(app="acme"):
        place.grant()
    options = ["--project", str(place.root), "--app", "acme"]
    before, after = (options, []) if position == "before" else ([], options)
    done = place.python(
        *("-m", "telemetry_kit", *before, "record", "role.selected", *after), cwd=place.root.parent
    )

    assert is_silent(done)
    log = place.root / ".acme/telemetry.jsonl"
    assert [json.loads(line)["event_type"] for line in log.read_bytes().splitlines()] == [
        "role.selected"
    ]
    assert place.lines() == []


def test_the_console_script_is_the_same(place) -> None:
    """The console script records the same event as `python -m telemetry_kit`."""
    done = place.run(
        "import sys\nfrom telemetry_kit.cli import main\nsys.exit(main())", "record", *VALID
    )

    assert is_silent(done)
    assert place.types() == ["agent.invoked"]


def test_help(undecided) -> None:
    """`record --help` explains each option and creates no file."""
    done = record(undecided, "--help")

    assert (done.returncode, done.stderr) == (0, "")
    for flag in (*FLAGS, "--outcome", "--exit-code", "--duration-ms", "--app", "--project"):
        assert f"{flag} " in done.stdout
    assert "--strict" in done.stdout
    assert undecided.tree() == []


@pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
def test_a_log_that_cannot_be_written(place, kind: str) -> None:
    """If the log cannot be written, the command prints nothing."""
    place.log.parent.mkdir()
    if kind == "directory":
        place.log.mkdir()
    elif kind == "fifo":
        os.mkfifo(place.log)
    else:
        place.log.symlink_to(place.root.parent / "outside")

    assert is_silent(record(place, *VALID))
    assert not (place.root.parent / "outside").exists()


@pytest.mark.parametrize("project", ["/nonexistent/deep", "", "\n", "x" * 5000])
def test_a_missing_project(place, project: str) -> None:
    """If the project is missing, the command prints nothing and creates no folder."""
    assert is_silent(record(place, *VALID, "--project", project))
    assert not os.path.exists("/nonexistent")


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are UTF-8 on macOS")
def test_invalid_bytes_in_an_argument(place) -> None:
    """An argument with invalid bytes is not stored in plain text, and no error is printed."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "telemetry_kit",
            "record",
            "agent.invoked",
            "--agent",
            b"secret\xff",
        ],
        env=place.env,
        cwd=place.root,
        capture_output=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert b"secret" not in b"".join(place.lines())


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_closed_streams(place, stream: str) -> None:
    """If a standard stream is closed, the output of the program is not written to the log."""
    number = ("stdin", "stdout", "stderr").index(stream)
    done = subprocess.run(
        [
            "sh",
            "-c",
            f'exec "$@" {number}<&-',
            "sh",
            sys.executable,
            "-m",
            "telemetry_kit",
            "record",
            *VALID,
        ],
        env=place.env,
        cwd=place.root,
        capture_output=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert all(line.startswith(b'{"schema_version"') for line in place.lines())


def test_concurrent_commands(place) -> None:
    """Ten concurrent commands write ten complete lines."""
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "telemetry_kit", "record", *VALID], env=place.env, cwd=place.root
        )
        for _ in range(10)
    ]

    assert [child.wait(timeout=60) for child in children] == [0] * 10
    assert len({event["event_id"] for event in place.events()}) == 10


def test_two_events_with_one_span(place) -> None:
    """`--print-span` prints the span of the start, and `--span` gives it to the end."""
    start = record(place, *VALID, "--print-span")
    span = start.stdout.strip()
    end = record(place, "agent.completed", *VALID[1:], "--span", span, "--outcome", "ok")
    tree = place.python("-m", "telemetry_kit", "view", "--tree", env={"COLUMNS": "100"}).stdout

    assert (start.returncode, start.stderr, start.stdout) == (0, "", f"{span}\n")
    assert is_silent(end)
    assert {span.partition("-")[0]} == {event["span_id"] for event in place.events()}
    assert len(tree.splitlines()) == 2
    assert tree.endswith("  ok\n")
    assert "not ended" not in tree


def test_any_text_is_a_span(place) -> None:
    """A span of another program is stored as the same pseudonym each time. An empty one is none."""
    for word in ("build-42", "build-42", ""):
        assert is_silent(record(place, "agent.invoked", "--span", word))
    forged = record(place, "agent.invoked", "--span", "0123456789ab-0123456789ab", "--print-span")
    spans = [event.get("span_id") for event in place.events()]

    assert spans[0] == spans[1] == place.key.outside_id("parent_id", "build-42")
    assert spans[2] is None
    assert "0123456789ab" not in {spans[3], forged.stdout[:12]}
    found = json.loads(place.python("-m", "telemetry_kit", "find", "build-42", "--json").stdout)
    assert found["as_pseudonym"] == {"span_id": 2}


def test_a_printed_span_is_a_parent(place) -> None:
    """The variable of the parent takes a printed span."""
    span = record(place, "workflow.started", "--print-span").stdout.strip()
    assert is_silent(record(place, *VALID, env={"FLOWSPEC_TELEMETRY_PARENT_ID": span}))
    first, second = place.events()

    assert first["span_id"] == second["parent_id"]


def test_no_span_without_consent(undecided) -> None:
    """Without consent, `--print-span` prints nothing and creates no file."""
    assert is_silent(record(undecided, *VALID, "--print-span"))
    assert undecided.tree() == []


def test_events_without_a_span_claim_nothing(place) -> None:
    """The tree shows each event on its own, neither as ended nor as not ended."""
    record(place, *VALID)
    record(place, "agent.completed", *VALID[1:])
    record(place, "agent.failed", *VALID[1:], "--outcome", "error")
    tree = place.python("-m", "telemetry_kit", "view", "--tree", env={"COLUMNS": "100"}).stdout
    name = place.key.pseudonym("agent", "backend-engineer")

    assert [line[3:] for line in tree.splitlines()[1:]] == [
        f"agent {name}  invoked",
        f"agent {name}  completed",
        f"agent {name}  failed  error",
    ]
