"""The power fails at any moment, and what was not synced is there or not: nothing acknowledged is lost."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.store.crash_points import power_loss, power_loss_on_a_line, power_loss_with_index, power_loss_with_mirror
from tests.store.lines import needs_library

GROUPS = 10
POINTS = 37
"""With those below, and those of compaction in tests/upkeep, 500 in all."""


@pytest.mark.parametrize("group", range(GROUPS))
def test_nothing_acknowledged_is_lost_with_the_power(group: int, memory: Path) -> None:
    acknowledged = 0
    for seed in range(group * POINTS, (group + 1) * POINTS):
        directory = memory / str(seed)
        acknowledged += power_loss(seed, directory)
        shutil.rmtree(directory)
    assert acknowledged > POINTS  # it was about something


@needs_library
@pytest.mark.parametrize("group", range(4))
def test_nothing_acknowledged_on_a_line_is_lost_with_the_power(group: int, memory: Path) -> None:
    acknowledged = 0
    for seed in range(group * POINTS, (group + 1) * POINTS):
        directory = memory / str(seed)
        acknowledged += power_loss_on_a_line(seed, directory)
        shutil.rmtree(directory)
    assert acknowledged > POINTS


@pytest.mark.parametrize("group", range(4))
def test_nothing_acknowledged_is_lost_with_the_power_and_a_disk(group: int, memory: Path) -> None:
    acknowledged = 0
    for seed in range(group * 20, (group + 1) * 20):
        directory = memory / str(seed)
        acknowledged += power_loss_with_mirror(seed, directory)
        shutil.rmtree(directory)
    assert acknowledged > 20


@pytest.mark.parametrize("seed", range(10))
def test_the_index_says_what_the_packs_hold_after_a_power_loss(seed: int, memory: Path) -> None:
    power_loss_with_index(seed, memory)
