"""Counts, shares, sizes and durations as people write them."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import telemetry_kit
from telemetry_kit._units import counted, dates, in_bytes, percent, shares, span
from telemetry_kit.insights.metrics import rate


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 entries"), (1, "1 entry"), (2_371, "2,371 entries")]
)
def test_counts(count, expected):
    """A noun agrees with its count, and a large count has separators."""
    assert expected == counted(count, "entry", "entries")
    assert counted(count, "event") == f"{expected.split()[0]} event{'' if count == 1 else 's'}"


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1_000, "1 kB"),
        (1_540, "1.54 kB"),
        (760_900, "761 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (12_340_000, "12.3 MB"),
        (1 << 30, "1.07 GB"),
        (10**15, "1,000,000 GB"),
    ],
)
def test_sizes(size, expected):
    """A size has three digits, in the largest unit that is not above it."""
    assert expected == in_bytes(size)


@pytest.mark.parametrize(
    ("milliseconds", "expected"),
    [
        (None, ""),
        (1, "1 ms"),
        (512, "512 ms"),
        (1024, "1.02 s"),
        (262_144, "4.37 min"),
        (2**23, "2.33 h"),
        (59_999, "60 s"),
        (2**27, "37.3 h"),
        (2**28, "3.11 d"),
        (2**36, "795 d"),
        (2**38, "3,181 d"),
        (2**53, "104,249,991 d"),
    ],
)
def test_spans(milliseconds, expected):
    """A duration is short, in the largest unit that is not above it."""
    assert expected == span(milliseconds)


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (0, 1_000, "0%"),
        (1, 1_000_000, "<1%"),
        (4, 1_000, "<1%"),
        (6, 1_000, "1%"),
        (1, 2, "50%"),
        (994, 1_000, "99%"),
        (996, 1_000, ">99%"),
        (999_999, 1_000_000, ">99%"),
        (1_000, 1_000, "100%"),
    ],
)
def test_percents_near_0_and_100_are_exact(part, whole, expected):
    """A rate just below 1 is not 100 %, neither in words nor as a number."""
    assert expected == percent(rate(part, whole)["rate"])


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=30))
def test_shares_of_one_column(counts):
    """The shares never add up to more than 100 %, and equal counts have equal shares."""
    found = shares(counts)
    numbers = [int(text.strip("%<>")) for text in found if text not in ("?", "<1%")]

    assert sum(numbers) <= 100
    assert len({*zip(counts, found, strict=True)}) == len({*counts})
    for count, text in zip(counts, found, strict=True):
        assert ("?" == text) == (sum(counts) == 0)
        assert ("0%" == text) == (count == 0 < sum(counts))
        assert ("100%" == text) == (count == sum(counts) > 0)
        if text.strip("%").isdigit():
            assert abs(int(text[:-1]) - 100 * count / sum(counts)) < 1


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([3, 3, 1], ["43%", "43%", "14%"]),
        ([1, 1, 1], ["33%", "33%", "33%"]),
        ([5, 5, 5, 2], ["29%", "29%", "29%", "12%"]),
        ([335, 335, 330], ["33%", "33%", "33%"]),
        ([1, 999], ["<1%", ">99%"]),
        ([0, 4], ["0%", "100%"]),
        ([0, 0], ["?", "?"]),
    ],
)
def test_rounded_shares(counts, expected):
    """The largest remainders are rounded up, unless equal counts would get different shares."""
    assert expected == shares(counts)


def test_dates():
    """A period of one day has one date. Days are UTC."""
    assert dates("2026-11-01", "2026-11-28") == "2026-11-01 to 2026-11-28 (UTC)"
    assert dates("2026-11-28", "2026-11-28") == "2026-11-28 (UTC)"


PLURALS = re.compile(
    r" (?:more |oldest )?(?:events|lines|files|days|bytes|entries|rows|sessions|values|findings"
    r"|secrets|checks|fields|times|keys|segments|projects|archives)\b"
)
# Numbers that are never 1, by the expression in the source.
NEVER_ONE = {
    "len(catalog.EVENTS)": "the notice",
    "len(findings)": "the checks of doctor",
    "len(lines)": "the log of the demo",
    "total": "the events of the self-test",
    "changed": "1 is the word once",
    "rows": "an entry of the export log without a number",
    "len(found)": "1 is no failure of the assertion",
    "when": "a verb",
    "limit": "the size limit of a file",
}


def counts_before_a_plural() -> Iterator[str]:
    """Yield each value of an f-string in the package that stands before a plural."""
    package = Path(telemetry_kit.__file__).parent
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                for value, after in zip(node.values, node.values[1:], strict=False):
                    text = after.value if isinstance(after, ast.Constant) else ""
                    if isinstance(value, ast.FormattedValue) and PLURALS.match(str(text)):
                        yield ast.unparse(value.value)


def test_no_message_has_a_plural_of_its_own():
    """Each count of a message has its noun from `counted`, unless it is never 1 or a constant."""
    found = set(counts_before_a_plural())

    assert {text for text in found if not text.isupper()} == set(NEVER_ONE)
