"""The capacity of a line: the bits that its domains leave open.

A field with a domain of `n` values carries `log2(n)` bits, `log2(n + 1)` where it may be missing.
A line carries the sum. Names are counted as the names of the vocabulary and the 2^48 pseudonyms.
The result is an upper bound, because most fields depend on each other.
"""

from __future__ import annotations

from math import log2

from telemetry_kit.schema import catalog
from telemetry_kit.schema.kinds import ContextValue, kind_of
from telemetry_kit.verification.grammar import ALWAYS
from telemetry_kit.verification.vocabulary import Vocabulary


def of(vocabulary: Vocabulary, resolution: str, days: int, epoch: int) -> dict[str, float]:
    """The bits of one line, by the class of its fields.

    Args:
        vocabulary: names that may stand in clear.
        resolution: that of the times.
        days: how many days lines are kept.
        epoch: the newest key's.

    Returns:
        `random` ids that the library draws, keyed `pseudonym`s, `token`s and `name`s of closed
        lists, `time`, `measure`s, the `mapping` of context, and their `total`.
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
