"""The capacity of a line: the bits of information that its fields can hold.

A field with a domain of `n` values holds `log2(n)` bits, or `log2(n + 1)` if it is optional. The
domain of a name is the names of the vocabulary and the 2^48 pseudonyms. The sum of all fields is
an upper bound, because most fields depend on each other.
"""

from __future__ import annotations

from math import log2

from telemetry_kit.schema import catalog
from telemetry_kit.verification.grammar import ALWAYS
from telemetry_kit.verification.vocabulary import Vocabulary

PSEUDONYMS = 2**48
# Signed whole numbers of three significant digits below 10^12, and the same digits with a decimal
# exponent from -324 to 12.
_MEASURES = 2 * (1_000 + 900 * 9) + 2 * 900 * 336


def of(vocabulary: Vocabulary, resolution: str, days: int, epoch: int) -> dict[str, float]:
    """Return the bits of one line, by the class of its fields.

    Args:
        vocabulary: the names that may occur in plain text.
        resolution: the resolution of times.
        days: how many days lines are stored.
        epoch: the epoch of the current key.

    Returns:
        The bits of `random`, `pseudonym`, `token`, `name`, `time`, `measure` and `mapping`
        fields, and their `total`.
    """
    found: dict[str, float] = {}
    for row in catalog.FIELDS.values():
        if row.kind == catalog.MAPPING:
            # A pseudonym, a flag, a measure, a token, or nothing.
            others = PSEUDONYMS + 2 + _MEASURES + 1
            bits = sum(log2(others + len(tokens)) for tokens in vocabulary.context.values())
        else:
            values = _values(row, vocabulary, resolution, days, epoch)
            bits = log2(values + (row.name not in ALWAYS))
        kind = "pseudonym" if row.kind == catalog.IDENTIFIER else row.kind
        found[kind] = found.get(kind, 0.0) + bits
    found.pop(catalog.CONSTANT)
    found["total"] = sum(found.values())
    return {kind: round(bits, 1) for kind, bits in found.items()}


def _values(
    row: catalog.Field, vocabulary: Vocabulary, resolution: str, days: int, epoch: int
) -> int:
    if row.name == "key_epoch":
        return max(epoch, 1)
    if row.name == "duration_ms":
        return 54
    if row.kind == catalog.TIME:
        return max(days, 1) * 86_400 // catalog.RESOLUTIONS[resolution]
    if row.kind == catalog.RANDOM and isinstance(row.domain, int):
        return int(2**row.domain)
    if row.kind == catalog.NAME:
        return PSEUDONYMS + len(vocabulary.names.get(str(row.domain), ()))
    if row.kind == catalog.TOKEN:
        return len(row.domain if isinstance(row.domain, tuple) else vocabulary.errors)
    if row.kind == catalog.MEASURE and isinstance(row.domain, tuple):
        return int(row.domain[1]) - int(row.domain[0]) + 1
    return PSEUDONYMS if row.kind == catalog.IDENTIFIER else 1
