"""The document of one instance, made from its record."""

from __future__ import annotations

from fastarchive.dicom.attributes import Level
from fastarchive.index.contributions import contribution_of
from fastarchive.index.documents import Document
from fastarchive.store.record import Location, Record


def instance_document(record: Record, location: Location, patient: str, encoded: bytes) -> Document:
    """With what is known already: the key of the patient, and the encoded elements of the instance."""
    document = Document(
        Level.IMAGE,
        patient=patient,
        study=record.study,
        series=record.series,
        instance=record.sop_instance,
        encoded=encoded,
    )
    document.received, document.location, document.digest = record.received, location, record.digest
    document.origin = record.origin
    document.length, document.sop_class = record.length, record.sop_class
    document.transfer_syntax = record.transfer_syntax
    return document


def whole_document(record: Record, location: Location) -> Document:
    """Of the record alone; the patient is the one it names itself."""
    contribution = contribution_of(record, location)
    elements = contribution.instance_elements
    return instance_document(record, location, contribution.patient, elements)


def moved(document: Document, location: Location) -> Document:
    """The document after its record was moved to `location`: nothing else about it has changed."""
    _, pack, offset = document.order
    after = document.copy()
    after.location, after.origin = location, (pack, offset)
    return after
