"""Shared by the tests of this module."""

import re

from telemetry_kit.recording import pipeline

NAMES = ("role", "command", "agent", "workflow", "source_agent", "target_agent")


HASHED = re.compile("h:[0-9a-f]{12}")


def emitted(name: str, **fields: object) -> dict:
    """One event through the pipeline, which must be written."""
    record = pipeline.emit({**fields, "event": name})
    assert record is not None
    return record
