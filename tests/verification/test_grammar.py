"""The grammar accepts exactly the lines that the pipeline writes."""

import itertools
import json
import random

import pytest

from telemetry_kit.schema import catalog
from telemetry_kit.schema.encoding import encode
from telemetry_kit.verification import capacity
from telemetry_kit.verification.fragments import is_torn
from telemetry_kit.verification.grammar import Grammar
from telemetry_kit.verification.vocabulary import Vocabulary

MUTATIONS = 10_000


def test_clean_lines_are_accepted(grammar, make_lines) -> None:
    """2,000 random lines have no violation."""
    found = [violation for line in make_lines(2_000) for violation in grammar.violations(line)]

    assert [] == found


def test_mutated_lines_are_accepted_only_when_canonical(grammar, make_lines) -> None:
    """Of 10,000 lines with changed bytes, the grammar accepts those the pipeline could write."""
    dice = random.Random(6)
    lines = make_lines(200)
    accepted = 0
    for _ in range(MUTATIONS):
        line = bytearray(dice.choice(lines))
        at = dice.randrange(len(line))
        how = dice.randrange(5)
        if how == 0:
            line[at] = dice.randrange(256)
        elif how == 1:
            line.insert(at, dice.randrange(256))
        elif how == 2:
            del line[at]
        elif how == 3:
            line[at : at + 1] = line[at : at + 1] * 2
        else:
            end = min(len(line), at + dice.randrange(1, 20))
            line[at:end] = line[at:end][::-1]
        if grammar.violations(bytes(line)):
            continue
        accepted += 1
        record = json.loads(bytes(line))

        assert bytes(line) + b"\n" == encode(record)
        assert _matches_the_schema(record, grammar.vocabulary)

    # A random id with changed digits is another valid id.
    assert accepted < MUTATIONS / 2


def _matches_the_schema(record: dict, vocabulary: Vocabulary) -> bool:
    """Check independently that each string is in a closed list, hex of its length, or a day."""
    places = [catalog.ORDER.index(name) for name in record]
    names = frozenset().union(*vocabulary.names.values(), vocabulary.errors, vocabulary.versions)
    tokens = {*catalog.EVENTS, *catalog.OUTCOMES, *catalog.SOURCES, *catalog.INVOKERS}
    tokens.add(catalog.SCHEMA_VERSION)
    ok = places == sorted(set(places))
    for name, value in record.items():
        if name == "context":
            ok = ok and set(value) <= set(vocabulary.context)
        elif isinstance(value, str):
            code = value.removeprefix("h:")
            ok = ok and (
                value in names
                or value in tokens
                or (len(code) in (12, 16) and set(code) <= set("0123456789abcdef"))
                or (name == "timestamp" and value[10:] == "T00:00:00Z")
            )
        else:
            ok = ok and type(value) is int
    return ok


BROKEN = {
    "space": lambda s: s.replace(":", ": ", 1),
    "order": lambda s: '{"event_id"' + s[s.index(':"', 20) :],
    "twice": lambda s: s[:-1] + s[s.rindex(",") : -1] + "}",
    "unknown field": lambda s: s[:-1] + ',"note":"x"}',
    "escape": lambda s: s.replace("role.selected", "role.selec\\u0074ed"),
    "solidus": lambda s: s.replace("/dev:build", "\\/dev:build"),
    "number form": lambda s: s.replace('"seq":0', '"seq":0e0'),
    "minus zero": lambda s: s.replace('"seq":0', '"seq":-0'),
    "unknown name": lambda s: s.replace('"dev"', '"zora"'),
    "upper-case hex": lambda s: s.replace("h:0123456789ab", "h:0123456789AB"),
    "long code": lambda s: s.replace("h:0123456789ab", "h:0123456789abc"),
    "finer time": lambda s: s.replace("T00:00:00Z", "T00:00:01Z"),
    "no such day": lambda s: s.replace("2026-11-22", "2026-11-31"),
    "free duration": lambda s: s.replace('"duration_ms":1024', '"duration_ms":1025'),
    "bool for number": lambda s: s.replace('"seq":0', '"seq":true'),
    "garbage behind": lambda s: s + " ",
    "garbage before": lambda s: "\ufeff" + s,
    "null": lambda s: s.replace('"dev"', "null"),
    "unknown context key": lambda s: s.replace('"mode":"fast"', '"mood":"fast"'),
    "unknown context token": lambda s: s.replace('"mode":"fast"', '"mode":"zora"'),
    "free digits": lambda s: s.replace('"size":5', '"size":491511234567'),
    "nested": lambda s: s.replace('"size":5', '"size":{"a":1}'),
    "missing": lambda s: s.replace('"seq":0,', ""),
    "original": lambda s: '{"event_type":"role.selected","role":"zora"}',
    "not JSON": lambda s: "zora was here",
    "empty object": lambda s: "{}",
    "list": lambda s: "[]",
}
LINE = (
    '{"schema_version":"1.0","event_id":"0123456789abcdef","event_type":"role.selected",'
    '"timestamp":"2026-11-22T00:00:00Z","seq":0,"role":"dev","command":"/dev:build",'
    '"project_id":"h:0123456789ab","duration_ms":1024,"source":"api","key_epoch":1,'
    '"context":{"mode":"fast","size":5}}'
)


