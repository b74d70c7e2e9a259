"""Exit codes if the output fails, a stream is closed, or a folder is missing."""

import subprocess
import sys

import pytest

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
