"""The benchmark of the insights: verdicts, the table, and a small run of each group."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.insights import BEGIN, END, PAGE, Row, table, written

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("value", "must", "aim", "least", "verdict"),
    [
        (1.0, 3, 1.5, False, "aim"),
        (2.0, 3, 1.5, False, "must"),
        (3.1, 3, 1.5, False, "MISSED"),
        (9.9, 10, None, True, "MISSED"),
        (10.0, 10, None, True, "must"),
        (5.0, None, None, False, ""),
    ],
)
def test_verdicts(value, must, aim, least, verdict):
    """The median decides. With `least`, a higher value is better."""
    assert verdict == Row("it", [value, 0.0, 99.0], must, aim, least=least).verdict


def test_the_table_is_written_between_the_markers():
    """Only the text between the markers of the page is replaced."""
    page = PAGE.read_text()
    page_with_table = written(page, "| a | b |")

    assert page_with_table.count(BEGIN) == page_with_table.count(END) == 1
    assert f"{BEGIN}\n\n| a | b |\n\n{END}" in page_with_table
    assert written(page_with_table, "| a | b |") == page_with_table
    with pytest.raises(ValueError, match="no place"):
        written("no markers", "")


@pytest.mark.slow
def test_a_small_run():
    """Each group runs and prints its metrics. Without the original, its rows are missing."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.insights", "--quick", "--pairs", "1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    for text in ("view, 2,000 events / bare", "100 new", "throughput", "memory of verify"):
        assert text in done.stdout
    assert "original" not in done.stdout
    assert "MISSED" in table([Row("it", [9.0], 1)])
