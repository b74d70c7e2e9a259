"""`telemetry-kit demo` works under every veto and deletes all its files."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import telemetry_kit
from telemetry_kit.cli.commands.demo import PROCESSES

PACKAGE = Path(telemetry_kit.__file__).parent
VETOES = {
    "CI": "true",
    "DO_NOT_TRACK": "1",
    "FLOWSPEC_TELEMETRY_DISABLED": "1",
    "TELEMETRY_KIT_DISABLED": "1",
    "PYTEST_CURRENT_TEST": "here",
    "GITHUB_ACTIONS": "true",
}


@pytest.fixture
def caller(tmp_path):
    """Return a directory and the environment of a user with every veto set."""
    base = Path(os.path.realpath(tmp_path))
    for name in ("home", "tmp", "work"):
        (base / name).mkdir()
    env = {
        "HOME": str(base / "home"),
        "TMPDIR": str(base / "tmp"),
        "PATH": os.environ.get("PATH", os.defpath),
        "PYTHONPATH": str(PACKAGE.parent),
        "COLUMNS": "100",
        **VETOES,
    }
    return base, env


def start(env, cwd, *args):
    """Start the demo."""
    return subprocess.Popen(
        [sys.executable, "-m", "telemetry_kit", "demo", *args],
        env=env,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(env, cwd, *args):
    """Run the demo and return its exit code, stdout and stderr."""
    process = start(env, cwd, *args)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def files_under(base):
    """List all paths under a directory."""
    return sorted(str(path.relative_to(base)) for path in base.rglob("*"))


def test_the_demo_prints_each_process(caller):
    """Each process is printed with its exit code and events, and all files are deleted."""
    base, env = caller
    code, out, err = run(env, "/")
    counts = [int(n) for n in re.findall(r"exit code \d+, (\d+) events? recorded", out)]

    assert (code, err) == (0, "")
    assert counts == [events for _, _, events in PROCESSES]
    assert f"{sum(counts)} events read, {sum(counts)} expected, 0 malformed lines." in out
    assert "REQ-3 is not implemented" in out
    assert "exit code 1, 5 events recorded" in out
    assert "  /qa:test             2          1       1" in out
    assert "  backend-engineer -> quality-guardian        1          1" in out
    assert '{"schema_version":"1.0","event_id":"' in out
    assert "Never: arguments, file names" in out
    assert "It is deleted." in out
    assert files_under(base) == ["home", "tmp", "work"]


def test_in_a_project_of_the_caller(caller):
    """A demo inside another project leaves the settings and the log of that project unchanged."""
    base, env = caller
    folder = base / ".flowspec"
    folder.mkdir()
    (folder / "telemetry.toml").write_text("enabled = false\n")
    code, out, _ = run(env, base / "work")

    assert code == 0, out
    # Each command runs the maintenance of its project, which creates the lock file.
    found = [name for name in files_under(base) if name != ".flowspec/.telemetry.lock"]
    assert found == [".flowspec", ".flowspec/telemetry.toml", "home", "tmp", "work"]


def test_read_only_working_directory(caller):
    """The demo writes nothing to its working directory."""
    base, env = caller
    (base / "work").chmod(0o555)
    code, out, _ = run(env, base / "work")
    (base / "work").chmod(0o755)

    assert code == 0, out
    assert files_under(base) == ["home", "tmp", "work"]


def test_keep(caller):
    """With `--keep`, the folder remains with the log, the consent and the key."""
    base, env = caller
    code, out, _ = run(env, "/", "--keep")
    remaining = files_under(base / "tmp")

    assert code == 0, out
    assert "It is kept" in out
    assert (
        len([name for name in remaining if name.endswith("project/.flowspec/telemetry.jsonl")]) == 1
    )
    assert [name for name in remaining if "/home/.config/telemetry-kit/flowspec/" in name]
    assert files_under(base / "home") == []


def test_needs_only_the_hard_dependencies(caller):
    """The demo and its example run without Typer, Click and rich."""
    base, env = caller
    for name in ("typer", "click", "rich"):
        (base / "work" / f"{name}.py").write_text("raise ImportError(__name__)\n")
    path = os.pathsep.join((str(base / "work"), env["PYTHONPATH"]))
    code, out, err = run({**env, "PYTHONPATH": path}, "/")

    assert (code, err) == (0, ""), out


def test_from_an_installed_package(caller, tmp_path_factory):
    """The demo finds the example inside an installed package."""
    _, env = caller
    site = tmp_path_factory.mktemp("site")
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, site / "telemetry_kit", ignore=ignore)
    inside = site / "telemetry_kit" / "examples"
    if not inside.is_dir():
        shutil.copytree(PACKAGE.parent / "examples", inside, ignore=ignore)
    code, out, _ = run({**env, "PYTHONPATH": str(site)}, "/")

    assert code == 0, out


def test_interrupted(caller):
    """After Ctrl-C the exit code is 130, and all files are deleted."""
    base, env = caller
    process = start(env, "/")
    assert process.stdout is not None
    for line in process.stdout:
        if "exit code" in line:
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)

    assert process.returncode == 130
    assert files_under(base) == ["home", "tmp", "work"]


def test_a_difference_is_a_failure(caller, tmp_path_factory):
    """If a process has an unexpected result, the demo names it and exits with 1."""
    base, env = caller
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(PACKAGE, site / "telemetry_kit", ignore=shutil.ignore_patterns("__pycache__"))
    inside = site / "telemetry_kit" / "examples"
    if not inside.is_dir():
        shutil.copytree(PACKAGE.parent / "examples", inside)
    program = inside / "specflow.py"
    program.write_text(
        program.read_text()
        .replace('role_session("pm"', 'role_session("qa"', 1)
        .replace("raise SystemExit(problem.exit_code)", "raise SystemExit(7)")
    )
    code, _, err = run({**env, "PYTHONPATH": str(site)}, "/")

    assert code == 1
    assert err == (
        "telemetry-kit: the demo has other results than expected: process 3 exited with 7, not 1\n"
    )
    assert files_under(base) == ["home", "tmp", "work"]


def test_no_temporary_folder(caller):
    """If no temporary folder can be created, one sentence reports it."""
    base, env = caller
    folder = base / "work"
    code = (
        "import tempfile, sys\n"
        "def refuse(**_): raise FileNotFoundError(2, 'no usable temporary directory')\n"
        "tempfile.mkdtemp = refuse\n"
        "from telemetry_kit.cli import main\n"
        "sys.exit(main(['demo']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "telemetry-kit: no temporary folder can be created (ENOENT)\n"
