"""Places for the pytest benchmarks: a home, a project and an environment without pytest's mark."""

from pathlib import Path

import pytest

from benchmarks.place import Place


@pytest.fixture
def undecided(tmp_path: Path) -> Place:
    """A user who was never asked."""
    return Place(tmp_path / "undecided")


@pytest.fixture
def recording(tmp_path: Path) -> Place:
    """A user who said yes."""
    return Place(tmp_path / "recording", "yes")
