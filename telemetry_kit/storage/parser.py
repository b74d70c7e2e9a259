"""Parse one line into one event, and recover the events of a damaged line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from datetime import UTC, datetime

from telemetry_kit.schema import catalog
from telemetry_kit.schema.kinds import kind_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

Event = dict[str, "Any"]

_MAX_DEPTH = 16
PREFIX = catalog.LINE_PREFIX.encode()
_VERSIONED = re.compile(rb'\{"schema_version":"(\d+\.\d+)"')


def parse(line: bytes) -> Event | None:
    """Return the event in one line without its newline, or None if the line is no valid event."""
    try:
        found = decoder.decode(line.decode())
    except (ValueError, RecursionError):
        return None
    event = as_event(found)
    return event if event is None or "schema_version" not in event or line.isascii() else None


def as_event(found: Any) -> Event | None:
    """Return the event in a parsed value, or None if the value is no valid event."""
    if type(found) is not dict:
        return None
    if "schema_version" not in found:
        return from_original(found)
    return found if is_event(found) else None


def is_of_another_version(line: bytes) -> bool:
    """Whether a line that `parse` refused starts as one of a later version would."""
    match = _VERSIONED.match(line)
    return match is not None and match[1] != catalog.SCHEMA_VERSION.encode()


def recovered_events(line: bytes) -> Iterator[Event]:
    """Yield the whole events in a damaged line, where a partial line was joined to the next one.

    Every string that this package writes escapes the quotes of the prefix, so the prefix only
    occurs where an event begins. An event with anything but another event after it is refused.
    """
    at = line.find(PREFIX)
    while at >= 0:
        window = line[at : at + catalog.MAX_LINE_BYTES].decode("ascii", "replace")
        end = 0
        try:
            found, end = decoder.raw_decode(window)
        except (ValueError, RecursionError):
            found = None
        behind = line[at + end : at + end + 1 + len(PREFIX)]
        whole = not behind or PREFIX in behind
        if whole and type(found) is dict and is_event(found) and "\ufffd" not in window[:end]:
            yield found
        at = line.find(PREFIX, at + max(end, 1))


def unique_keys(pairs: list[tuple[str, Any]]) -> Event:
    """Return the pairs as a dict, and refuse a key that occurs twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def finite(text: str) -> float:
    """Return a number, and refuse one that is too large."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("too large a number")
    return number


# `int` refuses NaN and Infinity, which Python parses although they are not JSON.
decoder = json.JSONDecoder(object_pairs_hook=unique_keys, parse_float=finite, parse_constant=int)


def is_event(found: Event) -> bool:
    """Whether every field is in the catalog and has a value of its kind."""
    if not found.keys() >= _REQUIRED:
        return False
    for name, value in found.items():
        check = _CHECKS.get(name)
        if check is None or not check(value):
            return False
    return True


_CHECKS = {name: kind_of(field).accepts for name, field in catalog.FIELDS.items()}
_REQUIRED = frozenset({"schema_version", "event_id", "event_type", "timestamp"})
_OURS = frozenset({"event_id", "seq", "project_id", "key_epoch"})


def from_original(found: Event) -> Event | None:
    """Convert a line of the original program, which wrote no schema version."""
    if not _OURS.isdisjoint(found):
        return None  # an event of ours whose version is damaged
    name, when = found.get("event_type"), found.get("timestamp")
    timestamp = as_utc(when) if type(when) is str else None
    if type(name) is not str or name not in catalog.EVENTS or timestamp is None:
        return None
    event: Event = {"event_type": name, "timestamp": timestamp}
    for key in ("role", "command", "agent"):
        value = found.get(key)
        if type(value) is str and value:
            event[key] = value
        elif value is not None and value != "":
            return None
    for key in ("context", "metadata"):
        value = found.get(key)
        if type(value) is dict and value:
            event[key] = value
    return event if is_shallow(event, _MAX_DEPTH) else None


def as_utc(text: str) -> str | None:
    """Return an ISO 8601 time in UTC, which is also assumed if the time has no zone."""
    try:
        when = datetime.fromisoformat(text)
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return when.isoformat().replace("+00:00", "Z")


def is_shallow(value: Any, depth: int) -> bool:
    """Whether a value has at most so many levels of dicts and lists."""
    if type(value) is dict:
        value = list(value.values())
    if type(value) is not list:
        return True
    return depth > 0 and all(is_shallow(item, depth - 1) for item in value)
