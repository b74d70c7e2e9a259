"""`telemetry-kit record`: one event from a script; silent, and never in the way."""

import json
import os
import subprocess
import sys

import pytest

GOOD = ["agent.invoked", "--agent", "backend-engineer", "--role", "dev", "--command", "/flow:x"]
FLAGS = ("--role", "--command", "--agent", "--workflow", "--source-agent", "--target-agent")
NONSENSE = {
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


def silent(done: "subprocess.CompletedProcess[str]") -> bool:
    """Whether it exited with 0 and printed nothing."""
    return (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_an_event(place) -> None:
    """The event is on file, with undeclared names as pseudonyms, from the source `cli`."""
    assert silent(record(place, *GOOD))
    (event,) = place.events()

    assert (
        event["event_type"],
        event["role"],
        event["source"],
    ) == ("agent.invoked", "dev", "cli")
    assert place.key.pseudonym("agent", "backend-engineer") == event["agent"]
    assert place.key.pseudonym("command", "/flow:x") == event["command"]


def test_every_option(place) -> None:
    """Every field that can be given arrives; names that the project declares in clear."""
    (place.root / ".flowspec").mkdir()
    (place.root / ".flowspec/telemetry.toml").write_text(
        "roles = ['x']\nagents = ['x']\ncommands = ['x']\nworkflows = ['x']\n"
    )
    named = [word for flag in FLAGS for word in (flag, "x")]
    given = ["--outcome", "error", "--exit-code", "-3", "--duration-ms", "1000"]

    assert silent(record(place, "command.failed", *named, *given))
    (event,) = place.events()
    names = {flag[2:].replace("-", "_"): "x" for flag in FLAGS}
    assert {**names, "outcome": "error", "exit_code": -3, "duration_ms": 1024}.items() <= (
        event.items()
    )


def test_equals_signs(place) -> None:
    """`--role=dev` is `--role dev`; an equals sign in a value stays."""
    assert silent(record(place, "agent.invoked", "--role=dev", "--agent=a=b"))
    (event,) = place.events()

    assert ("dev", place.key.pseudonym("agent", "a=b")) == (event["role"], event["agent"])


def test_options_before_the_event(place) -> None:
    """The order of event and options does not matter."""
    assert silent(record(place, "--role", "dev", "agent.invoked"))
    assert [event["role"] for event in place.events()] == ["dev"]


def test_off(undecided) -> None:
    """Where nobody said yes it exits with 0, prints nothing, and makes nothing."""
    assert silent(record(undecided, *GOOD))
    assert undecided.tree() == []


@pytest.mark.parametrize("variable", ["DO_NOT_TRACK", "CI", "FLOWSPEC_TELEMETRY_DISABLED"])
def test_vetoed(place, variable: str) -> None:
    """A veto keeps the event out, silently."""
    assert silent(record(place, *GOOD, env={variable: "1"}))
    assert place.lines() == []


@pytest.mark.parametrize("kind", NONSENSE)
def test_nonsense_is_silent(place, kind: str) -> None:
    """Whatever the arguments: exit code 0 and not a word; what can be kept may be kept."""
    assert silent(record(place, *NONSENSE[kind]))
    assert all(line.endswith(b"}\n") for line in place.lines())


@pytest.mark.parametrize("kind", NONSENSE)
def test_strict_says_what_is_wrong(place, kind: str) -> None:
    """With `--strict`: exit code 2 and one sentence on stderr; nothing is recorded."""
    done = record(place, "--strict", *NONSENSE[kind])

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("telemetry-kit record: ")
    assert done.stderr.rstrip("\n").isprintable()
    assert len(done.stderr) < 400
    assert place.lines() == []


def test_strict_names_the_nearest_events(place) -> None:
    """A typing mistake is told what was probably meant."""
    done = record(place, "agent.invokd", "--strict")

    assert "'agent.invoked'" in done.stderr


def test_strict_with_good_arguments(place) -> None:
    """With `--strict` and nothing wrong it is as silent as without."""
    assert silent(record(place, *GOOD, "--strict"))
    assert len(place.lines()) == 1


def test_strict_is_about_the_arguments_alone(undecided) -> None:
    """Being off, or a log that cannot be written, is no usage error."""
    assert silent(record(undecided, *GOOD, "--strict"))


@pytest.mark.parametrize("place_of_options", ["before", "after"])
def test_project_and_app(place, place_of_options: str) -> None:
    """`--project` and `--app` may stand before or behind the command."""
    from telemetry_kit import configure

    with configure(app="acme"):
        place.grant()
    options = ["--project", str(place.root), "--app", "acme"]
    before, after = (options, []) if place_of_options == "before" else ([], options)
    done = place.python(
        *("-m", "telemetry_kit", *before, "record", "role.selected", *after), cwd=place.root.parent
    )

    assert silent(done)
    log = place.root / ".acme/telemetry.jsonl"
    assert [json.loads(line)["event_type"] for line in log.read_bytes().splitlines()] == [
        "role.selected"
    ]
    assert place.lines() == []


def test_the_console_script_is_the_same(place) -> None:
    """The function behind `telemetry-kit` does what `python -m telemetry_kit` does."""
    done = place.run(
        "import sys\nfrom telemetry_kit.cli import main\nsys.exit(main())", "record", *GOOD
    )

    assert silent(done)
    assert place.types() == ["agent.invoked"]


def test_help(undecided) -> None:
    """`record --help` explains every option, loads no parser, and makes nothing."""
    done = record(undecided, "--help")

    assert (done.returncode, done.stderr) == (0, "")
    for flag in (*FLAGS, "--outcome", "--exit-code", "--duration-ms", "--app", "--project"):
        assert f"{flag} " in done.stdout
    assert "--strict" in done.stdout
    assert undecided.tree() == []


@pytest.mark.parametrize("kind", ["link", "directory", "fifo"])
def test_something_in_the_way(place, kind: str) -> None:
    """A log that cannot be written is no reason to speak."""
    place.log.parent.mkdir()
    if kind == "directory":
        place.log.mkdir()
    elif kind == "fifo":
        os.mkfifo(place.log)
    else:
        place.log.symlink_to(place.root.parent / "outside")

    assert silent(record(place, *GOOD))
    assert not (place.root.parent / "outside").exists()


@pytest.mark.parametrize("project", ["/nonexistent/deep", "", "\n", "x" * 5000])
def test_no_such_project(place, project: str) -> None:
    """A project that is not there is silent, too, and is not made."""
    assert silent(record(place, *GOOD, "--project", project))
    assert not os.path.exists("/nonexistent")


@pytest.mark.skipif(sys.platform == "darwin", reason="file names are UTF-8 on macOS")
def test_arguments_that_are_no_text(place) -> None:
    """Bytes that are no text, as a shell may hand them over, are silent and never in clear."""
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
    """A stream that the caller closed does not become the log, and nothing is said."""
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
            *GOOD,
        ],
        env=place.env,
        cwd=place.root,
        capture_output=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert all(line.startswith(b'{"schema_version"') for line in place.lines())


def test_many_at_once(place) -> None:
    """Ten hooks at the same moment write ten whole lines."""
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "telemetry_kit", "record", *GOOD], env=place.env, cwd=place.root
        )
        for _ in range(10)
    ]

    assert [child.wait(timeout=60) for child in children] == [0] * 10
    assert len({event["event_id"] for event in place.events()}) == 10
