"""Layers 3 and 4: search texts without a grammar for this machine's secrets and for patterns.

A match goes into the certificate as a kind and a position. The text itself is not stored.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from telemetry_kit.schema import catalog
from telemetry_kit.verification import machine_secrets
from telemetry_kit.verification.certificate import (
    KNOWN,
    PROVENANCE,
    RECOGNISERS,
    Certificate,
    Finding,
    masked,
)
from telemetry_kit.verification.encodings import MIN_CHARS
from telemetry_kit.verification.grammar import Grammar
from telemetry_kit.verification.provenance import WeakHashes
from telemetry_kit.verification.recognisers import recognise
from telemetry_kit.verification.search import Search

_HEX_RUN = re.compile(r"(?<![0-9a-zA-Z])[0-9a-f]{12,128}(?![0-9a-zA-Z])")
_PLAIN = re.compile(r"h:[0-9a-f]{12}|[0-9a-f]{12}|[0-9a-f]{16}|[0-9T:.Z-]{1,24}")
_BETWEEN = re.compile(r"[\s,;\t|\"<>{}\[\]()]+")
# Values of one meaning are few: this only keeps memory bounded.
MAX_REMEMBERED = 50_000
WORDS = frozenset(
    {
        *catalog.FIELDS,
        *catalog.EVENTS,
        *catalog.ROLES,
        *catalog.OUTCOMES,
        *catalog.SOURCES,
        *catalog.BUILTIN_ERRORS.values(),
        "other",
        "h:",
        "True",
        "False",
        catalog.SCHEMA_VERSION,
    }
)


class Texts:
    """What is searched, and for what.

    Args:
        certificate: takes the findings.
        grammar: that of an event, to tell in which field something stands.
        search: this machine's secrets.
        weak: hashes of them that need no key.
    """

    def __init__(
        self, certificate: Certificate, grammar: Grammar, search: Search, weak: WeakHashes
    ) -> None:
        self._certificate = certificate
        self._grammar = grammar
        self._search = search
        self._weak = weak
        self._open = grammar.vocabulary.strings() | WORDS
        self._checked_values: set[str] = set()
        self._alike: Counter[str] = Counter()
        self._shaped: Counter[str] = Counter()

    def check_value(self, name: str) -> None:
        """Look at a name of an event, the first time: a declared one is a note, no finding."""
        if name in self._checked_values:
            return
        if len(self._checked_values) >= MAX_REMEMBERED:
            self._checked_values.clear()
        self._checked_values.add(name)
        if name not in WORDS and len(name) >= MIN_CHARS:
            self._alike.update(secret.kind for secret in self._search.find(name.encode()))
            self._shaped.update(kind for kind, _ in recognise(name))

    def notes(self) -> Iterator[str]:
        """What is worth knowing of declared names, one sentence each."""
        alike = self._alike + Counter(secret.kind for secret in self._search.declared)
        if alike:
            yield f"declared names hold words of this machine ({_counted(alike)}): no finding"
        if self._shaped:
            yield f"declared names look like personal data ({_counted(self._shaped)}): no finding"

    def _known(
        self, secret: machine_secrets.Secret, file: str, number: int, field: str = ""
    ) -> None:
        self._certificate.add(Finding(KNOWN, secret.kind, file, number, field, masked(secret.text)))

    def number(self, file: str, number: int, field: str, value: int) -> None:
        """Compare a number of a canonical line with secrets that are all digits."""
        secret = self._search.digits.get(str(abs(value)))
        if secret is not None:
            self._known(secret, file, number, field)

    def spelled(self, file: str, hexes: list[tuple[int, str]]) -> None:
        """Secrets that hex fields spell, over the borders of fields and lines."""
        for secret in self._search.find_hex("".join(digits for _, digits in hexes)):
            where = 0
            for (number, digits), (_, more) in zip(hexes, [*hexes[1:], (0, "")], strict=True):
                if secret in self._search.find_hex(digits + more):
                    where = number
                    break
            self._known(secret, file, where)

    def loose(self, file: str, batch: list[tuple[int, bytes]]) -> None:
        """Lines that are searched in each of `encodings.FORMS`."""
        if not batch:
            return
        blob = b"\n".join(line for _, line in batch)
        found = self._search.find(blob)
        for number, line in batch if found else ():
            for secret in (here := self._search.find(line) & found):
                self._known(secret, file, number, self._field(line, secret))
            found -= here
        values = [self._values(line) for _, line in batch]
        split = self._search.find_joined(value for row in values for value in row)
        for secret in split | found:
            where = next(
                (
                    number
                    for (number, _), row in zip(batch, values, strict=True)
                    if secret in self._search.find_joined(row)
                ),
                0,
            )
            self._known(secret, file, where)
        self._shapes(file, batch, blob)

    def _shapes(self, file: str, batch: list[tuple[int, bytes]], blob: bytes) -> None:
        text = blob.decode("utf-8", "replace")
        if next(recognise(text), None) is not None:
            for number, line in batch:
                for kind, shape in recognise(line.decode("utf-8", "replace")):
                    self._certificate.add(
                        Finding(RECOGNISERS, f"looks like: {kind}", file, number, "", masked(shape))
                    )
        for code in set(_HEX_RUN.findall(text)):
            secret = self._weak.made(code)
            if secret is not None:
                kind = f"a hash without a key, of: {secret.kind}"
                self._certificate.add(Finding(PROVENANCE, kind, file, 0, "", masked(secret.text)))

    def _field(self, line: bytes, secret: machine_secrets.Secret) -> str:
        """The field of the schema that a secret stands in, if it is in one."""
        for name, value in self._grammar.parse(line) or ():
            if name in catalog.FIELDS and secret in self._search.find(
                str(value).encode("utf-8", "replace")
            ):
                return name
        return ""

    def _values(self, line: bytes) -> list[str]:
        """What a line says besides words of the schema, names of the vocabulary, ids and times."""
        text = line.decode("utf-8", "replace")
        try:
            words = list(_strings(json.loads(text)))
        except (ValueError, RecursionError):
            words = _BETWEEN.split(text)
        return [
            word
            for word in words
            if word not in self._open and not (len(word) > 3 and _PLAIN.fullmatch(word))
        ]


def _counted(kinds: Counter[str]) -> str:
    return ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items()))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _strings(part)
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)
