"""A file of JSON lines in which each line has the hash of the line before.

A line is `{"entry": {...}, "previous": ..., "sha256": ...}`. `sha256` is the SHA-256 of the line
without that key. `previous` is the `sha256` of the line before, and null in the first line. So a
changed byte is detected. Lines that were cut off at the end are detected only if another file
names the last line.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_KEYS = {"entry", "previous", "sha256"}


class Link:
    """One parsed line.

    Args:
        entry: its entry, or None if the line is not a JSON object.
        previous: the hash that it names as that of the line before.
        sha256: the hash by which the next line names it: its own, or that of its bytes if it
            has none.
        is_intact: whether the line is unchanged.
    """

    __slots__ = ("entry", "is_intact", "previous", "sha256")

    def __init__(
        self, entry: dict[str, Any] | None, previous: str | None, sha256: str, is_intact: bool
    ) -> None:
        self.entry = entry
        self.previous = previous
        self.sha256 = sha256
        self.is_intact = is_intact


def render(entry: dict[str, Any], previous: str | None) -> bytes:
    """Return the line of an entry without a newline; `previous` is None for the first line."""
    return add_hash({"entry": entry, "previous": previous}, "sha256")


def parse(line: bytes) -> Link:
    """Parse a line of any content, given without its newline."""
    found = json_object(line)
    if found is None or found.keys() != _KEYS or not isinstance(found["entry"], dict):
        return Link(found, None, hashlib.sha256(line).hexdigest(), is_intact=False)
    is_intact = render(found["entry"], found["previous"]) == line
    return Link(found["entry"], found["previous"], str(found["sha256"]), is_intact)


def follow(lines: Iterable[bytes]) -> Iterator[tuple[Link, bool]]:
    """Parse each line, and check whether it names the line before.

    A line after a changed one is accepted, because the hash of that one is unknown.

    Args:
        lines: all lines, without their newlines.
    """
    expected: str | None = None
    is_known = True
    for line in lines:
        link = parse(line)
        yield link, link.previous == expected or not is_known
        expected, is_known = link.sha256, link.is_intact


def upgraded(lines: Iterable[bytes], previous: str, sha256: str) -> Iterator[bytes]:
    """Convert lines of the former format, byte by byte the same each time; leave other lines.

    A line of the former format has the SHA-256 of the whole line before. Its last key is its own
    SHA-256.

    Args:
        lines: all lines, without their newlines.
        previous: the former key for the hash of the line before.
        sha256: the former key for the hash of the line itself.
    """
    hash_before = ""
    written_before: bytes | None = None
    for line in lines:
        entry = json_object(line)
        written = line
        if entry is not None and previous in entry:
            without_hash = {key: value for key, value in entry.items() if key != sha256}
            if add_hash(without_hash, sha256) == line:
                follows = (entry[previous] or "") == hash_before
                name = None if written_before is None else parse(written_before).sha256
                # A line that does not follow still names the missing line.
                written = render(entry, name if follows else entry[previous])
        hash_before, written_before = hashlib.sha256(line).hexdigest(), written
        yield written


def add_hash(body: dict[str, Any], key: str) -> bytes:
    """Return a JSON line of `body`, and last, under `key`, its SHA-256."""
    digest = hashlib.sha256(json.dumps(body).encode("ascii")).hexdigest()
    return json.dumps({**body, key: digest}).encode("ascii")


def json_object(line: bytes) -> dict[str, Any] | None:
    """Parse a JSON object, or return None."""
    try:
        # `int` refuses NaN and Infinity, which Python parses although they are not JSON.
        found = json.loads(line, parse_constant=int)
        # A deeply nested object can be parsed but not written, so this package did not write it.
        json.dumps(found)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
