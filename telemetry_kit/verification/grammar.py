"""The grammar of a line: a closed schema, and exactly one encoding of each record.

The catalog and the vocabulary determine every byte of an accepted line, except for bounded
numbers, times, and hex digits of fixed length. No line can hold free text.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from telemetry_kit.schema import catalog, validation
from telemetry_kit.schema.encoding import encode
from telemetry_kit.schema.kinds import ContextValue, kind_of, seconds_of_day
from telemetry_kit.verification.vocabulary import Vocabulary

# The fields that every line has.
ALWAYS = (
    *("schema_version", "event_id", "event_type", "timestamp", "seq"),
    *("project_id", "source", "key_epoch"),
)

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
        self.kinds = {row.name: kind_of(row, vocabulary.of_field(row)) for row in self.fields}
        self.context = {k: ContextValue(v, v) for k, v in vocabulary.context.items()}
        self.checks = {row.name: self._check_of(row) for row in self.fields}

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
                if not self.checks[name](value):
                    found += self.blame(name, value)
        if not self._always.issubset(name for name, _ in pairs):
            found.append(Violation("missing field"))
        if not found and encode(plain(pairs)) != line + b"\n":
            found.append(Violation("not canonical"))
        return found

    def blame(self, name: str, value: Any) -> list[Violation]:
        """Return what is wrong with a value that its field does not accept."""
        if type(value) is not _Object or self.checks[name] != self._is_context:
            return [Violation("not in its domain", name, as_text(value))]
        found = []
        for key, given in value.pairs:
            if key not in self.context:
                found.append(Violation("unknown context key", name, key))
            elif not self.context[key].is_canonical(given):
                found.append(Violation("not in its domain", f"{name}.{key}", as_text(given)))
        return found or [Violation("out of order", name)]

    def _check_of(self, row: catalog.Field) -> Callable[[Any], bool]:
        if row.kind == catalog.TIME:
            return self._is_time
        if row.kind == catalog.MAPPING:
            return self._is_context
        return self.kinds[row.name].is_canonical

    def _is_time(self, value: Any) -> bool:
        seconds = seconds_of_day(value)
        return seconds is not None and seconds % self._step_seconds == 0

    def _is_context(self, value: Any) -> bool:
        if type(value) is not _Object or not 0 < len(value.pairs) <= validation.MAX_CONTEXT_ITEMS:
            return False
        keys = [key for key, _ in value.pairs]
        known = self.vocabulary.context
        return all(a < b for a, b in pairwise(keys)) and all(
            key in known and self.context[key].is_canonical(given) for key, given in value.pairs
        )


def plain(pairs: Pairs) -> dict[str, Any]:
    """Return the record of parsed pairs."""
    return {k: plain(v.pairs) if type(v) is _Object else v for k, v in pairs}


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
