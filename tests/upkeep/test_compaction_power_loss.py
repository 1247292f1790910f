"""The power fails while packs are compacted: what there is stays, what is deleted stays away."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.upkeep.compaction_crashes import compaction_survives_power_loss

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
