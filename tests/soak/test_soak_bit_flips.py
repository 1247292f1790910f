"""A thousand bits flipped: each found, named, and healed from the mirror."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

import pytest

from tests.store.bit_flips import flip_and_heal, flips_are_found_and_healed, repair_survives_power_loss
from tests.upkeep.compaction_crashes import compacted


@pytest.mark.parametrize("seed", range(100, 110))
def test_a_thousand_flipped_bits_are_found_and_healed(seed: int) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        flips_are_found_and_healed(Path(name), 100, seed)


@pytest.mark.parametrize("seed", range(200, 205))
def test_hundreds_of_flipped_bits_are_found_and_healed_in_compacted_packs(seed: int) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        flip_and_heal(*compacted(Path(name), seed), 100, Random(seed))


@pytest.mark.parametrize("first", range(1000, 2000, 100))
def test_repair_may_be_cut_short_a_thousand_times(first: int) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        for seed in range(first, first + 100):
            repair_survives_power_loss(Path(name, str(seed)), seed)
