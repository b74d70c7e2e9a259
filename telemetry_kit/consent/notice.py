"""The notice, the data dictionary and the JSON Schema, made from the catalog.

It asks nothing and decides nothing. A recording program does not load it.
"""

from __future__ import annotations

import hashlib
import json
import textwrap
import time

from telemetry_kit import settings
from telemetry_kit.consent.app_choice import DEFAULT as DEFAULT_APP
from telemetry_kit.paths import Home
from telemetry_kit.schema import catalog, validation
from telemetry_kit.schema.kinds import ContextValue, kind_of
from telemetry_kit.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WIDTH = 78
MAX_SHOWN = 10
# What the pipeline writes of `agent.completed` for the role `dev` and the agent `me@home`. Consent
# must not depend on the recorder, so this is a constant. A test compares it with the pipeline.
_EXAMPLE = {
    "event_type": "agent.completed",
    "timestamp": "",
    "role": "dev",
    "agent": "h:708093434458",
    "duration_ms": 1024,
}
# A fixed moment, so that the same notice has the same hash on any day.
_EXAMPLE_SECONDS = 1_795_343_430
_PLURALS = {"handoff": "hand-offs"}


def lines(home: Home, now: Settings | None = None, *, everywhere: bool = False) -> list[str]:
    """The notice, as it stands before the question: ASCII, at most 14 lines of 78 characters.

    Args:
        home: where the events would be.
        now: the settings it is about; those in force by default.
        everywhere: ask for all projects instead of this one.
    """
    now = now or settings.current()
    whose = "all projects" if everywhere else "this project"
    place = f".{home.app}/telemetry.jsonl of each project" if everywhere else home.log
    return [
        f"Keep a usage log of {home.app} in {whose}?",
        *_wrapped(
            f"It records which {_kinds()} you use, how they ended, how long they took, and the "
            f"{now.resolution}, so that you can see it:"
        ),
        *textwrap.wrap(example(now), WIDTH - 2, initial_indent="  ", subsequent_indent="  "),
        "Names that the tool declares are kept. All others become codes that only a key",
        "on this computer can make: pseudonyms, which are not anonymity.",
        _own_keys(now),
        "Never: arguments, file names or contents, messages, your name, host or e-mail.",
        f"Kept for {now.retention_days} days, for whoever can read your files, in",
        f"  {_end_of(plain(place))}",
        "It lists your project folders, too. There is no code to send it anywhere.",
        *_wrapped(
            f"{command(home.app)} view shows it, off stops it, clear deletes it; preview shows "
            f"all {len(catalog.EVENTS)} events."
        ),
    ]


def command(app: str) -> str:
    """What to type so that a command is about this app.

    Args:
        app: the app's name.
    """
    return "telemetry-kit" if app == DEFAULT_APP else f"telemetry-kit --app {app}"


def plain(text: str) -> str:
    """`text` in printable ASCII, the rest escaped: a folder may have any name.

    Args:
        text: what to show.
    """
    return "".join(c if c.isascii() and c.isprintable() else _escaped(c) for c in text)


def _escaped(char: str) -> str:
    # In a locale without the letters of a name Python holds its bytes as surrogates.
    is_byte = "\udc80" <= char <= "\udcff"
    return f"\\x{ord(char) - 0xDC00:02x}" if is_byte else ascii(char)[1:-1]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_on_hyphens=False)


def _end_of(path: str) -> str:
    max_width = WIDTH - 2
    return path if len(path) <= max_width else "..." + path[3 - max_width :]


def _kinds() -> str:
    found = dict.fromkeys(name.partition(".")[0] for name in catalog.EVENTS)
    *first, last = (_PLURALS.get(kind, f"{kind}s") for kind in found)
    return f"{', '.join(first)} and {last}"


def _own_keys(now: Settings) -> str:
    """What the tool declares beside the catalog, in one line."""
    begin = "Also keys that the tool declares: "
    if not now.context:
        return f"{begin}codes, numbers, yes/no, words of a list."
    keys = [
        f"{key} ({ContextValue(kind).description})" for key, kind in sorted(now.context.items())
    ]
    for shown in range(len(keys), 0, -1):
        rest = len(keys) - shown
        line = begin + ", ".join(keys[:shown]) + (f" and {rest} more." if rest else ".")
        if len(line) <= WIDTH:
            return line
    return f"{begin}{len(keys)}, as codes, numbers, yes/no, words."


def example(now: Settings | None = None) -> str:
    """One event as it would be stored, as JSON, without the ids.

    Args:
        now: the settings it is about; those in force by default.
    """
    return json.dumps({**_EXAMPLE, "timestamp": _example_time(now or settings.current())})


def _example_time(now: Settings) -> str:
    step = catalog.RESOLUTIONS[now.resolution]
    begin = _EXAMPLE_SECONDS // step * step
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begin))


