"""The day, the administrator and the decided project that the tests of consent share."""

from pathlib import Path

import pytest

from telemetry_kit import disable_telemetry, enable_telemetry
from telemetry_kit.consent import cache
from telemetry_kit.consent import decision as consent_decision
from tests.consent.policy_helpers import DAY, Administered


@pytest.fixture
def fixed_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fix the day of decisions to the day on which the tables of a file were made."""
    monkeypatch.setattr(consent_decision, "today", lambda: DAY)


@pytest.fixture
def administered(place, tmp_path):
    """A project with consent, and a path for the file of the administrator."""
    home = place.home
    found = Administered(home.app, home.root, home.config, home.state)
    Administered.system_file = str(tmp_path / "telemetry.conf")
    yield found, Path(Administered.system_file), place.environ
    Administered.system_file = ""


@pytest.fixture
def decided(place):
    """A project with a grant, a denial and a grant, at the time of the real clock."""
    with cache.override_runtime(place.environ):
        disable_telemetry(method="flag")
        enable_telemetry(method="prompt")
    return place
