"""What a soak calls growth, and what it doesn't."""

from __future__ import annotations

import math
import random

import pytest

from bench.growth import judge, judged, reduced, slope
from bench.monitor import parse_written
from bench.scenario import Soak


def course(per_hour: float, noise: float, seconds: int = 1200, base: float = 100.0) -> list[tuple[float, float]]:
    chance = random.Random(4)
    return [
        (second, base + per_hour * second / 3600 + chance.uniform(-noise, noise)) for second in range(0, seconds, 5)
    ]


def test_a_steady_rise_is_found_with_its_rate() -> None:
    growth = judge("memory", "MB", course(per_hour=60, noise=1), limit=30)
    assert growth
    assert growth.per_hour == pytest.approx(60, rel=0.15)
    assert growth.last > growth.first
    assert growth.grows


def test_noise_alone_is_no_growth() -> None:
    growth = judge("memory", "MB", course(per_hour=0, noise=20), limit=0.5)
    assert growth
    assert not growth.grows


def test_a_rise_within_the_limit_is_allowed() -> None:
    growth = judge("memory", "MB", course(per_hour=20, noise=1), limit=30)
    assert growth
    assert not growth.grows


def test_what_settles_at_first_is_no_growth() -> None:
    settling = [(second, 100 - 80 * math.exp(-second / 60)) for second in range(0, 1200, 5)]
    growth = judge("memory", "MB", settling, limit=5)
    assert growth
    assert not growth.grows


def test_a_little_in_a_short_time_is_no_rate() -> None:
    growth = judge("memory", "MB", course(per_hour=200, noise=0.1, seconds=90), limit=64)
    assert growth
    assert growth.per_hour > 150
    assert not growth.grows


def test_outliers_do_not_move_the_slope() -> None:
    points = [(float(x), 2.0 * x + (10_000 if x % 5 == 0 else 0)) for x in range(50)]
    assert slope(points) == pytest.approx(2.0, rel=0.2)
    assert slope([(1.0, 5.0)]) == 0.0


def test_too_few_samples_are_not_judged() -> None:
    assert judge("memory", "MB", [], limit=1) is None
    assert judge("memory", "MB", [(0.0, 1.0), (1.0, 1.0), (2.0, 1.0)], limit=1) is None


def test_samples_are_reduced_to_medians() -> None:
    assert reduced([(float(n), float(n % 3)) for n in range(9)], 3) == [(1.0, 1.0), (4.0, 1.0), (7.0, 1.0)]
    assert reduced([(1.0, 2.0)]) == [(1.0, 2.0)]


def test_what_linux_says_of_a_process_is_read() -> None:
    assert parse_written("rchar: 1\nwrite_bytes: 4096\ncancelled_write_bytes: 1\n") == 4096
    assert parse_written("") == 0


def test_a_soak_judges_the_server_and_each_latency() -> None:
    def leaking(second: int) -> dict[str, float]:
        return {"second": second, "anonymous_mb": 100 + second / 10, "descriptors": 90.0, "threads": 30.0}

    def slowing(second: int) -> dict[str, float]:
        return {"second": second, "p50_ms": 5.0, "p99_ms": 10 * (1 + second / 1200)}

    work = {"slices": [slowing(second) for second in range(0, 1200, 2)], "questions": []}
    growth = list(judged([leaking(second) for second in range(0, 1200, 5)], work, Soak(kind="soak"), 60.0))
    assert {one.name: one.grows for one in growth} == {
        "memory of its own": True,
        "descriptors": False,
        "threads": False,
        "p50 of slices": False,
        "p99 of slices": True,
    }
    limits = {one.name: one.limit for one in growth}
    assert limits["memory of its own"] == 64.0
    # A doubling an hour of what is usual, which is the median of the course after the warm-up.
    assert limits["p99 of slices"] == pytest.approx(10 * (1 + 630 / 1200), rel=0.01)
