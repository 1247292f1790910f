"""What is collected and handed over together is what Prometheus would have counted one by one."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from fastarchive.tallies import Counts, Durations

BUCKETS = (0.001, 0.01, 0.1, 1.0)


@given(st.lists(st.one_of(st.sampled_from(BUCKETS), st.floats(0, 5)), max_size=30), st.integers(0, 30))
def test_the_histogram_is_the_same(seconds: list[float], pause: int) -> None:
    one, other = CollectorRegistry(), CollectorRegistry()
    expected = Histogram("h", "h", ["stage"], buckets=BUCKETS, registry=one).labels(stage="a")
    durations = Durations(Histogram("h", "h", ["stage"], buckets=BUCKETS, registry=other).labels(stage="a"))
    for number, value in enumerate(seconds):
        expected.observe(value)
        durations.observe(value)
        if number == pause:
            durations.flush()
    durations.flush()
    assert _without_sums(other) == _without_sums(one)
    assert _sum(other) == pytest.approx(_sum(one))


def _lines(registry: CollectorRegistry) -> list[str]:
    return [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]


def _without_sums(registry: CollectorRegistry) -> list[str]:
    return [line for line in _lines(registry) if "_sum" not in line]


def _sum(registry: CollectorRegistry) -> float:
    return next(float(line.rpartition(" ")[2]) for line in _lines(registry) if line.startswith("h_sum"))


def test_counts_of_several_threads_add_up_however_often_they_are_handed_over() -> None:
    counter = Counter("c", "c", ["kind"], registry=CollectorRegistry())
    counts = Counts({kind: counter.labels(kind=kind) for kind in "ab"})

    def count() -> None:
        for _ in range(1000):
            counts.add("a")
            counts.add("b", 3)
            counts.flush()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [counter.labels(kind=kind)._value.get() for kind in "ab"] == [4000, 12000]


def test_a_label_without_a_counter_is_refused() -> None:
    with pytest.raises(KeyError):
        Counts[str]({}).add("c")
