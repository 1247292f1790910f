"""Records made up for the tests of the index, the log they are written to, and the answers right by definition."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from hypothesis import strategies as st

from fastarchive.dicom.attributes import Level
from fastarchive.dicom.dictionary import vr_of
from fastarchive.index.conditions import Everything
from fastarchive.index.contributions import contribution_of
from fastarchive.index.documents import Contribution, Document, Order, nameless_patient, series_key
from fastarchive.index.tombstones import is_deleted, tombstone_of
from fastarchive.index.view import View
from fastarchive.store.encoding import EncodedRecord
from fastarchive.store.log import Log
from fastarchive.store.record import Location, Record, RecordKind, deletion

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
EXPLICIT = "1.2.840.10008.1.2.1"
Entry = tuple[Location, Record]


def encoded(elements: dict[int, str | bytes]) -> bytes:
    """Elements as the attributes of a record; text in UTF-8."""
    parts = []
    for tag, value in sorted(elements.items()):
        raw = value.encode() if isinstance(value, str) else value
        raw += (b"\0" if vr_of(tag) == "UI" else b" ") * (len(raw) % 2)
        parts.append(struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr_of(tag).encode(), len(raw)) + raw)
    return b"".join(parts)


def record_of(
    instance: str,
    series: str = "2.1",
    study: str = "1.1",
    patient_id: str = "P1",
    *,
    received: int = 1000,
    sop_class: str = CT,
    **more: str | bytes,
) -> Record:
    """A record of an instance; `more` are other attributes, as ``t00100010="SMITH^JOHN"``."""
    elements: dict[int, str | bytes] = {
        0x00080005: "ISO_IR 192",
        0x00080016: sop_class,
        0x00080018: instance,
        0x00100020: patient_id,
        0x0020000D: study,
        0x0020000E: series,
    }
    elements.update({int(name[1:], 16): value for name, value in more.items()})
    digest = instance.encode()[:32].ljust(32, b"\0")
    attributes = encoded(elements)
    return Record(
        RecordKind.INSTANCE,
        received,
        digest,
        100,
        sop_class,
        instance,
        study,
        series,
        EXPLICIT,
        "A",
        "B",
        attributes,
        (),
    )


def append(log: Log, records: Iterable[Record]) -> list[Entry]:
    """Write records and wait until they are durable."""
    records = list(records)
    futures = log.append_batch([EncodedRecord.of(record) for record in records])
    return [(future.result(30), record) for future, record in zip(futures, records, strict=True)]


# Random archives: few identities, so that everything that can collide does.

_names = st.sampled_from(["", "SMITH^JOHN", "Müller^Jürgen", "王^小东", "Wang^XiaoDong=王^小东=", "ＳＭＩＴＨ^J"])
_words = st.sampled_from(["", "CHEST", "Thorax^nativ", "a b", "头部"])


@st.composite
def random_records(draw: st.DrawFn) -> Record:
    """An instance record, seldom a deletion."""
    number = draw(st.integers(0, 7))
    study, series = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    received = draw(st.integers(1, 30))
    if draw(st.integers(0, 9)) == 0:
        scope = draw(st.integers(1, 3))
        return deletion(received, f"1.{study}", f"2.{series}" if scope > 1 else "", f"3.{number}" if scope > 2 else "")
    return record_of(
        f"3.{number}",
        f"2.{series}",
        f"1.{study}",
        draw(st.sampled_from(["P1", "P2", ""])),
        received=received,
        sop_class=draw(st.sampled_from([CT, MR])),
        t00100010=draw(_names),
        t00100040=draw(st.sampled_from(["", "M", "O"])),
        t00080020=draw(st.sampled_from(["", "20240101", "20240203"])),
        t00081030=draw(_words),
        t00080060=draw(st.sampled_from(["CT", "MR", ""])),
        t0008103E=draw(_words),
        t00200013=draw(st.sampled_from(["", "1", "2"])),
    )


# The right answers, from all records at once.


class Expected:
    """The documents that a set of records makes, by definition and without any cleverness."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        entries = list(entries)
        tombstones: dict[str, Order] = {}
        for location, record in entries:
            if record.kind is RecordKind.DELETION:
                name, order = tombstone_of(record), record.order(location)
                tombstones[name] = max(order, tombstones.get(name, order))
        alive = sorted(
            (record.order(location), location, record)
            for location, record in entries
            if record.kind is RecordKind.INSTANCE
            and not is_deleted(tombstones, record.order(location), record.study, record.series, record.sop_instance)
        )
        self.winners: dict[str, tuple[Location, Record]] = {}
        for _, location, record in alive:
            self.winners.setdefault(record.sop_instance, (location, record))
        self.contributions = sorted(
            (contribution_of(record, location) for location, record in self.winners.values()), key=lambda one: one.order
        )
        self.patients = {one.study: nameless_patient(one.study) for one in self.contributions}
        for one in reversed(self.contributions):
            if one.patient_id:
                self.patients[one.study] = one.patient_id
        self.below: dict[Level, dict[str, list[Contribution]]] = {level: {} for level in Level}
        for level in Level:
            for one in self.contributions:
                self.below[level].setdefault(self._key(level, one), []).append(one)

    def keys(self, level: Level) -> set[str]:
        """The keys of all entities of a level."""
        return set(self.below[level])

    def _key(self, level: Level, one: Contribution) -> str:
        return {
            Level.PATIENT: self.patients[one.study],
            Level.STUDY: one.study,
            Level.SERIES: series_key(one.study, one.series),
            Level.IMAGE: one.instance,
        }[level]

    def check(self, level: Level, document: Document) -> None:
        """Fail if `document` isn't what it must be."""
        below = self.below[level][document.key]
        if level is Level.IMAGE:
            location, record = self.winners[document.key]
            assert document.location == location
            assert document.digest == record.digest
            assert (document.study, document.series) == (record.study, record.series)
            assert document.patient == self.patients[record.study]
            assert document.elements == below[0].elements[level]
            return
        elements: dict[int, bytes] = {}
        for one in below:
            if level is not Level.PATIENT or (one.patient_id or nameless_patient(one.study)) == document.key:
                said = dict(one.elements[level])
                if level is Level.STUDY:
                    said |= one.elements[Level.PATIENT]
                for tag, value in said.items():
                    elements.setdefault(tag, value)
        assert document.elements == elements
        assert document.patient == self.patients[below[0].study]
        assert document.number_of_instances == len(below)
        if level is not Level.SERIES:
            assert document.number_of_series == len({(one.study, one.series) for one in below})
        if level is Level.PATIENT:
            assert document.number_of_studies == len({one.study for one in below})
        else:
            assert document.sop_classes == tuple(sorted({one.sop_class for one in below}))
        if level is Level.STUDY:
            assert document.modalities == tuple(sorted({one.modality for one in below if one.modality}))

    def check_view(self, view: View) -> None:
        """Fail if a view shows anything else, by any of its methods."""

        counts = view.counts()
        for level in Level:
            keys = self.keys(level)
            paged = [one for page in view.pages(level, Everything(), first_page=2, page_size=3) for one in page]
            shown = [*view.tail_documents(level), *paged]
            assert sorted(document.key for document in shown) == sorted(keys)
            for document in shown:
                self.check(level, document)
            for document in view.get_many(level, [*keys, "none"]):
                self.check(level, document)
            for key in keys:
                found = view.get(level, key)
                assert found is not None
                self.check(level, found)
            assert view.get(level, "none") is None
            assert counts[level] == len(keys)
