"""The workflow and the hooks run the same checks as `nox`."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
WORKFLOW = (ROOT / ".github/workflows/checks.yml").read_text("utf-8")
NOX = (ROOT / "noxfile.py").read_text("utf-8")


def test_the_workflow_runs_every_interpreter() -> None:
    """The workflow tests exactly the Python versions that the package supports."""
    said = re.findall(r"Python :: (3\.\d+)", "\n".join(PYPROJECT["project"]["classifiers"]))
    listed = re.search(r"python: \[(.*)\]", WORKFLOW)

    assert listed is not None
    assert said == re.findall(r"3\.\d+", listed[1])


def test_the_workflow_runs_existing_sessions() -> None:
    """The noxfile has every session that the workflow runs."""
    named = {
        session.partition("-")[0].strip('"')
        for line in re.findall(r"nox -s (.*)", WORKFLOW)
        for session in line.split()
    }

    assert {
        "lint",
        "types",
        "tests",
        "package",
        "bench",
        "faults",
        "slow",
        "recording",
        "frameworks",
        "agents",
        "programs",
    } == named
    assert named <= set(re.findall(r"^def (\w+)\(session", NOX, re.MULTILINE))


def test_pre_commit_runs_what_nox_runs() -> None:
    """The hooks call Ruff and mypy like the sessions `lint` and `types`."""
    entries = re.findall(r"entry: (.*)", (ROOT / ".pre-commit-config.yaml").read_text("utf-8"))

    assert [
        "ruff check",
        "ruff format --check",
        "mypy --strict telemetry_kit tests/typing",
    ] == entries
    for call in ('"ruff", "check"', '"ruff", "format", "--check"', '"mypy", "--strict"'):
        assert call in NOX
