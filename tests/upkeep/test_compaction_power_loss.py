"""The power fails while packs are compacted: what there is stays, what is deleted stays away."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

import pytest

from tests.store.bit_flips import flip_and_heal
from tests.upkeep.compaction_crashes import compacted, compaction_survives_power_loss

GROUPS = 4
POINTS = 10


@pytest.mark.parametrize("group", range(GROUPS))
def test_compaction_may_lose_the_power_anywhere(group: int, memory: Path) -> None:
    losses = 0
    for seed in range(group * POINTS, (group + 1) * POINTS):
        directory = memory / str(seed)
        losses += compaction_survives_power_loss(seed, directory)
        shutil.rmtree(directory)
    assert losses > POINTS // 2  # it was about something


def test_flipped_bits_are_found_and_healed_in_compacted_packs(memory: Path) -> None:
    flip_and_heal(*compacted(memory, 1), 10, Random(1))
