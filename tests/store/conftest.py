"""What the store's tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.folders import temporary_folder


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory if there is one: what is durable is simulated, real syncs would only take time."""
    if not Path("/dev/shm").is_dir():
        yield tmp_path
        return
    with temporary_folder("/dev/shm") as folder:
        yield folder
