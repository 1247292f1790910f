"""Thousands of power losses; `FASTARCHIVE_CRASH_POINTS` says how many, `FASTARCHIVE_FIRST_SEED` from where on."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.folders import temporary_folder
from tests.store.crash_points import power_loss, power_loss_with_index, power_loss_with_mirror
from tests.upkeep.compaction_crashes import compaction_survives_power_loss

POINTS = int(os.environ.get("FASTARCHIVE_CRASH_POINTS", "5000"))
FIRST = int(os.environ.get("FASTARCHIVE_FIRST_SEED", "1000"))
GROUP = 250


@pytest.mark.parametrize("first", range(FIRST, FIRST + POINTS, GROUP))
def test_nothing_acknowledged_is_lost_in_thousands_of_power_losses(first: int) -> None:
    with temporary_folder("/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        for seed in range(first, min(first + GROUP, FIRST + POINTS)):
            power_loss(seed, name / str(seed))


@pytest.mark.parametrize("first", range(FIRST, FIRST + POINTS // 5, GROUP))
def test_nothing_acknowledged_is_lost_in_thousands_of_power_losses_with_a_mirror(first: int) -> None:
    with temporary_folder("/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        for seed in range(first, min(first + GROUP, FIRST + POINTS // 5)):
            power_loss_with_mirror(seed, name / str(seed))


@pytest.mark.parametrize("first", range(FIRST, FIRST + POINTS // 5, GROUP // 5))
def test_compaction_loses_nothing_in_a_thousand_power_losses(first: int) -> None:
    with temporary_folder("/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        for seed in range(first, min(first + GROUP // 5, FIRST + POINTS // 5)):
            compaction_survives_power_loss(seed, name / str(seed))
            shutil.rmtree(name / str(seed))


@pytest.mark.parametrize("first", range(FIRST, FIRST + POINTS // 25, GROUP // 5))
def test_the_index_says_what_the_packs_hold_after_hundreds_of_power_losses(first: int) -> None:
    with temporary_folder("/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        for seed in range(first, min(first + GROUP // 5, FIRST + POINTS // 25)):
            power_loss_with_index(seed, name / str(seed))
