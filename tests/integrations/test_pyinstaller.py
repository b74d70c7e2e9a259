"""Frozen programs: the PyInstaller hook, and commands that start child processes."""

import ast
import importlib
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from telemetry_kit.cli import child_process

ROOT = Path(__file__).parents[2]
FROZEN = "import sys; sys.frozen = True; from telemetry_kit.cli import main; sys.exit(main({}))"


def test_the_entry_point_names_the_folder_of_the_hook() -> None:
    """The entry point returns the folder with the hook file."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    module, _, name = points["pyinstaller40"]["hook-dirs"].partition(":")
    (folder,) = getattr(importlib.import_module(module), name)()

    assert ["hook-telemetry_kit.py"] == [path.name for path in Path(folder).glob("hook-*.py")]


def test_only_the_hook_imports_pyinstaller(undecided) -> None:
    """The entry point loads no module of PyInstaller."""
    done = undecided.run(
        "import sys, telemetry_kit.integrations.pyinstaller.hook_dirs as h; h.get_hook_dirs();"
        "print([m for m in sys.modules if m.lower().startswith('pyinstaller')])"
    )

    assert (0, "[]\n") == (done.returncode, done.stdout), done.stderr


def test_the_hook_includes_the_files_of_the_demo() -> None:
    """The hook and the demo name the same files."""
    from telemetry_kit.cli.commands import demo

    (hook,) = (ROOT / "telemetry_kit/integrations/pyinstaller").glob("hook-*.py")
    (named,) = (
        ast.literal_eval(node.value)
        for node in ast.parse(hook.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "EXAMPLE"
    )

    assert (demo.PROGRAM, demo.SPEC) == named


# -- without a Python executable -----------------------------------------------------------------


def test_the_demo_forks_in_a_frozen_program(undecided) -> None:
    """In a frozen program, `sys.executable` is the program. The demo does not start it."""
    (undecided.root / "never").write_text("#!/bin/sh\necho started >&2; exit 9\n")
    (undecided.root / "never").chmod(0o755)
    code = FROZEN.replace("import sys;", "import sys; sys.executable = './never';")
    done = undecided.python("-c", code.format(["demo"]), timeout=300)

    assert (0, "") == (done.returncode, done.stderr), done.stdout
    assert "45 events read, 45 expected, 0 malformed lines." in done.stdout


def test_the_selftest_forks_in_a_frozen_program(undecided) -> None:
    """The forked child starts without the settings and the open log of its parent."""
    done = undecided.python("-c", FROZEN.format(["--app", "acme", "selftest", "--json"]))
    report = json.loads(done.stdout)

    assert (0, True, 1_000) == (done.returncode, report["passed"], report["events"]), done.stderr
    assert "project/.acme/telemetry.jsonl" in report["files"]


# A pytest-xdist worker has threads, and Python 3.12 and later warn about a fork with threads.
FORKS = pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")


def run_child(monkeypatch, tmp_path: Path, frozen: bool, *args: str, **options):
    """Run a child process, and return its exit code and output."""
    if frozen:
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    env = {"PATH": os.defpath, "HERE": "yes", "PYTHONIOENCODING": "utf-8"}
    return child_process.run_python(args, cwd=str(tmp_path), env=env, **options)


@FORKS
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    ("program", "code", "output"),
    [
        ("import sys; print(sys.argv[1:], __name__)", 0, "['a', 'b'] __main__\n"),
        ("import os; print(os.environ['HERE'], 'HOME' in os.environ)", 0, "yes False\n"),
        ("import os; print(os.path.basename(os.getcwd()), input.__name__)", 0, "{cwd} input\n"),
        ("import sys; print(repr(sys.stdin.read()))", 0, "''\n"),
        ("import sys; sys.stderr.write('\\u00e9'); sys.exit(3)", 3, "é"),
        ("import sys; sys.exit('no')", 1, "no\n"),
        ("import sys; sys.exit(None)", 0, ""),
        ("import os; os.write(1, b'raw'); os.kill(os.getpid(), 9)", -9, "raw"),
    ],
)
def test_a_child_is_the_same_frozen_or_not(
    monkeypatch, tmp_path, frozen, program: str, code: int, output: str
) -> None:
    """Frozen or not, a child has the same arguments, environment, folder, streams and exit code."""
    (tmp_path / "program.py").write_text(program)
    done = run_child(monkeypatch, tmp_path, frozen, "program.py", "a", "b")

    expected = output.format(cwd=tmp_path.name).encode()
    assert (code, expected) == (done.returncode, done.stdout)


@FORKS
@pytest.mark.parametrize("frozen", [False, True])
def test_a_child_that_raises_prints_a_traceback(monkeypatch, tmp_path, frozen: bool) -> None:
    """If a child raises, its exit code is 1 and it prints a traceback."""
    (tmp_path / "program.py").write_text("raise ValueError('a reason')")
    done = run_child(monkeypatch, tmp_path, frozen, "program.py")

    assert 1 == done.returncode
    assert b"ValueError: a reason" in done.stdout


@FORKS
@pytest.mark.parametrize("frozen", [False, True])
def test_a_child_that_hangs_is_killed(monkeypatch, tmp_path, frozen: bool) -> None:
    """After its time limit, a child is killed and counts as failed."""
    (tmp_path / "program.py").write_text("import time; time.sleep(60)")
    try:
        done = run_child(monkeypatch, tmp_path, frozen, "program.py", timeout_seconds=1)
    except subprocess.TimeoutExpired:
        done = CompletedProcess([], -1)

    assert done.returncode < 0


# -- a real frozen program -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    """Freeze the program of the Typer how-to with PyInstaller."""
    pytest.importorskip("PyInstaller")
    base = tmp_path_factory.mktemp("frozen")
    page = (ROOT / "docs/how-to/typer.md").read_text()
    source = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[0]
    (base / "acme.py").write_text(source)
    from telemetry_kit.integrations.pyinstaller.hook_dirs import get_hook_dirs

    # PyInstaller finds the entry point only in an installed package, and not in a checkout.
    hooks = [word for folder in get_hook_dirs() for word in ("--additional-hooks-dir", folder)]
    words = ["--noconfirm", "--log-level", "ERROR", "--exclude-module", "duckdb", *hooks]
    done = subprocess.run(
        [sys.executable, "-m", "PyInstaller", *words, "acme.py"],
        cwd=base,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYINSTALLER_CONFIG_DIR": str(base / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    return base / "dist" / "acme" / "acme"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="nothing is recorded there")
def test_a_frozen_program_records_and_has_every_command(program: Path, undecided) -> None:
    """In a frozen program, consent, recording and every command work."""
    env = {"HOME": str(undecided.user), "PATH": os.defpath, "COLUMNS": "100"}

    def run(line: str) -> str:
        done = subprocess.run(
            [program, *line.split()],
            cwd=undecided.root,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert 0 == done.returncode, (line, done.stdout, done.stderr)
        return done.stdout

    assert "built x\n" == run("build x")
    assert [] == undecided.tree()
    run("telemetry enable --yes")
    assert "built x\n" == run("build x")
    assert ["command.executed", "command.completed"] == [
        json.loads(line)["event_type"]
        for line in (undecided.root / ".acme/telemetry.jsonl").read_text().splitlines()
    ]
    assert "build" in run("telemetry view")
    assert "build" in run("telemetry stats")
    assert "PASSED" in run("telemetry verify")
    assert "bad" not in run("telemetry doctor")
    assert "45 events read, 45 expected" in run("telemetry demo")
    assert "PASSED: 1,000 of 1,000" in run("telemetry selftest")
    for line in ("status", "answers", "preview", "schema", "audit", "export --format json"):
        assert run(f"telemetry {line}")
    run("telemetry reset --yes")
    assert "built x\n" == run("build x")
    assert not (undecided.root / ".acme/telemetry.jsonl").exists()
