"""Objects as large as a length can say, and many large ones at once: there and back within bounds of memory."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import pytest

from bench.big import LONGEST_EXPLICIT, BigObject, ProcessMemory, fetch_all, make_images, store_all
from bench.encoding import data_set_offset
from bench.senders import tool
from tests.peers import dcmtk
from tests.server.harness import RunningArchive

GIGABYTE = 10**9


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder on a disk: these objects are larger than a RAM disk should be asked for."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        yield Path(name)


@pytest.mark.parametrize(
    ("objects", "most"),
    [
        ([BigObject(1, LONGEST_EXPLICIT)], 64),
        ([BigObject(1, 4600 * 10**6, encapsulated=True)], 64),
        ([BigObject(number, GIGABYTE) for number in range(1, 11)], 256),
    ],
    ids=["4.29 GB", "4.6 GB in fragments", "ten of 1 GB"],
)
def test_there_and_back(place: Path, objects: list[BigObject], most: int) -> None:
    images = make_images(1)
    with RunningArchive(place / "data", workers=2) as archive, ProcessMemory(archive.pid) as memory:
        sent = store_all(archive, objects, images)
        assert len(sent) == len(objects)
        assert fetch_all(archive, objects) == sent
    assert max(memory.growth()) <= most, memory.growth()


def test_dcmtk_sends_and_gets_a_file_of_4_gigabytes(place: Path) -> None:
    images = make_images(1)
    one = BigObject(1, LONGEST_EXPLICIT)
    file, received = place / "object.dcm", place / "received"
    one.write(file, images)
    before = _digest(file)
    received.mkdir()
    with RunningArchive(place / "data", workers=1) as archive, ProcessMemory(archive.pid) as memory:
        done = dcmtk.run("storescu", "-xe", *dcmtk.address(archive), file, timeout=900)
        assert done.returncode == 0, done.stdout
        file.unlink()
        keys = {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": one.study}
        subprocess.run(
            [tool("getscu"), "-S", "+B", "+xe", "-od", received, *dcmtk.keys_as_options(keys), *dcmtk.address(archive)],
            check=True,
            timeout=900,
        )
    assert max(memory.growth()) <= 64, memory.growth()
    (path,) = received.iterdir()
    assert _digest(path) == before


def _digest(path: Path) -> bytes:
    hasher = blake2b(digest_size=32)
    with path.open("rb") as file:
        file.seek(data_set_offset(file.read(4096)))
        while piece := file.read(1 << 22):
            hasher.update(piece)
    return hasher.digest()
