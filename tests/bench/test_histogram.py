"""The histogram of times against sorted lists."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.histogram import Histogram, bucket_of, highest_in

TIMES = st.lists(st.integers(0, 2**36), min_size=1, max_size=60)


def recorded(microseconds: list[int]) -> Histogram:
    histogram = Histogram()
    for value in microseconds:
        histogram.record(value / 1e6)
    return histogram


@given(TIMES, st.floats(0, 1))
def test_percentiles_are_never_too_low_and_at_most_a_128th_too_high(values: list[int], fraction: float) -> None:
    exact = sorted(values)[max(math.ceil(fraction * len(values)), 1) - 1]
    found = recorded(values).percentile(fraction) * 1e6
    assert exact - 1 <= found <= exact * (1 + 1 / 128) + 1


@given(TIMES)
def test_count_mean_and_maximum_are_exact(values: list[int]) -> None:
    histogram = recorded(values)
    assert histogram.count == len(values)
    assert histogram.mean * 1e6 == pytest.approx(sum(values) / len(values))
    assert histogram.maximum * 1e6 == pytest.approx(max(values))
    assert histogram.percentile(1.0) == histogram.maximum


@given(TIMES, TIMES)
def test_two_histograms_together_are_that_of_all_values(first: list[int], second: list[int]) -> None:
    merged = Histogram.of([recorded(first), Histogram(), recorded(second)])
    assert merged.as_dict() == recorded(first + second).as_dict()


@given(TIMES)
def test_a_histogram_survives_json(values: list[int]) -> None:
    histogram = recorded(values)
    again = Histogram.from_dict(json.loads(json.dumps(histogram.as_dict())))
    assert again.as_dict() == histogram.as_dict()
    assert again.curve() == histogram.curve()


@given(st.integers(0, 2**60))
def test_buckets_follow_each_other_without_gaps(value: int) -> None:
    bucket = bucket_of(value)
    assert value <= highest_in(bucket)
    assert bucket == 0 or highest_in(bucket - 1) < value
    assert bucket_of(highest_in(bucket) + 1) == bucket + 1


@given(TIMES)
def test_the_curve_rises_to_all_values(values: list[int]) -> None:
    curve = recorded(values).curve()
    assert curve == sorted(curve)
    assert curve[-1][0] == 1.0
    assert curve[-1][1] == pytest.approx(max(values) / 1e6)


def test_nothing_recorded_is_nothing() -> None:
    assert Histogram().percentile(0.99) == Histogram().mean == Histogram().maximum == 0.0
    with pytest.raises(ValueError, match="don't add up"):
        Histogram.from_dict({"counts": {"1": 2}, "count": 3, "total_us": 2, "minimum_us": 1, "maximum_us": 1})
