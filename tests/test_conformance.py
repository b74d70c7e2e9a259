"""The conformance table is complete."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_our_column_is_complete() -> None:
    """Our library passes every public check, on this interpreter."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.conformance", "--one", "Ours"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    answers = json.loads(done.stdout.splitlines()[-1])

    assert [answer for answer in answers if answer] == []
    assert len(answers) > 40


def test_the_page_matches_the_script() -> None:
    """The documentation's table has a row for each check of the script."""
    page = (ROOT / "docs" / "reference" / "conformance.md").read_text()
    script = (ROOT / "benchmarks" / "conformance.py").read_text()
    total = script.count("\n@check(")

    assert f"**{total} of {total}**" in page
    assert total == sum(line.startswith("| ") and " yes |" in line for line in page.splitlines())
