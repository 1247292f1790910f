"""Another content under a stored SOP Instance UID, over the network: what its sender is told, by its AE title."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from fastarchive.admission import ConflictPolicies, Policy
from fastarchive.metrics import exposition
from tests.requestor import request_association
from tests.services.loopback import Loopback, encode, serving, slice_of
from tests.services.scu import EXPLICIT, file_of

STORESCU = Path("/usr/bin/storescu")
SENDERS = ConflictPolicies(of_senders={"REPLACER": Policy.REPLACE, "STRANGER": Policy.QUARANTINE})


def told(loopback: Loopback, calling_ae: str, data_set: Dataset) -> tuple[int, str]:
    """Status and Error Comment a sender gets."""
    entity = AE(calling_ae)
    entity.add_requested_context(CTImageStorage, [EXPLICIT])
    association = request_association(entity, loopback.host, loopback.port, ae_title="FASTARCHIVE")
    assert association.is_established
    response: Any = association.send_c_store(file_of(data_set))
    association.release()
    return response.Status, str(response.get("ErrorComment", ""))


def other_slice() -> Dataset:
    data_set = slice_of()
    data_set.PatientName = "Somebody^Else"
    return data_set


def test_S3_a_sender_is_told_what_the_policy_for_it_made_of_its_instance(tmp_path: Path) -> None:
    with serving(tmp_path, archive_options={"conflicts": SENDERS}) as loopback:
        assert told(loopback, "SCU", slice_of()) == (0x0000, "")
        status, comment = told(loopback, "SCU", other_slice())
        assert status == 0xA900
        assert "kept" in comment
        status, comment = told(loopback, "STRANGER", other_slice())
        assert status == 0xB000
        assert "quarantine" in comment
        assert loopback.archive.read(slice_of().SOPInstanceUID).read() == encode(slice_of())
        status, comment = told(loopback, "REPLACER", other_slice())
        assert status == 0x0000
        assert "replaced" in comment
        assert loopback.archive.read(slice_of().SOPInstanceUID).read() == encode(other_slice())
        assert told(loopback, "STRANGER", other_slice()) == (0x0000, "")
        text = exposition(loopback.context.metrics).decode()
        for title, outcome in (("SCU", "conflict"), ("other", "quarantined"), ("other", "replaced")):
            assert f'fastarchive_store_instances_total{{calling_ae="{title}",outcome="{outcome}"}} 1.0' in text


def test_S3_storescu_may_send_an_instance_in_any_uncompressed_transfer_syntax(tmp_path: Path) -> None:
    path = tmp_path / "slice.dcm"
    file_of(slice_of()).save_as(path, enforce_file_format=True)
    with serving(tmp_path / "archive") as loopback:
        for proposed in ("-xe", "-xb", "-xi", "-xd"):
            command = [STORESCU, proposed, "-R", "-aec", "FASTARCHIVE", loopback.host, str(loopback.port), path]
            subprocess.run(command, check=True, capture_output=True)
        assert loopback.archive.status()["instances"] == 1
        text = exposition(loopback.context.metrics).decode()
        assert 'outcome="stored"} 1.0' in text
        assert 'outcome="already-present"} 3.0' in text
