"""The benchmark harness runs, prints its table and writes its results."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_a_quick_run_prints_and_writes_every_figure(tmp_path: Path) -> None:
    """A quick run prints every figure and writes it to a file. The test checks no time."""
    output = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--quick", "--pairs", "2", "--output", str(output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr

    report = json.loads(output.read_text())
    printed = done.stdout.splitlines()

    assert {"date", "python", "platform", "figures"} == set(report)
    assert printed[0].split()[:2] == ["what", "measured"]
    for figure in report["figures"].values():
        assert any(figure["what"] in line for line in printed)
        assert figure["lowest"] <= figure["measured"] <= figure["highest"]
    groups = ("off", "on", "record", "install", "hook", "calls", "events", "naive")
    for group in groups:
        assert any(name.startswith(f"{group}.") for name in report["figures"])
