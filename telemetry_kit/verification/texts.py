"""Layers 3 and 4: search free text for this machine's secrets and for patterns of personal data.

The certificate takes the kind and the position of a match, and not the text.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from telemetry_kit.schema import catalog
from telemetry_kit.schema.validation import ERROR_NAMES
from telemetry_kit.verification.certificate import (
    KNOWN,
    PROVENANCE,
    RECOGNISERS,
    Certificate,
    Finding,
    masked,
)
from telemetry_kit.verification.grammar import Grammar
from telemetry_kit.verification.machine_secrets import MIN_CHARS, Secret, WeakHashes
from telemetry_kit.verification.recognisers import recognise
from telemetry_kit.verification.search import Search

_HEX_RUN = re.compile(r"(?<![0-9a-zA-Z])[0-9a-f]{12,128}(?![0-9a-zA-Z])")
_CODE = re.compile(r"h:[0-9a-f]{12}|[0-9a-f]{12}|[0-9a-f]{16}|[0-9T:.Z-]{4,24}")
_SEPARATORS = re.compile(r"[\s,;\t|\"<>{}\[\]()]+")
# There are few different names; the limit bounds memory where there are many.
MAX_REMEMBERED = 50_000
WORDS = frozenset(("h:", "True", "False", catalog.SCHEMA_VERSION)).union(
    *(catalog.FIELDS, catalog.EVENTS, catalog.ROLES, catalog.OUTCOMES, catalog.SOURCES),
    ERROR_NAMES,
)


class Texts:
    """The searches of one run, which add what they find to its certificate.

    Args:
        certificate: takes the findings.
        grammar: the grammar of an event, which names the field of a match.
        search: the search for secrets.
        weak: the weak hashes of the secrets.
        declared: secrets that are words of declared names.
    """

    def __init__(
        self,
        certificate: Certificate,
        grammar: Grammar,
        search: Search,
        weak: WeakHashes,
        declared: Iterable[Secret],
    ) -> None:
        self._certificate = certificate
        self._grammar = grammar
        self._search = search
        self._weak = weak
        self._public = grammar.vocabulary.strings() | WORDS
        self._checked_values: set[str] = set()
        self._declared = Counter(secret.kind for secret in declared)
        self._recognised: Counter[str] = Counter()

    def check_value(self, name: str) -> None:
        """Check a name in plain text once: it is declared, so a match is a note, no finding."""
        if name in self._checked_values:
            return
        if len(self._checked_values) >= MAX_REMEMBERED:
            self._checked_values.clear()
        self._checked_values.add(name)
        if name not in WORDS and len(name) >= MIN_CHARS:
            self._declared.update(secret.kind for secret in self._search.find(name.encode()))
            self._recognised.update(kind for kind, _ in recognise(name))

    def notes(self) -> Iterator[str]:
        """Yield one sentence for each kind of match in declared names."""
        for reason, kinds in (
            ("hold words of this machine", self._declared),
            ("look like personal data", self._recognised),
        ):
            if kinds:
                counts = ", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items()))
                yield f"declared names {reason} ({counts}): no finding"

    def add_secret(self, secret: Secret, file: str, number: int, field: str = "") -> None:
        """Report a secret of this machine."""
        self._certificate.add(Finding(KNOWN, secret.kind, file, number, field, masked(secret.text)))

    def check_number(self, file: str, number: int, field: str, value: int) -> None:
        """Compare a number of a canonical line with secrets that are all digits."""
        secret = self._search.digits.get(str(abs(value)))
        if secret is not None:
            self.add_secret(secret, file, number, field)

    def check_hash(self, file: str, number: int, field: str, digits: str) -> None:
        """Report hex digits that are a weak hash of a secret."""
        secret = self._weak.owner(digits)
        if secret is not None:
            kind = f"a hash without a key, of: {secret.kind}"
            found = Finding(PROVENANCE, kind, file, number, field, masked(secret.text))
            self._certificate.add(found)

    def check_ids(self, file: str, ids: list[tuple[int, str]]) -> None:
        """Report secrets that the hex digits of ids spell, across fields and lines.

        Args:
            file: the name of the file.
            ids: the number and the digits of each line.
        """
        for secret in self._search.find_hex("".join(digits for _, digits in ids)):
            lines = (
                number
                for (number, digits), (_, more) in zip(ids, [*ids[1:], (0, "")], strict=True)
                if secret in self._search.find_hex(digits + more)
            )
            self.add_secret(secret, file, next(lines, 0))

    def check_free(self, file: str, batch: list[tuple[int, bytes]]) -> None:
        """Search free text for secrets, patterns and weak hashes.

        Args:
            file: the name of the file.
            batch: the number and the bytes of each line.
        """
        if not batch:
            return
        blob = b"\n".join(line for _, line in batch)
        found = self._search.find(blob)
        for number, line in batch if found else ():
            here = self._search.find(line) & found
            for secret in here:
                self.add_secret(secret, file, number, self.field_of(line, secret))
            found -= here
        values = [self.values_of(line) for _, line in batch]
        for secret in found | self._search.find_joined(value for row in values for value in row):
            lines = (
                number
                for (number, _), row in zip(batch, values, strict=True)
                if secret in self._search.find_joined(row)
            )
            self.add_secret(secret, file, next(lines, 0))
        text = blob.decode("utf-8", "replace")
        if next(recognise(text), None) is not None:
            for number, line in batch:
                for kind, match in recognise(line.decode("utf-8", "replace")):
                    told = f"looks like: {kind}"
                    self._certificate.add(
                        Finding(RECOGNISERS, told, file, number, "", masked(match))
                    )
        for digits in set(_HEX_RUN.findall(text)):
            self.check_hash(file, 0, "", digits)

    def field_of(self, line: bytes, secret: Secret) -> str:
        """Return the field of the schema that holds a secret; empty if none does."""
        for name, value in self._grammar.parse(line) or ():
            text = str(value).encode("utf-8", "replace")
            if name in catalog.FIELDS and secret in self._search.find(text):
                return name
        return ""

    def values_of(self, line: bytes) -> list[str]:
        """Return the words of a line that are no public words, ids or times."""
        text = line.decode("utf-8", "replace")
        try:
            words = list(strings_of(json.loads(text)))
        except (ValueError, RecursionError):
            words = _SEPARATORS.split(text)
        return [word for word in words if word not in self._public and not _CODE.fullmatch(word)]


def strings_of(value: Any) -> Iterator[str]:
    """Yield the strings in a JSON value, without the keys of its objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from strings_of(part)
