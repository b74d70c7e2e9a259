"""The notice, the data dictionary and the JSON Schema, generated from the catalog.

It asks nothing and decides nothing. A recording program does not load it.
"""

from __future__ import annotations

import hashlib
import json
import textwrap
import time

from telemetry_kit import settings
from telemetry_kit._runtime import runtime
from telemetry_kit._units import counted
from telemetry_kit.paths import ProjectPaths
from telemetry_kit.schema import catalog, validation
from telemetry_kit.schema.kinds import ContextValue, kind_of
from telemetry_kit.settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WIDTH = 78
MAX_SHOWN = 10
MAX_NAMES = 5
# What the pipeline writes of `agent.completed` for the role `dev` and the agent `me@home`. Consent
# must not depend on the recorder, so this is a constant. A test compares it with the pipeline.
_EXAMPLE = {
    "event_type": "agent.completed",
    "timestamp": "",
    "role": "dev",
    "agent": "h:708093434458",
    "duration_ms": 1100,
}
# A fixed moment, so that the same notice has the same hash on any day.
_EXAMPLE_SECONDS = 1_795_343_430
_PLURALS = {"handoff": "hand-offs"}


def lines(
    paths: ProjectPaths, now: Settings | None = None, *, everywhere: bool = False
) -> list[str]:
    """The notice before the question: ASCII, at most 14 lines of 78 characters.

    Args:
        paths: the project's paths.
        now: the settings; the current ones by default.
        everywhere: ask for all projects instead of this one.
    """
    now = now or settings.current()
    scope = "all projects" if everywhere else paths.scope
    kinds = dict.fromkeys(name.partition(".")[0] for name in catalog.EVENTS)
    *first, last = (_PLURALS.get(kind, f"{kind}s") for kind in kinds)
    log = plain(f".{paths.app}/telemetry.jsonl of each project" if everywhere else paths.log)
    max_width = WIDTH - 2
    kept = counted(now.retention_days, "day")
    return [
        f"Record how you use {paths.app} in {scope}?",
        *_wrapped(
            f"The log shows which {', '.join(first)} and {last} you use, how they end, how long "
            f"they take, and the {now.resolution}. For example:"
        ),
        *textwrap.wrap(example(now), WIDTH - 2, initial_indent="  ", subsequent_indent="  "),
        *_names_lines(paths, now),
        _context_line(now),
        "Never: arguments, file names or contents, messages, your name, host or e-mail.",
        f"Stored for {kept}, readable by anyone who can read your files, in",
        f"  {log if len(log) <= max_width else '...' + log[3 - max_width :]}",
        "A list of your project folders is stored, too. No code sends any of this.",
        *_wrapped(
            f"{runtime.command_line} view shows it, off stops it, clear deletes it, and preview "
            f"shows all {len(catalog.EVENTS)} events."
        ),
    ]


def plain(text: str) -> str:
    """`text` in printable ASCII, with other characters escaped.

    Args:
        text: the name of a file or folder, or other text.
    """
    # Python represents a byte that it cannot decode as a surrogate.
    return "".join(
        c
        if c.isascii() and c.isprintable()
        else f"\\x{ord(c) - 0xDC00:02x}"
        if "\udc80" <= c <= "\udcff"
        else ascii(c)[1:-1]
        for c in text
    )


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_on_hyphens=False)


def _names_lines(paths: ProjectPaths, now: Settings) -> list[str]:
    """The names that are stored in plain text, in two lines: at most five, and their number."""
    settings.generation()  # the names of decorators
    files = settings.names_from_files(paths.naming_files)
    names = [
        plain(name)
        for vocabulary in ("commands", "agents", "workflows", "roles")
        for name in sorted(
            {*now.names[vocabulary], *settings.decorated[vocabulary], *files[vocabulary]}
            - {*settings.ROLES}
        )
    ]
    if not names:
        return [
            "Names that the tool declares are stored in plain text. Other names become",
            "pseudonyms, which are not anonymity. Their key is on this computer.",
        ]
    others = "Other names become pseudonyms, which are not anonymity. Their key is local."
    for shown in range(min(len(names), MAX_NAMES), 0, -1):
        rest = len(names) - shown
        more = f" and {rest:,} more (see preview)" if rest else ""
        line = f"In plain text: {', '.join(names[:shown])}{more}."
        if len(line) <= WIDTH:
            return [line, others]
    count = f"{len(names):,} name{'' if len(names) == 1 else 's'}"
    return [f"In plain text: {count} (see preview).", others]


