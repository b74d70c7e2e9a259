"""Parse one line into one event, and recover the events in a damaged line.

It reads no files and raises nothing.
"""

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
    """The event in one line without its end; None when there is none that can be trusted."""
    try:
        found = _decoder.decode(line.decode())
    except (ValueError, RecursionError):
        return None
    if type(found) is not dict:
        return None
    if "schema_version" not in found:
        return _from_the_original(found)
    return found if line.isascii() and _fits(found) else None


def is_of_another_version(line: bytes) -> bool:
    """Whether a line that `parse` did not accept begins as one of a later version would."""
    match = _VERSIONED.match(line)
    return match is not None and match[1] != catalog.SCHEMA_VERSION.encode()


def resynchronised(line: bytes) -> Iterator[Event]:
    """Whole events inside a damaged line: a torn one may have been glued to the next.

    The quotes of the prefix are escaped inside every string we write, so it can only stand where
    an event begins. An event that is followed by anything but the next one is not trusted.
    """
    at = line.find(PREFIX)
    while at >= 0:
        window = line[at : at + catalog.MAX_LINE_BYTES].decode("ascii", "replace")
        end = 0
        try:
            found, end = _decoder.raw_decode(window)
        except (ValueError, RecursionError):
            found = None
        behind = line[at + end : at + end + 1 + len(PREFIX)]
        whole = not behind or PREFIX in behind
        if whole and type(found) is dict and _fits(found) and "\ufffd" not in window[:end]:
            yield found
        at = line.find(PREFIX, at + max(end, 1))


def _object(pairs: list[tuple[str, Any]]) -> Event:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("too large a number")
    return number


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_constant=_refuse)


# -- what an event is ------------------------------------------------------------------------


def _fits(found: Event) -> bool:
    """Whether every field is one of the catalog, with a value that its class allows."""
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


def _from_the_original(found: Event) -> Event | None:
    """A line of the seed's original in the shape of ours, as far as it goes."""
    if not _OURS.isdisjoint(found):
        return None  # one of ours whose version is damaged
    name, when = found.get("event_type"), found.get("timestamp")
    timestamp = _utc(when) if type(when) is str else None
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
    return event if _is_shallow(event, _MAX_DEPTH) else None


def _utc(text: str) -> str | None:
    """A time in ISO 8601 as UTC, which it is taken for when it names no zone."""
    try:
        when = datetime.fromisoformat(text)
        when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return when.isoformat().replace("+00:00", "Z")


def _is_shallow(value: Any, depth: int) -> bool:
    if type(value) is dict:
        value = list(value.values())
    if type(value) is not list:
        return True
    return depth > 0 and all(_is_shallow(item, depth - 1) for item in value)
