"""The second project that the tests of recording share."""

from pathlib import Path

import pytest


@pytest.fixture
def other(place) -> Path:
    """A second project of the same user, with consent."""
    from telemetry_kit.consent import changes

    found = place.root.parent / "other"
    (found / "deep/er").mkdir(parents=True)
    (found / ".git").mkdir()
    changes.enable_telemetry(found)
    return found
