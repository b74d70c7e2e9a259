"""Fixtures of the pytest benchmarks: projects whose environment has no variable of pytest."""

from pathlib import Path

import pytest

from benchmarks.place import Place


@pytest.fixture
def undecided(tmp_path: Path) -> Place:
    """A project without a decision of its user."""
    return Place(tmp_path / "undecided")


@pytest.fixture
def recording(tmp_path: Path) -> Place:
    """A project with consent."""
    return Place(tmp_path / "recording", "yes")
