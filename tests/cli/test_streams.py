"""Output that fails, streams that are closed, folders that are not there: documented exit codes."""

import subprocess
import sys

import pytest

COMMAND = f"{sys.executable} -W error -m telemetry_kit"


def shell(place, line: str, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run a line of shell in the project; `$TK` is the command."""
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
def test_a_folder_that_the_stream_cannot_spell(undecided, command: str, encoding: str) -> None:
    """Its name is escaped."""
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
    ],
)
def test_nobody_takes_the_output(undecided, line: str, code: int) -> None:
    """No traceback, nothing that the interpreter has to say at its end."""
    done = shell(undecided, line)

    assert code == done.returncode
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.parametrize("command", ["status", "on --yes", "off", "view", "stats --json", "reset"])
@pytest.mark.parametrize("project", ["nowhere", "a-file", ""])
def test_a_project_that_is_no_folder(undecided, command: str, project: str) -> None:
    """A slip of the pen is a usage error, and decides nothing for the folder above."""
    (undecided.root / "a-file").write_text("")
    before = undecided.tree()
    done = shell(undecided, f"$TK --project '{project}' {command}")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"telemetry-kit: there is no folder {project!r}: see --project. Nothing was changed\n"
    )
    assert before == undecided.tree()


def test_record_in_a_project_that_is_no_folder(place) -> None:
    """It records nothing in the folder above, and says so only when it is strict."""
    done = shell(place, "$TK record agent.invoked --agent x --project nowhere")
    strict = shell(place, "$TK record agent.invoked --agent x --project nowhere --strict")

    assert (done.returncode, done.stderr, place.types()) == (0, "", [])
    assert (strict.returncode, strict.stderr) == (
        2,
        "telemetry-kit record: there is no folder 'nowhere': see --project\n",
    )


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("pyproject.toml", "[tool.telemetry_kit]\nEnabled = false\n", "did you mean enabled?"),
        ("pyproject.toml", "[tool.telemetry_kit]\ndeny = true\n", "unknown setting 'deny'"),
        ("pyproject.toml", "[tool.telemetry-kit]\nenabled = false\n", "write [tool.telemetry_kit]"),
        (".flowspec/telemetry.toml", "ENABLED = false\n", "did you mean enabled?"),
    ],
)
def test_status_points_at_a_veto_that_is_none(place, file: str, text: str, told: str) -> None:
    """A key in other letters denies nothing, and is not passed over."""
    (place.root / ".flowspec").mkdir(exist_ok=True)
    (place.root / file).write_text(text)
    done = shell(place, "$TK status")

    assert done.returncode == 0
    assert told in done.stdout
    assert done.stdout.count("trouble") == 1
