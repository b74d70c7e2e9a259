"""The grammar of a line: a closed schema, and exactly one encoding of each record.

Every byte of an accepted line is settled by the catalog and the vocabulary, or is a bounded
number, a time, or hex digits of fixed length: no free text fits in. Nothing is searched here.
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

ALWAYS = (
    "schema_version",
    "event_id",
    "event_type",
    "timestamp",
    "seq",
    "project_id",
    "source",
    "key_epoch",
)

Pairs = list[tuple[str, Any]]


@dataclass(frozen=True, slots=True)
class Violation:
    """Something in a line that the grammar has no place for.

    Args:
        kind: what is wrong.
        field: the field it is in; empty for the line as a whole.
        text: the offending text, which is shown masked only.
    """

    kind: str
    field: str = ""
    text: str = ""


class Grammar:
    """The grammar for one vocabulary.

    Args:
        vocabulary: names that may stand in clear.
        fields: the rows of the schema, in order.
        always: names of those that every line has.
        resolution: the finest resolution of times that was agreed to.
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
        """The pairs of a line in the order they stand in; None when it is no flat JSON object.

        Args:
            line: without its end.
        """
        try:
            found = _decoder.decode(line.decode("ascii"))
        except (ValueError, RecursionError):
            return None
        return found.pairs if type(found) is _Object else None

    def violations(self, line: bytes) -> list[Violation]:
        """All that keeps a line from being canonical; empty for one that we wrote.

        Args:
            line: without its end.
        """
        if len(line) >= catalog.MAX_LINE_BYTES:
            return [Violation("line too long")]
        pairs = self.parse(line)
        if pairs is None:
            return [Violation("not an event", "", line.decode("utf-8", "replace"))]
        return self.violations_of(pairs, line)

    def violations_of(self, pairs: Pairs, line: bytes) -> list[Violation]:
        """The same for a line that is parsed already."""
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
                    found += self._blame(name, value)
        if not self._always.issubset(name for name, _ in pairs):
            found.append(Violation("missing field"))
        if not found and encode(plain(pairs)) != line + b"\n":
            found.append(Violation("not canonical"))
        return found

    def _blame(self, name: str, value: Any) -> list[Violation]:
        if type(value) is not _Object or self.checks[name] != self._is_context:
            return [Violation("not in its domain", name, _text(value))]
        keys = self.vocabulary.context
        found = [
            Violation("unknown context key", name, key) for key, _ in value.pairs if key not in keys
        ]
        found += [
            Violation("not in its domain", f"{name}.{key}", _text(given))
            for key, given in value.pairs
            if key in keys and not self.context[key].is_canonical(given)
        ]
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
    """The record that parsed pairs stand for."""
    return {k: plain(v.pairs) if type(v) is _Object else v for k, v in pairs}


def _text(value: Any) -> str:
    return value if type(value) is str else "" if value is None else str(value)[:64]


class _Object:
    """A JSON object as its pairs, in order and with what stands twice."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_decoder = json.JSONDecoder(object_pairs_hook=_Object, parse_constant=_refuse)
