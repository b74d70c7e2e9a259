"""`telemetry-kit schema`: the data dictionary, for people and for programs."""

from __future__ import annotations

import json

from telemetry_kit.cli.output import USAGE, CommandError
from telemetry_kit.consent import notice
from telemetry_kit.schema import catalog
from telemetry_kit.schema.kinds import kind_of

FORMATS = ("md", "json", "jsonschema")


def run(project: str | None, form: str) -> None:
    """Print the data dictionary: what may be recorded, and why.

    Raises:
        CommandError: there is no such format.
    """
    if form == "md":
        print(notice.dictionary().rstrip("\n"))
    elif form == "jsonschema":
        print(json.dumps(notice.json_schema(), indent=2))
    elif form == "json":
        print(json.dumps(as_json(), indent=2))
    else:
        raise CommandError(f"--format {form[:20]!r}: use one of {', '.join(FORMATS)}", USAGE)


def as_json() -> dict[str, object]:
    """Return the events and fields of the catalog as data."""
    return {
        "schema_version": catalog.SCHEMA_VERSION,
        "notice": catalog.NOTICE_VERSION,
        "events": [
            {
                "name": e.name,
                "question": e.question,
                "owner": e.owner,
                "completed_by": e.completed,
                "failed_by": e.failed,
                "since_notice": e.since,
            }
            for e in catalog.EVENTS.values()
        ],
        "fields": [
            {
                "name": f.name,
                "class": f.kind,
                "domain": kind_of(f).description,
                "purpose": f.meaning,
                "leaves_the_machine": False,
                "since_notice": f.since,
            }
            for f in catalog.FIELDS.values()
        ],
    }