def test_the_example_is_accepted(grammar) -> None:
    """The line that the next test changes is canonical."""
    assert [] == grammar.violations(bytes(LINE, "utf-8"))


@pytest.mark.parametrize("how", BROKEN.values(), ids=BROKEN)
def test_a_broken_line_is_rejected(grammar, how) -> None:
    """Each other content, and each other encoding of the same content, is a violation."""
    line = how(LINE)

    assert line != LINE
    assert grammar.violations(bytes(line, "utf-8"))


def test_all_records_of_a_tiny_schema() -> None:
    """Of all sequences of up to five tokens, the grammar accepts the records of a tiny schema."""
    fields = (
        catalog.Field("a", catalog.MEASURE, "", (0, 1)),
        catalog.Field("b", catalog.TOKEN, "", ("x", "y")),
    )
    grammar = Grammar(Vocabulary(), fields, always=("a",))
    tokens = ('"a":', '"b":', "0", "1", '"x"', '"y"', ",", " ", "{", "}")
    expected = {f'{{"a":{a}}}' for a in (0, 1)}
    expected |= {f'{{"a":{a},"b":"{b}"}}' for a, b in itertools.product((0, 1), "xy")}
    accepted = set()
    for length in range(6):
        for inside in itertools.product(tokens, repeat=length):
            line = "{" + "".join(inside) + "}"
            if not grammar.violations(bytes(line, "utf-8")):
                accepted.add(line)

    assert expected == accepted


def test_every_beginning_of_a_line_is_torn(grammar, make_lines) -> None:
    """Every beginning of a line is recognised as torn, and none is accepted as a line."""
    missed = [
        line[:end]
        for line in make_lines(60)
        for end in range(1, len(line))
        if not is_torn(line[:end], grammar) or not grammar.violations(line[:end])
    ]

    assert [] == missed


def test_a_fragment_with_other_text(grammar, make_lines) -> None:
    """A fragment with other text at its end is not torn."""
    dice = random.Random(3)
    accepted = []
    for line in make_lines(100):
        cut = line[: dice.randrange(30, len(line))]
        for more in (b"zora", b'"zora', b'"role":"zora', b',"note":"x', b"\xff", b"ZORA Q"):
            if is_torn(cut + more, grammar):
                accepted.append(cut + more)

    assert [] == accepted


def test_capacity_is_counted() -> None:
    """The bits of a line are the logarithms of its domains. Finer times have more bits."""
    names = Vocabulary(names={"roles": frozenset({"dev"})}, errors=frozenset({"other"}))
    day = capacity.of(names, "day", 90, 1)
    second = capacity.of(names, "second", 90, 1)

    assert round(sum(v for k, v in day.items() if k != "total"), 0) == round(day["total"], 0)
    assert 6.5 == day["time"]
    assert 16.4 == round(second["time"] - day["time"], 1)
    assert day["random"] > 64 + 3 * 48 - 1
