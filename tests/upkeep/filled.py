"""An archive with some small instances in it, for the tests of what looks after one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fastarchive.archive import Archive
from tests.server.instances import small_instance, sop_instance_uid

EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
_ROOT = "1.2.826.0.1.3680043.10.543"


def study_uid(number: int) -> str:
    """The Study Instance UID of the instances 10·number to 10·number + 9."""
    return f"{_ROOT}.{number}.1"


def series_uid(number: int) -> str:
    """The Series Instance UID of the same instances."""
    return f"{_ROOT}.{number}.2"


def fill(archive: Archive, numbers: range, *, pixels: int = 64) -> None:
    """Store the small instances of these numbers."""
    for number in numbers:
        archive.store(small_instance(number, pixels=pixels), transfer_syntax=EXPLICIT_LITTLE)


def make(data: Path, numbers: range, *, pixels: int = 64) -> Path:
    """A data folder that holds them, closed."""
    with Archive.open(data) as archive:
        fill(archive, numbers, pixels=pixels)
    return data


def holds(archive: Archive, numbers: Iterable[int], *, pixels: int = 64) -> None:
    """Assert that these instances can be found and read back, byte for byte, and no others can be found."""
    wanted = set(numbers)
    found = {row["SOPInstanceUID"] for row in archive.find("IMAGE", {}, ["SOPInstanceUID"])}
    assert found == {sop_instance_uid(number) for number in wanted}
    assert archive.status()["instances"] == len(wanted)
    for number in wanted:
        assert archive.read(sop_instance_uid(number)).read() == small_instance(number, pixels=pixels)
