"""Metrics of counters: intervals, percentiles, periods, and those of empty counters."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from telemetry_kit.insights.answers import answers
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
    """The interval equals published examples, to four digits."""
    assert (low, high) == pytest.approx(wilson(part, whole), abs=1e-4)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_contains_its_rate(pair):
    """The interval is between 0 and 1, and contains the rate."""
    low, high = wilson(*pair)

    assert 0 <= low <= pair[0] / pair[1] <= high <= 1


def test_a_rate_of_zero_events():
    """The rate of zero is None, and a part larger than the whole counts as the whole."""
    assert rate(0, 0) == {"rate": None, "low": None, "high": None}
    assert rate(5, 3)["rate"] == 1


@given(
    st.lists(st.tuples(st.sampled_from([2**n for n in range(20)]), st.integers(1, 50)), min_size=1),
    st.integers(1, 100),
)
def test_a_percentile_is_that_of_the_values(buckets, percent):
    """The percentile of buckets is that of the single values, by nearest rank."""
    values = sorted(end for end, count in buckets for _ in range(count))
    rank = -(-len(values) * percent // 100)

    assert values[rank - 1] == quantile(buckets, percent)


def test_no_percentile_of_nothing():
    """The percentile of no values is None."""
    assert quantile([], 50) is None


@pytest.mark.parametrize(
    ("command", "owner"),
    [("/qa:check", "qa"), ("qa:check", "qa"), ("/flow:check", None), ("qa", None), ("h:0a", None)],
)
def test_the_owner_of_a_command(command, owner):
    """The owner is the role before the colon."""
    assert owner == owner_of(command, frozenset({"qa", "dev"}))


def test_metrics_of_empty_counters():
    """Empty counters have all metrics, and each question has an answer."""
    found = metrics(Counters())

    assert (found["events"], found["days"], found["comparison"]) == (0, [], None)
    assert {row["answer"] for row in answers(found)} == {"Nothing was recorded yet."}


def test_days_without_events_are_included():
    """The days have no gaps, also at the end of a year, and weeks begin on Mondays."""
    counters = Counters()
    for day in ("2025-12-30", "2026-01-02"):
        counters.add({"event_type": "role.selected", "timestamp": f"{day}T00:00:00Z", "role": "pm"})
    found = metrics(counters)

    assert [row["events"] for row in found["days"]] == [1, 0, 0, 1]
    assert found["weeks"] == [{"week": "2025-12-29", "events": 2}]


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_the_ends_of_the_calendar(day):
    """An event with a wrong time causes no error."""
    counters = Counters()
    counters.add({"event_type": "role.selected", "timestamp": f"{day}T00:00:00Z", "role": "pm"})
    counters.add({"event_type": "role.selected", "timestamp": "2026-11-22T00:00:00Z", "role": "pm"})

    assert metrics(counters, Query())["events"] == 2
    assert metrics(counters, Query(since=day))["comparison"]


@given(st.floats(0, 1))
def test_only_zero_and_one_are_rounded_to_themselves(share):
    """A share has four digits. Only 0 becomes 0, and only 1 becomes 1."""
    assert abs(rounded(share) - share) <= 0.0001
    assert (rounded(share) in (0, 1)) == (share in (0, 1))
