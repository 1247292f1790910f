"""Objects far larger than what a process may hold, and more senders than there is memory for."""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.big import (
    FRAME,
    MULTI_FRAME_GRAYSCALE_WORD,
    BigObject,
    ProcessMemory,
    StreamingRequestor,
    fetch_all,
    make_images,
    store_all,
)
from bench.requestor import Context, RequestError, Response
from tests.peers import dcmtk
from tests.peers.conftest import Sink
from tests.server.harness import RunningArchive, eventually

MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    return make_images(1)


def test_a_large_object_there_and_back_takes_no_more_memory_than_a_small_one(
    tmp_path: Path, sink: Sink, images: list[bytes]
) -> None:
    objects = [BigObject(1, 200 * MEBIBYTE), BigObject(2, 200 * MEBIBYTE, encapsulated=True)]
    peers = {"SINK": (sink.host, sink.dicom_port)}
    with RunningArchive(tmp_path / "data", workers=1, peers=peers) as archive:
        for one in objects:
            with ProcessMemory(archive.pid) as memory:
                sent = store_all(archive, [one], images)
                returned = fetch_all(archive, [one])
            assert returned == sent
            assert list(sent) == [one.sop_instance]
            assert max(memory.growth()) <= 64, memory.growth()
        with ProcessMemory(archive.pid) as memory:
            said = dcmtk.movescu(
                archive,
                "study root",
                {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": objects[0].study},
                "SINK",
            )
        assert "Received Final Move Response (Success)" in said, said
        assert max(memory.growth()) <= 64, memory.growth()
    (moved,) = sink.data_sets().values()
    assert moved == b"".join(objects[0].pieces(images))


def test_more_senders_than_there_is_memory_for_are_slowed_down_then_refused(
    tmp_path: Path, images: list[bytes]
) -> None:
    """Each sends a header that is not whole within the memory there is for all; none of them ends."""
    limit = 64 * MEBIBYTE
    senders = 40
    with RunningArchive(tmp_path / "data", workers=1, maximum_in_flight=limit, store_seconds=3) as archive:
        answers: list[Response] = []
        go_on = threading.Event()

        def send(number: int) -> None:
            one = BigObject(number, FRAME)
            header = one.header()
            private = struct.pack("<HH2sxxL", 0x0009, 0x1010, b"OB", 15 * MEBIBYTE)
            context = Context(MULTI_FRAME_GRAYSCALE_WORD)

            def pieces() -> Iterator[bytes]:
                yield private  # no header is whole before this is
                for _ in range(14):
                    yield images[0] + images[1]
                go_on.wait(60)
                yield images[0] + images[1] + header

            try:
                with StreamingRequestor(archive.host, archive.dicom_port, (context,), timeout=60) as client:
                    answers.append(
                        client.store_pieces(MULTI_FRAME_GRAYSCALE_WORD, one.sop_instance, one.transfer_syntax, pieces())
                    )
            except RequestError:
                answers.append(Response(-1))

        threads = [threading.Thread(target=send, args=(number,)) for number in range(senders)]
        with ProcessMemory(archive.pid) as memory:
            for thread in threads:
                thread.start()
            # Others are served all the while.
            deadline = time.monotonic() + 6
            while time.monotonic() < deadline:
                assert dcmtk.run("echoscu", *dcmtk.address(archive)).returncode == 0
                assert archive.get("/healthz")[0] == 200
            go_on.set()
            for thread in threads:
                thread.join(60)
        # The threads at work hold some more; without a limit it would be 600 MiB.
        assert max(memory.growth()) <= limit / MEBIBYTE + 110, memory.growth()
        refused = [answer for answer in answers if answer.status == 0xA700]
        assert len(answers) == senders
        assert refused
        assert "too much is arriving" in refused[0].comment
        counted = f'outcome="no-room"}} {len(refused)}'
        eventually("the refusals are counted", lambda: counted in archive.get("/metrics")[1].decode())
        # When they are gone there is room again.
        one = BigObject(99, 20 * FRAME)
        assert list(store_all(archive, [one], images)) == [one.sop_instance]
        eventually("nothing is held", lambda: b"fastarchive_arriving_bytes 0.0" in archive.get("/metrics")[1])
