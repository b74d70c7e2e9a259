"""Helpers of the tests of the history of decisions."""

import os
from pathlib import Path

from telemetry_kit.consent import history as consent_history


def history_dir(place) -> str:
    """Return the directory of the project's consent record and history."""
    return os.path.dirname(place.record)


def history_file(place) -> Path:
    """Return the path of the project's history."""
    return place.record.with_name(consent_history.HISTORY)


def audit(place, *args: str):
    """Run the command `audit` in the project."""
    return place.python("-m", "telemetry_kit", "audit", *args)
