"""When work arrives in open loops."""

from __future__ import annotations

from itertools import islice, pairwise, takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.arrival import Arrival, Pace

OPEN = [Arrival.STEADY, Arrival.POISSON, Arrival.BURSTS]


@given(st.sampled_from(OPEN), st.integers(1, 9), st.integers(0, 5))
def test_times_rise_and_are_the_same_for_the_same_seed(arrival: Arrival, lanes: int, seed: int) -> None:
    pace = Pace(arrival, rate=10.0, burst=7, burst_rate=50.0)
    times = list(islice(pace.times(lanes - 1, lanes, seed), 100))
    assert times == sorted(times)
    assert times == list(islice(pace.times(lanes - 1, lanes, seed), 100))


@pytest.mark.parametrize("arrival", OPEN)
def test_all_associations_together_make_the_rate(arrival: Arrival) -> None:
    pace = Pace(arrival, rate=20.0, burst=30, burst_rate=40.0)
    count = sum(sum(1 for _ in takewhile(lambda time: time < 2000, pace.times(lane, 4))) for lane in range(4))
    assert count == pytest.approx(40_000, rel=0.05)


def test_steady_arrivals_of_all_associations_are_evenly_spaced() -> None:
    pace = Pace(Arrival.STEADY, rate=8.0)
    times = sorted(time for lane in range(3) for time in islice(pace.times(lane, 3), 10))
    assert times == pytest.approx([number / 8 for number in range(30)])


def test_a_burst_is_back_to_back_and_a_pause_follows() -> None:
    times = list(islice(Pace(Arrival.BURSTS, rate=1.0, burst=10, burst_rate=50.0).times(0, 1), 30))
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert [gap for number, gap in enumerate(gaps, 1) if number % 10] == pytest.approx([0.02] * 27)
    assert all(gap > 3 for number, gap in enumerate(gaps, 1) if number % 10 == 0)


def test_a_pace_that_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="closed loop"):
        Pace(Arrival.CLOSED).times(0, 1)
    with pytest.raises(ValueError, match="needs a rate"):
        Pace(Arrival.STEADY).times(0, 1)
    with pytest.raises(ValueError, match="don't make"):
        Pace(Arrival.BURSTS, rate=100.0, burst_rate=40.0).times(0, 2)
