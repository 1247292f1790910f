"""Verification in the background: due when the last pass is old, and it heals."""

from __future__ import annotations

import json
import shutil
import threading
import time
from pathlib import Path
from random import Random

import pytest

from fastarchive.server import scrubbing
from fastarchive.store.pack import PACKS, list_packs, pack_path
from fastarchive.store.scrub import CURSOR, Scrub, last_completed
from tests.store.bit_flips import fill


def test_a_pass_that_is_due_heals_what_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "LOOK_SECONDS", 0.01)
    data, mirror = tmp_path / "data", tmp_path / "mirror"
    fill(data, 10, Random(1))
    shutil.copytree(data / PACKS, mirror / PACKS)
    path = pack_path(data, list_packs(data)[0])
    whole = path.read_bytes()
    path.write_bytes(whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:])
    before = time.time() - 8 * 86_400
    (data / CURSOR).write_text(json.dumps({"after": None, "deep": False, "completed": before}))
    stop = threading.Event()
    scrubbing.keep_verified(data, mirror, days=7, rate=1e9, stop=stop)
    deadline = time.monotonic() + 20
    while (last_completed(data) or 0) <= before and time.monotonic() < deadline:
        time.sleep(0.01)
    stop.set()
    assert (last_completed(data) or 0) > before
    assert path.read_bytes() == whole


def test_a_new_archive_is_not_verified_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrubbing, "LOOK_SECONDS", 0.001)
    looked = threading.Event()
    monkeypatch.setattr(scrubbing, "last_completed", lambda _: looked.set())
    monkeypatch.setattr(scrubbing, "Scrub", lambda *_, **__: pytest.fail("it is not due"))
    stop = threading.Event()
    scrubbing.keep_verified(tmp_path, None, days=7, rate=1e9, stop=stop)
    assert looked.wait(10)
    stop.set()


def test_what_is_found_is_logged_without_names(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, 3, Random(2))
    path = pack_path(tmp_path, list_packs(tmp_path)[0])
    data = bytearray(path.read_bytes())
    data[4096 + 50] ^= 1
    path.write_bytes(data)
    with caplog.at_level("INFO"):
        scrubbing.log_report(Scrub(tmp_path).run())
    assert [record.message for record in caplog.records] == ["damage found", "verified"]
    assert "1.2.3" not in caplog.text