def difference(app: str, wider: list[str]) -> list[str]:
    """What stands before the question about a widening: at most 14 lines of 78 characters.

    Args:
        app: the app's name.
        wider: what would be recorded only after a new yes, one sentence each.
    """
    sentences = [plain(f"  {sentence}") for sentence in wider]
    shown = [s if len(s) <= WIDTH else f"{s[: WIDTH - 3]}..." for s in sentences[:MAX_SHOWN]]
    rest = len(wider) - len(shown)
    return [
        f"The usage log of {app} could record more than you said yes to:",
        *shown,
        *([f"  and {rest} more"] if rest else []),
        "Until you say yes, it records what it did before.",
    ]


def text_sha256(home: Home, *, everywhere: bool = False) -> str:
    """SHA-256 of the exact notice text, in hex.

    Args:
        home: where the events would be.
        everywhere: of the notice for all projects.
    """
    return sha256_of(lines(home, everywhere=everywhere))


def sha256_of(shown: list[str]) -> str:
    """SHA-256 of lines that were shown, in hex."""
    return hashlib.sha256("\n".join(shown).encode()).hexdigest()


def dictionary_sha256() -> str:
    """SHA-256 of the data dictionary, in hex."""
    return hashlib.sha256(dictionary().encode()).hexdigest()


# An example of each field, as the pipeline writes it.
_EXAMPLES: dict[str, Any] = {
    "schema_version": catalog.SCHEMA_VERSION,
    "event_id": "0bd86deb8c0b6aec",
    "event_type": "role.selected",
    "timestamp": "2026-11-23T00:00:00Z",
    "seq": 0,
    "role": "dev",
    "command": "h:392a6c3d3579",
    "agent": "h:327c71dd068a",
    "workflow": "release",
    "source_agent": "backend-engineer",
    "target_agent": "h:9c1f04e7a2d5",
    "previous_role": "pm",
    "project_id": "h:7ac3f0ae7aea",
    "session_id": "5e8446348487",
    "span_id": "b8d1f3dfee68",
    "parent_id": "0bd86deb8c0b",
    "outcome": "ok",
    "error_type": "ValueError",
    "exit_code": 1,
    "duration_ms": 1024,
    "source": "api",
    "key_epoch": 1,
    "dropped": 2,
    "context": '{"task_id":"h:17a8b1f9548b"}',
}
_SAMPLED = (
    *("schema_version", "event_id", "event_type", "timestamp", "seq", "role", "command", "agent"),
    *("project_id", "outcome", "duration_ms", "source", "key_epoch"),
)


def samples() -> list[dict[str, Any]]:
    """Return one record of each event type, as the pipeline writes it."""
    same = {field: _EXAMPLES[field] for field in _SAMPLED}
    same["timestamp"] = _example_time(settings.current())
    return [
        {**same, "event_id": f"0bd86deb8c0b6a{seq:02x}", "event_type": name, "seq": seq}
        for seq, name in enumerate(catalog.EVENTS)
    ]


def dictionary() -> str:
    """The data dictionary in Markdown: one row for each event and each field."""
    now = settings.current()
    rows = [
        "# What telemetry_kit records",
        "",
        "Generated by `telemetry-kit schema --format md`; do not edit.",
        "",
        f"Schema {catalog.SCHEMA_VERSION}, notice {catalog.NOTICE_VERSION}.",
        "Nothing in these tables leaves the computer: the program contains no network code.",
        "",
        "## Events",
        "",
        "| event | question it answers | owner | since notice |",
        "|---|---|---|---|",
    ]
    rows += [
        f"| `{e.name}` | {e.question} | {e.owner} | {e.since} |" for e in catalog.EVENTS.values()
    ]
    rows += [
        "",
        "## Fields",
        "",
        "| field | class | type and domain | example | purpose | kept | leaves the machine |",
        "|---|---|---|---|---|---|---|",
    ]
    for field in catalog.FIELDS.values():
        shown = _EXAMPLES.get(field.name, "")
        rows.append(
            f"| `{field.name}` | {field.kind} | {kind_of(field).description} | `{shown}` "
            f"| {field.meaning} | {now.retention_days} days | no |"
        )
    for key, kind in sorted(now.context.items()):
        words = kind if isinstance(kind, str) else "one of " + ", ".join(sorted(kind))
        rows.append(f"| `context.{key}` | {words} | | | | {now.retention_days} days | no |")
    return "\n".join(rows) + "\n"


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of one line."""
    now = settings.current()
    errors = now.errors | validation.ERROR_NAMES
    properties = {f.name: kind_of(f, errors).json_schema for f in catalog.FIELDS.values()}
    properties["context"]["properties"] = {
        key: ContextValue(kind).json_schema for key, kind in sorted(now.context.items())
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"telemetry_kit event {catalog.SCHEMA_VERSION}",
        "type": "object",
        "additionalProperties": False,
        "required": ["schema_version", "event_id", "event_type", "timestamp"],
        "properties": properties,
    }
