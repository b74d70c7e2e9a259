"""Helpers for the tests of the pipeline."""

import re

from telemetry_kit.recording import pipeline

NAMES = ("role", "command", "agent", "workflow", "source_agent", "target_agent")


HASHED = re.compile("h:[0-9a-f]{12}")


def emitted(name: str, **fields: object) -> dict:
    """Send one event through the pipeline, and fail if it is not written."""
    record = pipeline.emit({**fields, "event": name})
    assert record is not None
    return record