def _context_line(now: Settings) -> str:
    """The context keys that the tool declares, in one line."""
    begin = "Context that the tool declares: "
    if not now.context:
        return f"{begin}pseudonyms, numbers, yes/no, listed words."
    keys = [
        f"{key} ({ContextValue(kind).description})" for key, kind in sorted(now.context.items())
    ]
    for shown in range(len(keys), 0, -1):
        rest = len(keys) - shown
        line = begin + ", ".join(keys[:shown]) + (f" and {rest} more." if rest else ".")
        if len(line) <= WIDTH:
            return line
    return f"{begin}{len(keys)}: pseudonyms, numbers, yes/no, words."


def example(now: Settings | None = None) -> str:
    """One event as it would be stored, as JSON, without the ids.

    Args:
        now: the settings; the current ones by default.
    """
    return json.dumps({**_EXAMPLE, "timestamp": _example_time(now or settings.current())})


def _example_time(now: Settings) -> str:
    step = catalog.RESOLUTIONS[now.resolution]
    begin = _EXAMPLE_SECONDS // step * step
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(begin))


def difference(app: str, extension: list[str]) -> list[str]:
    """The text before the question about an extended scope: at most 14 lines of 78 characters.

    Args:
        app: the app's name.
        extension: what would be recorded only after another grant, one sentence each.
    """
    sentences = [plain(f"  {sentence}") for sentence in extension]
    shown = [s if len(s) <= WIDTH else f"{s[: WIDTH - 3]}..." for s in sentences[:MAX_SHOWN]]
    rest = len(extension) - len(shown)
    return [
        f"{app} could record more than you granted:",
        *shown,
        *([f"  and {rest} more"] if rest else []),
        "Without another grant, recording continues as before.",
    ]


def text_sha256(paths: ProjectPaths, *, everywhere: bool = False) -> str:
    """SHA-256 of the exact notice text, in hex.

    Args:
        paths: the project's paths.
        everywhere: of the notice for all projects.
    """
    return sha256_of(lines(paths, everywhere=everywhere))


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
    "duration_ms": 1100,
    "source": "api",
    "invoker": "person",
    "app_version": "1.4.2",
    "key_epoch": 1,
    "dropped": 2,
    "context": '{"task_id":"h:17a8b1f9548b"}',
}
# What every event has, and the names of each kind of event; here each name is a pseudonym.
_SAMPLED = (
    *("schema_version", "event_id", "event_type", "timestamp", "seq", "role", "project_id"),
    *("session_id", "source", "invoker", "key_epoch"),
)
_NAMES_OF = {
    "agent": ("agent",),
    "command": ("command",),
    "handoff": ("source_agent", "target_agent"),
    "workflow": ("workflow",),
}
_PSEUDONYMS = {
    "workflow": "h:dcc2e9ebf739",
    "source_agent": "h:6a19ef5db16f",
    "target_agent": "h:0c017f3bdce5",
}


def samples() -> list[dict[str, Any]]:
    """Return one record of each event type, as a session and its decorators write it."""
    return [_sample(name, seq) for seq, name in enumerate(catalog.EVENTS)]


def _sample(name: str, seq: int) -> dict[str, Any]:
    """Return a record with the fields that an event of this type has, and no others."""
    kind, _, phase = name.partition(".")
    values = {
        **_EXAMPLES,
        **_PSEUDONYMS,
        "event_id": f"0bd86deb8c0b6a{seq:02x}",
        "event_type": name,
        "timestamp": _example_time(settings.current()),
        "seq": seq,
        "outcome": "error" if phase == "failed" else "ok",
        "source": "session" if kind == "role" else "decorator",
    }
    fields = {*_SAMPLED, *_NAMES_OF.get(kind, ())}
    fields |= {"previous_role"} if name == "role.changed" else set()
    fields |= {"span_id"} if kind != "role" else set()
    fields |= {"outcome", "duration_ms"} if phase in ("completed", "failed") else set()
    fields |= {"error_type"} if phase == "failed" else set()
    fields |= {"exit_code"} if name == "command.failed" else set()
    return {field: values[field] for field in catalog.ORDER if field in fields}


def dictionary() -> str:
    """The data dictionary in Markdown: one row for each event and each field."""
    now = settings.current()
    rows = [
        "# What telemetry_kit records",
        "",
        f"Generated by `{runtime.program} schema --format md`; do not edit.",
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
            f"| {field.meaning} | {counted(now.retention_days, 'day')} | no |"
        )
    for key, kind in sorted(now.context.items()):
        words = kind if isinstance(kind, str) else "one of " + ", ".join(sorted(kind))
        kept = counted(now.retention_days, "day")
        rows.append(f"| `context.{key}` | {words} | | | | {kept} | no |")
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
