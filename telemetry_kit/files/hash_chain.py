"""A file of JSON lines, each with the hash of the line before, so that a changed byte shows.

A line is `{"entry": {...}, "previous": ..., "sha256": ...}`. `sha256` is the SHA-256 of the line
without it, and `previous` is the `sha256` of the line before, null in the first line. Lines cut
off at the end show only where another file names the last one.
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
    """One line, parsed.

    Args:
        entry: what it holds; None where the line is no JSON object.
        previous: which line it names as the one before.
        sha256: by which the next line names it: its own, or that of its bytes where it has none.
        is_intact: whether the line is as it was written.
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
    """The line of an entry, without its end.

    Args:
        entry: what it holds.
        previous: the `sha256` of the line before; None for the first line.
    """
    return _sealed({"entry": entry, "previous": previous}, "sha256")


def parse(line: bytes) -> Link:
    """What a line holds, whatever it is.

    Args:
        line: without its end.
    """
    found = _object(line)
    if found is None or found.keys() != _KEYS or not isinstance(found["entry"], dict):
        return Link(found, None, sha256_of(line), is_intact=False)
    is_intact = render(found["entry"], found["previous"]) == line
    return Link(found["entry"], found["previous"], str(found["sha256"]), is_intact)


def follow(lines: Iterable[bytes]) -> Iterator[tuple[Link, bool]]:
    """Each line, parsed, and whether it names the one before.

    A line behind one that is not intact is taken to follow it.

    Args:
        lines: without their ends, from the first.
    """
    before: Link | None = None
    for line in lines:
        link = parse(line)
        named = None if before is None else before.sha256
        yield link, link.previous == named or (before is not None and not before.is_intact)
        before = link


def upgraded(lines: Iterable[bytes], previous: str, sha256: str) -> Iterator[bytes]:
    """Lines of the former form as entries of this one, to the byte; all others as they are.

    A former line held the SHA-256 of the whole line before, and last its own.

    Args:
        lines: without their ends, from the first.
        previous: the former key of the line before.
        sha256: the former key of its own SHA-256.
    """
    before: bytes | None = None
    made: bytes | None = None
    for line in lines:
        entry = _object(line)
        written = line
        if entry is not None and previous in entry and _is_former(entry, line, sha256):
            follows = (entry[previous] or "") == ("" if before is None else sha256_of(before))
            name = None if made is None else parse(made).sha256
            # One that does not follow goes on naming what is gone.
            written = render(entry, name if follows else entry[previous])
        before, made = line, written
        yield written


def _is_former(entry: dict[str, Any], line: bytes, sha256: str) -> bool:
    return _sealed({k: v for k, v in entry.items() if k != sha256}, sha256) == line


def _sealed(body: dict[str, Any], sha256: str) -> bytes:
    """A line that ends with the SHA-256 of what it would be without it."""
    code = sha256_of(json.dumps(body).encode("ascii"))
    return json.dumps({**body, sha256: code}).encode("ascii")


def sha256_of(data: bytes) -> str:
    """64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line, parse_constant=_no_number)
        # What can be read and not written again, a deep one, is none of ours.
        json.dumps(found)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _no_number(text: str) -> None:
    # Python's own NaN and Infinity are no JSON.
    raise ValueError(text)
