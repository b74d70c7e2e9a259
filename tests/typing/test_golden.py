"""The golden file means the same to mypy --strict and to pyright."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

GOLDEN = Path(__file__).with_name("golden.py")
ROOT = GOLDEN.parents[2]


def check(*command: str) -> "subprocess.CompletedProcess[str]":
    """Run a checker over the golden file, with the project's own settings."""
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed")
def test_mypy(tmp_path: Path) -> None:
    """Every type is as told, and every marked mistake is one."""
    done = check("mypy", "--strict", f"--cache-dir={tmp_path}", str(GOLDEN))

    assert (0, "") == (done.returncode, done.stdout * done.returncode + done.stderr)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("pyright") is None, reason="pyright is not installed")
def test_pyright() -> None:
    """The same for the other checker."""
    done = check("pyright", "--pythonpath", sys.executable, str(GOLDEN))

    assert (0, "") == (done.returncode, done.stdout * done.returncode)
