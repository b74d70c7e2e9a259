"""The capacity of a line: the bits of information that its fields can hold.

A field with a domain of `n` values holds `log2(n)` bits, or `log2(n + 1)` if it is optional. The
domain of a name is the names of the vocabulary and the 2^48 pseudonyms. The sum of all fields is
an upper bound, because most fields depend on each other.
"""

from __future__ import annotations

from math import log2

from telemetry_kit.schema import catalog
from telemetry_kit.schema.kinds import ContextValue, kind_of
from telemetry_kit.verification.grammar import ALWAYS
from telemetry_kit.verification.vocabulary import Vocabulary


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
        values = kind_of(row, vocabulary.of_field(row)).size
        if row.kind == catalog.TIME:
            values = max(days, 1) * 86_400 // catalog.RESOLUTIONS[resolution]
        elif row.name == "key_epoch":
            values = max(epoch, 1)
        bits = log2(values + (row.name not in ALWAYS))
        if row.kind == catalog.MAPPING:
            tokens = vocabulary.context.values()
            bits = sum(log2(ContextValue(names, names).size + 1) for names in tokens)
        kind = "pseudonym" if row.kind == catalog.IDENTIFIER else row.kind
        found[kind] = found.get(kind, 0.0) + bits
    found.pop(catalog.CONSTANT)
    found["total"] = sum(found.values())
    return {kind: round(bits, 1) for kind, bits in found.items()}
