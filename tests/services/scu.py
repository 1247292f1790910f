"""A DICOM SCU by pynetdicom: an independent other side for end-to-end tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pynetdicom
from pydicom.dataset import Dataset
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage

from tests.requestor import request_association
from tests.services.loopback import Loopback

EXPLICIT, IMPLICIT, BIG = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
CT = "1.2.840.10008.5.1.4.1.1.2"


@contextmanager
def associated(
    loopback: Loopback, contexts: Sequence[tuple[Any, Sequence[str]]], called_ae: str = "FASTARCHIVE", **options: Any
) -> Iterator[Any]:
    entity = AE("SCU")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
    for abstract_syntax, transfer_syntaxes in contexts:
        entity.add_requested_context(abstract_syntax, list(transfer_syntaxes))
    association = request_association(entity, loopback.host, loopback.port, ae_title=called_ae, **options)
    assert association.is_established
    try:
        yield association
        association.release()
    finally:
        if association.is_established:
            association.abort()


def file_of(dataset: Dataset, transfer_syntax: str = EXPLICIT) -> Dataset:
    """The data set as pynetdicom wants it to send."""
    dataset.file_meta = pynetdicom.dsutils.create_file_meta(
        sop_class_uid=dataset.SOPClassUID,
        sop_instance_uid=dataset.SOPInstanceUID,
        transfer_syntax=transfer_syntax,
    )
    return dataset


def store(loopback: Loopback, datasets: Sequence[Dataset], transfer_syntax: str = EXPLICIT) -> list[int]:
    with associated(loopback, [(CTImageStorage, [transfer_syntax])]) as association:
        return [association.send_c_store(file_of(dataset, transfer_syntax)).Status for dataset in datasets]


def find(
    loopback: Loopback, model: Any, called_ae: str = "FASTARCHIVE", **keys: Any
) -> list[tuple[int, Dataset | None]]:
    question = Dataset()
    for keyword, value in keys.items():
        setattr(question, keyword, value)
    with associated(loopback, [(model, [EXPLICIT, IMPLICIT])], called_ae) as association:
        return [(status.Status, answer) for status, answer in association.send_c_find(question, model)]


def get(loopback: Loopback, model: Any, **keys: Any) -> tuple[int, int]:
    """The final status of a C-GET of CT images, and how many came."""
    request = Dataset()
    for keyword, value in keys.items():
        setattr(request, keyword, value)
    received: list[str] = []

    def take(event: Any) -> int:
        received.append(event.request.AffectedSOPInstanceUID)
        return 0

    contexts = [(model, [EXPLICIT]), (CTImageStorage, [EXPLICIT])]
    handlers = [(pynetdicom.evt.EVT_C_STORE, take)]
    roles = [pynetdicom.build_role(CTImageStorage, scp_role=True)]
    with associated(loopback, contexts, evt_handlers=handlers, ext_neg=roles) as association:
        *_, (status, _) = association.send_c_get(request, model)
        return status.Status, len(received)
