"""An index is not thrown away because its disk can't be written at the moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tantivy

from fastarchive.index.writer import IndexWriter


@pytest.mark.parametrize("code", [28, 30])
def test_an_index_that_can_not_be_locked_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    writer = IndexWriter(tmp_path)
    writer.finish()
    before = sorted(path.name for path in (tmp_path / "index").iterdir())

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError(f"Failed to acquire Lockfile: IoError(Os {{ code: {code} }}). None")

    with monkeypatch.context() as patched:
        patched.setattr(tantivy, "Index", fail)
        with pytest.raises(OSError, match="locked"):
            writer.reopen()
    assert sorted(path.name for path in (tmp_path / "index").iterdir()) == before
    writer.reopen()
    writer.close()
