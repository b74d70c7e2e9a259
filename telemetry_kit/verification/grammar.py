"""The grammar of a line: a closed schema, and exactly one encoding of each record.

The catalog and the vocabulary determine every byte of an accepted line, except for bounded
numbers, times, and hex digits of fixed length. No line can hold free text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from telemetry_kit.schema import catalog, validation
from telemetry_kit.schema.encoding import encode
from telemetry_kit.schema.validation import is_day
from telemetry_kit.verification.vocabulary import Vocabulary

PSEUDONYM = re.compile(r"h:[0-9a-f]{12}")
# The fields that every line has.
ALWAYS = (
    *("schema_version", "event_id", "event_type", "timestamp", "seq"),
    *("project_id", "source", "key_epoch"),
)
_TIME = re.compile(r"(\d{4}-\d{2}-\d{2})T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)Z", re.ASCII)

Pairs = list[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Violation:
    """A part of a line that the grammar does not accept.

    Args:
        kind: what is wrong.
        field: the field that holds it; empty for the line as a whole.
        text: the text, which is printed masked only.
    """

    kind: str
    field: str = ""
    text: str = ""


class Grammar:
    """The grammar for one vocabulary.

    Args:
        vocabulary: the names that may occur in plain text.
        fields: the fields of the schema, in order.
        always: the names of the fields that every line has.
        resolution: the finest resolution of times that the user granted.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        fields: Iterable[catalog.Field] = tuple(catalog.FIELDS.values()),
        always: Iterable[str] = ALWAYS,
        resolution: str = "second",
    ) -> None:
        self.vocabulary = vocabulary
        self.fields = tuple(fields)
        self._always = frozenset(always)
        self._place = {row.name: at for at, row in enumerate(self.fields)}
        self._step_seconds = catalog.RESOLUTIONS[resolution]
        self._known_times: dict[str, bool] = {}
        self._checks = {row.name: self._check_of(row) for row in self.fields}

    def parse(self, line: bytes) -> Pairs | None:
        """Return the pairs of a line in their order; None if it is no JSON object.

        Args:
            line: a line without its end.
        """
        try:
            found = _decoder.decode(line.decode("ascii"))
        except (ValueError, RecursionError):
            return None
        return found.pairs if type(found) is _Object else None

    def violations(self, line: bytes) -> list[Violation]:
        """Return everything in a line that the grammar does not accept.

        Args:
            line: a line without its end.
        """
        if len(line) >= catalog.MAX_LINE_BYTES:
            return [Violation("line too long")]
        pairs = self.parse(line)
        if pairs is None:
            return [Violation("not an event", "", line.decode("utf-8", "replace"))]
        return self.violations_of(pairs, line)

    def violations_of(self, pairs: Pairs, line: bytes) -> list[Violation]:
        """Return the violations of a line whose pairs are parsed."""
        found: list[Violation] = []
        last = -1
        for name, value in pairs:
            at = self._place.get(name)
            if at is None:
                found.append(Violation("unknown field", "?", name))
            elif at <= last:
                found.append(Violation("out of order", name))
            else:
                last = at
                if not self._checks[name](value):
                    found += self.blame(name, value)
        if not self._always.issubset(name for name, _ in pairs):
            found.append(Violation("missing field"))
        if not found and encode(plain(pairs)) != line + b"\n":
            found.append(Violation("not canonical"))
        return found

    def fits(self, field: str, value: Any) -> bool:
        """Return whether a field accepts a parsed value."""
        return self._checks[field](value)

    def fits_context(self, key: str, value: Any) -> bool:
        """Return whether a context key of the vocabulary accepts a parsed value."""
        if type(value) is str:
            return is_pseudonym(value) or value in self.vocabulary.context[key]
        if type(value) is bool:
            return True
        return type(value) in (int, float) and validation.measure(value) == value

    def blame(self, name: str, value: Any) -> list[Violation]:
        """Return what is wrong with a value that its field does not accept."""
        if type(value) is not _Object or self._checks[name] != self._is_context:
            return [Violation("not in its domain", name, as_text(value))]
        found = []
        for key, given in value.pairs:
            if key not in self.vocabulary.context:
                found.append(Violation("unknown context key", name, key))
            elif not self.fits_context(key, given):
                found.append(Violation("not in its domain", f"{name}.{key}", as_text(given)))
        return found or [Violation("out of order", name)]

    def _check_of(self, row: catalog.Field) -> Callable[[Any], bool]:
        kind, domain = row.kind, row.domain
        if kind == catalog.CONSTANT:
            return lambda value: type(value) is str and value == domain
        if kind == catalog.TIME:
            return self._is_time
        if kind == catalog.MAPPING:
            return self._is_context
        if kind == catalog.MEASURE and isinstance(domain, tuple):
            return _measure_of(row.name, domain[0], domain[1])
        if kind == catalog.TOKEN:
            tokens = frozenset(domain) if isinstance(domain, tuple) else self.vocabulary.errors
            return lambda value: type(value) is str and value in tokens
        if kind == catalog.NAME:
            names = self.vocabulary.names.get(str(domain), frozenset())
            return lambda value: type(value) is str and (value in names or is_pseudonym(value))
        if kind == catalog.RANDOM and isinstance(domain, int):
            return _random_of(domain // 4)
        return is_pseudonym

    def _is_time(self, value: Any) -> bool:
        if type(value) is not str:
            return False
        known = self._known_times.get(value)
        if known is None:
            match = _TIME.fullmatch(value)
            hours, minutes, seconds = map(int, match.groups()[1:]) if match else (0, 0, 0)
            of_day = hours * 3_600 + minutes * 60 + seconds
            known = match is not None and is_day(match[1]) and of_day % self._step_seconds == 0
            if len(self._known_times) < 10_000:
                self._known_times[value] = known
        return known

    def _is_context(self, value: Any) -> bool:
        if type(value) is not _Object or not 0 < len(value.pairs) <= validation.MAX_CONTEXT_ITEMS:
            return False
        keys = [key for key, _ in value.pairs]
        known = self.vocabulary.context
        return all(a < b for a, b in pairwise(keys)) and all(
            key in known and self.fits_context(key, given) for key, given in value.pairs
        )


def is_pseudonym(value: Any) -> bool:
    """Return whether a value has the form of a pseudonym: `h:` and 12 hex digits."""
    return type(value) is str and PSEUDONYM.fullmatch(value) is not None


def plain(pairs: Pairs) -> dict[str, Any]:
    """Return the record of parsed pairs."""
    return {k: plain(v.pairs) if type(v) is _Object else v for k, v in pairs}


def _measure_of(name: str, lowest: int, highest: int) -> Callable[[Any], bool]:
    if name == "duration_ms":
        return lambda value: (
            type(value) is int and lowest <= value <= highest and value & (value - 1) == 0
        )
    return lambda value: type(value) is int and lowest <= value <= highest


def _random_of(digits: int) -> Callable[[Any], bool]:
    code = re.compile(rf"[0-9a-f]{{{digits}}}")
    return lambda value: type(value) is str and code.fullmatch(value) is not None


def as_text(value: Any) -> str:
    """Return a value as the text of a violation."""
    return value if type(value) is str else "" if value is None else str(value)[:64]


class _Object:
    """A JSON object as its pairs, in order and with repeated keys."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_Object, parse_constant=_refuse)
