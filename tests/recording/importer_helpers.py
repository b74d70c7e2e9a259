"""Helpers of the tests of the core of an import, on the day of the tests' clock."""

from datetime import UTC, datetime, timedelta

from telemetry_kit.recording.importer import Importer
from telemetry_kit.schema import catalog
from telemetry_kit.storage import reader
from tests.conftest import NOW


def day(back: int) -> str:
    """Return the day so many days before that of the tests, in UTC."""
    return f"{datetime.fromtimestamp(NOW, UTC) - timedelta(days=back):%Y-%m-%d}"


def entry(back: int, **fields) -> dict:
    """Return an event without an ID, from so many days ago."""
    return {"event_type": "role.selected", "timestamp": f"{day(back)}T00:20:30Z", **fields}


def own(place, number: int, **fields) -> dict:
    """Return an event as an export of this project would have it, with this number."""
    facts = {"project_id": place.key.project_id(place.home), "key_epoch": place.key.epoch}
    versions = {"schema_version": catalog.SCHEMA_VERSION, "event_id": f"{number:016x}"}
    return {**versions, **entry(3), "seq": number, **facts, **fields}


def take(*events: dict) -> Importer:
    """Import events into the project of the working directory."""
    found = Importer()
    for event in events:
        found.add(event)
    found.write()
    return found


def imported(place) -> list[dict]:
    """Return the stored events of a project that were imported, in order."""
    return [event for event in reader.read(place.home) if event.get("source") == "import"]
