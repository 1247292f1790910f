"""Instance Availability of an archive with a damaged record on its disk (F7), and the AE to retrieve from (F6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pynetdicom.sop_class import (
    PatientRootQueryRetrieveInformationModelFind as PatientRootFind,
)
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind as StudyRootFind,
)

from fastarchive.store.blobs import DamagedInstance
from fastarchive.store.damage import Mark
from fastarchive.store.pack import pack_path
from fastarchive.store.record import Location
from tests.services.loopback import Loopback, fill, serving, slice_of
from tests.services.scu import find

STUDY = "1.2.826.1.1"


def damage(directory: Path, location: Location) -> None:
    """Flip a byte in the middle of a record's pixels."""
    with pack_path(directory, location.pack).open("r+b") as file:
        file.seek(location.end - 40)
        byte = file.read(1)
        file.seek(location.end - 40)
        file.write(bytes((byte[0] ^ 0xFF,)))


def told(loopback: Loopback, level: str, **keys: Any) -> dict[str, str]:
    """Instance Availability by unique key of the level."""
    unique = {"PATIENT": "PatientID", "STUDY": "StudyInstanceUID", "SERIES": "SeriesInstanceUID"}.get(
        level, "SOPInstanceUID"
    )
    wanted = {"QueryRetrieveLevel": level, "InstanceAvailability": "", unique: "", **keys}
    answers = find(loopback, PatientRootFind if level == "PATIENT" else StudyRootFind, **wanted)
    assert answers[-1] == (0x0000, None)
    found = [answer for status, answer in answers[:-1] if status == 0xFF00 and answer is not None]
    assert all(answer.RetrieveAETitle == "FASTARCHIVE" for answer in found)
    return {answer[unique].value: answer.InstanceAvailability for answer in found}


@pytest.mark.parametrize("commit_seconds", [0.05, 60], ids=["index", "tail"])
def test_F7_a_damaged_record_is_unavailable_at_every_level(tmp_path: Path, commit_seconds: float) -> None:
    with serving(tmp_path, archive_options={"commit_seconds": commit_seconds}) as loopback:
        archive = loopback.archive
        fill(archive, [slice_of(1, 1, series, number) for series in (1, 2) for number in (1, 2)] + [slice_of(2)])
        assert told(loopback, "STUDY") == {STUDY: "ONLINE", "1.2.826.2.1": "ONLINE"}
        entry = archive.index.locate(f"{STUDY}.1.2")
        assert entry is not None
        damage(tmp_path, entry.location)
        with pytest.raises(DamagedInstance):
            archive.read(f"{STUDY}.1.2").read()
        series = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.1"}
        assert told(loopback, "IMAGE", **series) == {f"{STUDY}.1.1": "ONLINE", f"{STUDY}.1.2": "UNAVAILABLE"}
        assert told(loopback, "SERIES", StudyInstanceUID=STUDY) == {f"{STUDY}.1": "UNAVAILABLE", f"{STUDY}.2": "ONLINE"}
        assert told(loopback, "STUDY") == {STUDY: "UNAVAILABLE", "1.2.826.2.1": "ONLINE"}
        assert told(loopback, "PATIENT") == {"P0001": "UNAVAILABLE", "P0002": "ONLINE"}
        damage(tmp_path, entry.location)  # the byte as it was: healed
        archive.damage.replace(entry.location.pack, [])
        assert told(loopback, "IMAGE", **series) == {f"{STUDY}.1.1": "ONLINE", f"{STUDY}.1.2": "ONLINE"}
        assert told(loopback, "PATIENT") == {"P0001": "ONLINE", "P0002": "ONLINE"}


def test_F7_a_mark_of_another_record_than_the_instance_harms_nothing(tmp_path: Path) -> None:
    with serving(tmp_path) as loopback:
        fill(loopback.archive, [slice_of()])
        entry = loopback.archive.index.locate(f"{STUDY}.1.1")
        assert entry is not None
        elsewhere = Mark(entry.location.pack, entry.location.offset + 8, f"{STUDY}.1.1", "damaged")
        loopback.archive.damage.add(elsewhere)
        assert told(loopback, "STUDY") == {STUDY: "ONLINE"}
        nameless = Mark(entry.location.pack, entry.location.offset, "", "damaged")
        loopback.archive.damage.replace(entry.location.pack, [nameless])
        keys = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.1"}
        assert told(loopback, "IMAGE", **keys) == {f"{STUDY}.1.1": "UNAVAILABLE"}


def test_F6_the_retrieve_ae_title_is_the_one_that_was_called(tmp_path: Path) -> None:
    with serving(tmp_path, ae_titles=("FASTARCHIVE", "SECOND")) as loopback:
        fill(loopback.archive, [slice_of()])
        for called, shown in (("FASTARCHIVE", "FASTARCHIVE"), ("SECOND", "SECOND"), ("OTHER", "FASTARCHIVE")):
            (_, answer), _ = find(
                loopback, StudyRootFind, called_ae=called, QueryRetrieveLevel="STUDY", StudyInstanceUID=""
            )
            assert answer is not None
            assert answer.RetrieveAETitle == shown
