"""Fixtures: a project whose user has hooks."""

import pytest

from telemetry_kit import settings
from tests.agents.agents_helpers import Hooks


@pytest.fixture
def hooks(place, monkeypatch: pytest.MonkeyPatch) -> Hooks:
    """Return the hooks of a project with consent, which declares a command and a sub-agent."""
    settings.configure(commands=["/plan"], agents=["reviewer"])
    return Hooks(monkeypatch)
