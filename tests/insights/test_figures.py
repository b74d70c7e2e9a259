"""Numbers made from counters: intervals, percentiles, periods, and where there is nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit.insights.answers import answers, percent, span
from telemetry_kit.insights.counters import Counters
from telemetry_kit.insights.metrics import metrics, owner_of, quantile, rate, rounded, wilson
from telemetry_kit.insights.query import Query


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),  # R. G. Newcombe, Statistics in Medicine 17, 1998, 861
        (15, 148, 0.0624, 0.1605),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(part, whole, low, high):
    """The method's own examples, to four digits."""
    assert (low, high) == pytest.approx(wilson(part, whole), abs=1e-4)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_rate(pair):
    """It lies within 0 and 1, and the rate in it."""
    low, high = wilson(*pair)

    assert 0 <= low <= pair[0] / pair[1] <= high <= 1


def test_a_rate_of_nothing():
    """Nothing is divided by zero, and more than all is all."""
    assert rate(0, 0) == {"rate": None, "low": None, "high": None}
    assert rate(5, 3)["rate"] == 1


@given(
    st.lists(st.tuples(st.sampled_from([2**n for n in range(20)]), st.integers(1, 50)), min_size=1),
    st.integers(1, 100),
)
def test_a_percentile_is_that_of_the_values(buckets, percent):
    """By nearest rank, over all single values."""
    values = sorted(end for end, count in buckets for _ in range(count))
    rank = -(-len(values) * percent // 100)

    assert values[rank - 1] == quantile(buckets, percent)


def test_no_percentile_of_nothing():
    """None, not an error."""
    assert quantile([], 50) is None


@pytest.mark.parametrize(
    ("command", "owner"),
    [("/qa:check", "qa"), ("qa:check", "qa"), ("/flow:check", None), ("qa", None), ("h:0a", None)],
)
def test_whose_command_it_is(command, owner):
    """The role before the colon, where it is one."""
    assert owner == owner_of(command, frozenset({"qa", "dev"}))


def test_figures_of_nothing():
    """Empty counters have all keys, and every question an answer."""
    found = metrics(Counters())

    assert (found["events"], found["days"], found["comparison"]) == (0, [], None)
    assert {row["answer"] for row in answers(found)} == {"Nothing was recorded yet."}


def test_days_without_events_are_there():
    """The trend has no gaps, also over the end of a year; weeks begin on Mondays."""
    counters = Counters()
    for day in ("2025-12-30", "2026-01-02"):
        counters.add({"event_type": "role.selected", "timestamp": f"{day}T00:00:00Z", "role": "pm"})
    found = metrics(counters)

    assert [row["events"] for row in found["days"]] == [1, 0, 0, 1]
    assert found["weeks"] == [{"week": "2025-12-29", "events": 2}]


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_the_ends_of_the_calendar(day):
    """A wrong clock makes no error."""
    counters = Counters()
    counters.add({"event_type": "role.selected", "timestamp": f"{day}T00:00:00Z", "role": "pm"})
    counters.add({"event_type": "role.selected", "timestamp": "2026-11-22T00:00:00Z", "role": "pm"})

    assert metrics(counters, Query())["events"] == 2
    assert metrics(counters, Query(since=day))["comparison"]


@pytest.mark.parametrize(
    ("milliseconds", "said"),
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
def test_spans(milliseconds, said):
    """Short, in the unit that fits."""
    assert said == span(milliseconds)


@pytest.mark.parametrize(
    ("part", "whole", "said"),
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
def test_all_and_nothing_are_exact(part, whole, said):
    """One failure of a million is no rate of 100 %, neither in words nor as a number."""
    assert said == percent(rate(part, whole)["rate"])


@given(st.floats(0, 1))
def test_rounding_makes_neither_all_nor_nothing(share):
    """Four digits, and 0 and 1 only for themselves."""
    assert abs(rounded(share) - share) <= 0.0001
    assert (rounded(share) in (0, 1)) == (share in (0, 1))
