"""A disk that doesn't answer, that fails, or is read-only: told, seen in readiness and metrics, and over when it is."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.encoding import element
from bench.modality import Instance, Modality, Scanner
from bench.peers import image_query, sop_instance_in
from bench.requestor import STUDY_ROOT_FIND, STUDY_ROOT_GET, VERIFICATION, Context, Response
from tests.peers.conftest import associate
from tests.peers.failing_disk import FailingDisk
from tests.server.harness import RunningArchive, eventually

SCANNER = Scanner(6, small=True)
STUDY = SCANNER.study(SCANNER.patient(0), 0, Modality.CT)
LIMIT = 2.0


@pytest.fixture
def disk(tmp_path: Path) -> FailingDisk:
    return FailingDisk(tmp_path / "site")


@pytest.fixture
def archive(tmp_path: Path, disk: FailingDisk) -> Iterator[RunningArchive]:
    with RunningArchive(tmp_path / "data", workers=1, store_seconds=LIMIT, environ=disk.environ) as running:
        yield running
        disk.be("fine")


def test_a_stalled_disk_delays_nothing_but_what_is_stored(archive: RunningArchive, disk: FailingDisk) -> None:
    first, *others = SCANNER.series(STUDY, 1, 6)
    assert store(archive, first).status == 0
    disk.be("stalled")
    answers: list[tuple[float, Response]] = []

    def send(one: Instance) -> None:
        started = time.monotonic()
        answer = store(archive, one)
        answers.append((time.monotonic() - started, answer))

    threads = [threading.Thread(target=send, args=(one,)) for one in others]
    for thread in threads:
        thread.start()
    slowest = 0.0
    while any(thread.is_alive() for thread in threads):
        started = time.monotonic()
        with associate(archive, Context(VERIFICATION), Context(STUDY_ROOT_FIND)) as association:
            assert association.echo().status == 0
            assert found(association.find(STUDY_ROOT_FIND, image_query(STUDY.uid, first.series)).identifiers) == {
                first.sop_instance
            }
        assert archive.get("/healthz")[0] == 200
        assert archive.get("/metrics")[0] == 200
        slowest = max(slowest, time.monotonic() - started)
    assert slowest < LIMIT, "the event loop was held up"
    for seconds, answer in answers:
        assert answer.status == 0xA700
        assert "disk" in answer.comment
        assert seconds < LIMIT + 3
    assert max(seconds for seconds, _ in answers) >= LIMIT, "it was waited for"
    # Now that it is known nobody waits any more.
    started = time.monotonic()
    assert store(archive, others[0]).status == 0xA700
    assert time.monotonic() - started < LIMIT
    eventually("readiness says so", lambda: "hasn't answered" in failing(archive).get("writing", ""))
    assert archive.get("/readyz")[0] == 200, "it can still be asked"
    eventually("metrics say so", lambda: gauge(archive, "fastarchive_log_stalled_seconds") >= LIMIT)

    disk.be("fine")
    eventually("the disk answers", lambda: "writing" not in failing(archive))
    for one in others:
        assert store(archive, one).status == 0
    assert fetched(archive, first.series) == {one.sop_instance: one.data_set for one in (first, *others)}


def test_a_disk_that_fails_is_told_and_used_again_when_it_works(archive: RunningArchive, disk: FailingDisk) -> None:
    for number, (error, words) in enumerate((("EROFS", "Read-only"), ("EIO", "Input/output"), ("ENOSPC", "")), 1):
        first, *others = SCANNER.series(STUDY, number, 4)
        assert store(archive, first).status == 0
        disk.be(error)
        for one in others:
            answer = store(archive, one)
            assert answer.status == (0x0110 if words else 0xA700)
            assert "nothing was stored" in answer.comment
        assert words in failing(archive).get("writing", "")
        assert archive.get("/readyz")[0] == 200
        if words:
            eventually("metrics say so", lambda: gauge(archive, "fastarchive_log_failing") == 1)
        assert fetched(archive, first.series) == {first.sop_instance: first.data_set}

        disk.be("fine")
        for one in others:
            assert store(archive, one).status == 0
        assert failing(archive) == {}
        stored = {one.sop_instance: one.data_set for one in (first, *others)}
        assert fetched(archive, first.series) == stored


def store(archive: RunningArchive, one: Instance) -> Response:
    with associate(archive, Context(one.sop_class)) as association:
        return association.store(one.sop_class, one.sop_instance, one.transfer_syntax, one.data_set)


def found(identifiers: list[bytes]) -> set[str]:
    return set(map(sop_instance_in, identifiers))


def fetched(archive: RunningArchive, series: str) -> dict[str, bytes]:
    one = next(SCANNER.series(STUDY, 1, 1))
    keys = (
        element(0x00080052, "CS", "SERIES") + element(0x0020000D, "UI", STUDY.uid) + element(0x0020000E, "UI", series)
    )
    with associate(archive, Context(STUDY_ROOT_GET), Context(one.sop_class, scp=True)) as association:
        _, retrieved = association.get(STUDY_ROOT_GET, keys)
    return {one.sop_instance: one.data_set for one in retrieved}


def failing(archive: RunningArchive) -> dict[str, str]:
    """The checks of readiness that fail, with their details."""
    _, body = archive.get("/readyz")
    return {name: check["detail"] for name, check in json.loads(body)["checks"].items() if not check["ready"]}


def gauge(archive: RunningArchive, name: str) -> float:
    for line in archive.get("/metrics")[1].decode().splitlines():
        if line.startswith(name + " "):
            return float(line.split()[1])
    return -1.0
