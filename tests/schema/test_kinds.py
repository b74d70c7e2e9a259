"""For each kind of field, the checks, the pattern, the JSON Schema and the prefixes agree."""

import json
import re

import jsonschema
import pytest

from telemetry_kit.schema import catalog
from telemetry_kit.schema.kinds import ContextValue, kind_of
from telemetry_kit.schema.validation import two_digits

NAMES = frozenset({"dev", "a b", "wr\u00fcter", "ValueError", "1.4.2"})
VALUES = (
    *(
        "",
        "dev",
        "a b",
        "wr\u00fcter",
        "ok",
        "api",
        "person",
        "1.4.2",
        "1.4.2\n",
        "1.4.2.0.5",
        "1.\u06642",
        "1.0",
        "agent.failed",
        "ValueError",
        "x" * 1024,
    ),
    *(
        "x" * 1024,
        "x" * 1025,
        "h:0123456789ab",
        "h:0123456789aB",
        "0123456789ab",
        "0123456789abcdef",
    ),
    *("0123456789abcde\n", "h:0123456789ab\n", "2026-11-22T00:00:00Z", "2024-02-29T23:59:59Z"),
    *("2026-02-29T00:00:00Z", "0000-01-01T00:00:00Z", "2026-11-22T24:00:00Z"),
    *("2026-11-22 00:00:00Z", "2026-W47-7T00:00:00Z", "2026-11-22T0\u0662:00:00Z"),
    *(0, 1, -1, 3, 1024, 2**31, -(2**31), 2**53, 2**53 + 1, 10**12, 1.5, 1.234, 1e300),
    *(True, False, None),
    *({}, {"a": 1}, {"a": [1]}, {"a": None}, [], [1]),
)
FIELDS = pytest.mark.parametrize("field", catalog.FIELDS.values(), ids=catalog.FIELDS)


def text_of(value: object) -> str:
    """Return the value as compact JSON."""
    return json.dumps(value, separators=(",", ":"))


@FIELDS
def test_a_canonical_value_is_accepted(field) -> None:
    """The reader accepts each value that the recorder can have written."""
    kind = kind_of(field, NAMES)
    canonical = [value for value in VALUES if kind.is_canonical(value)]

    assert [] == [value for value in canonical if not kind.accepts(value)]
    assert canonical or field.kind == catalog.CONSTANT
    assert {"accepts", "pattern", "json_schema", "description"} <= vars(kind).keys()


@pytest.mark.parametrize(
    "field",
    [f for f in catalog.FIELDS.values() if f.kind in (catalog.RANDOM, catalog.IDENTIFIER)],
    ids=lambda field: field.name,
)
def test_the_reader_and_verify_accept_the_same_ids(field) -> None:
    """The reader accepts an id only in the form that `verify` accepts: `h:` or none."""
    kind = kind_of(field)
    digits = [f"{prefix}{'0a' * count}" for prefix in ("", "h:") for count in range(12)]
    accepted = [value for value in digits if kind.accepts(value)]

    assert accepted == [value for value in digits if kind.is_canonical(value)]
    assert [field.kind == catalog.IDENTIFIER] == [value.startswith("h:") for value in accepted]


@FIELDS
def test_the_pattern_matches_nothing_that_is_rejected(field) -> None:
    """The scanner counts no line that the reader would reject."""
    kind = kind_of(field, NAMES)
    found = [v for v in VALUES if re.fullmatch(kind.pattern, text_of(v).encode())]

    assert [] == [value for value in found if not kind.accepts(value)]


@FIELDS
def test_a_canonical_value_fits_the_json_schema(field) -> None:
    """The JSON Schema describes each value that the recorder writes."""
    kind = kind_of(field, NAMES)
    if field.kind == catalog.MAPPING:
        kind.json_schema["properties"] = {"a": ContextValue(catalog.MEASURE).json_schema}
    for value in VALUES:
        if kind.is_canonical(value) and value != {"a": [1]}:
            jsonschema.validate(value, kind.json_schema)


@pytest.mark.parametrize(
    "kind",
    [
        *(kind_of(f, NAMES) for f in catalog.FIELDS.values() if f.kind != catalog.MAPPING),
        ContextValue(NAMES, NAMES),
    ],
    ids=[*(name for name in catalog.FIELDS if name != "context"), "context.key"],
)
def test_the_prefixes_of_a_value(kind) -> None:
    """Each prefix of a canonical value is accepted, and other prefixes are rejected."""
    for value in VALUES:
        if kind.is_canonical(value):
            text = text_of(value)

            assert all(kind.begins(text[:end]) for end in range(len(text)))
    assert not kind.begins("[")
    assert not kind.begins('"?')
    assert not kind.begins("0123abc")


@pytest.mark.parametrize(
    ("declared", "words", "schema"),
    [
        (catalog.IDENTIFIER, "pseudonym", {"type": "string", "pattern": "^h:[0-9a-f]{12}$"}),
        (catalog.MEASURE, "number", {"type": "number"}),
        ("flag", "yes/no", {"type": "boolean"}),
        (frozenset({"b", "a"}), "2 words", {"enum": ["a", "b"]}),
    ],
)
def test_the_class_of_a_context_key(declared, words: str, schema: dict) -> None:
    """The notice and the JSON Schema name the class that the host gave to a key."""
    kind = ContextValue(declared)

    assert (words, schema) == (kind.description, kind.json_schema)


def test_durations():
    """A duration has two digits and zeros, or is a power of two, as earlier versions wrote it."""
    kind = kind_of(catalog.FIELDS["duration_ms"], NAMES)
    written = {two_digits(milliseconds) for milliseconds in range(100_000)}

    assert {n for n in range(1, 100_001) if kind.is_canonical(n)} == written | {
        1 << bits for bits in range(17)
    }
    assert kind.is_canonical(two_digits(catalog.MAX_MEASURE - 1))
    assert not any(map(kind.is_canonical, (0, -1, 1025, 2**53 + 1, 1.0, True, None, "1")))
    assert kind.size == sum(
        map(
            kind.is_canonical,
            {d * 10**z for d in range(100) for z in range(16)} | {1 << b for b in range(60)},
        )
    )
