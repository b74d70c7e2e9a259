"""Shared by the tests of this module."""

import os
from pathlib import Path

from telemetry_kit.consent import history as consent_history


def folder(place) -> str:
    return os.path.dirname(place.record)


def file(place) -> Path:
    return place.record.with_name(consent_history.HISTORY)


def audit(place, *args: str):
    return place.python("-m", "telemetry_kit", "audit", *args)
