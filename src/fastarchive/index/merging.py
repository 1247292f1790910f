"""New instances merged into the series, study and patient above them.

Series being received are kept open: what the last record said of everything above the instance needs no decoding when
the next one says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Final

from fastarchive.dicom.attributes import Level
from fastarchive.index.contributions import contribution_of, instance_part_by
from fastarchive.index.disagreements import DISAGREEMENT, decode_tags, disagreeing
from fastarchive.index.documents import Contribution, Document, Order, add, blank, series_key
from fastarchive.index.instances import instance_document
from fastarchive.index.overlay import Overlay
from fastarchive.index.remaking import Remaking
from fastarchive.store.record import Location, Record

_MOST_OPEN_SERIES: Final = 4096


class _OpenSeries:
    """A series being received: its documents, and what its last record said of everything above the instance."""

    __slots__ = ("_attributes", "_part", "keys", "order", "patient", "series", "study")

    def __init__(self, series: Document, study: Document, patient: Document, attributes: bytes, order: Order) -> None:
        self.series, self.study, self.patient = series, study, patient
        self._attributes, self.order = attributes, order
        self._part: Callable[[bytes], bytes | None] | None = None
        self.keys = dict.fromkeys([(document.level, document.key) for document in (series, study, patient)])

    def instance_part(self, attributes: bytes) -> bytes | None:
        """As :meth:`Template.instance_part`; the template is made for the second instance, which many never have."""
        if self._part is None:
            self._part = instance_part_by(self._attributes)
        return self._part(attributes)


class Merging:
    """Puts new instances into `overlay`, and tells `remaking` what can't be had by merging."""

    def __init__(self, overlay: Overlay, remaking: Remaking) -> None:
        self._overlay = overlay
        self._remaking = remaking
        self._open: dict[tuple[str, str], _OpenSeries] = {}

    def close_all(self) -> None:
        """Forget the open series: their documents are no more those of the overlay."""
        self._open.clear()

    def close(self, entities: Collection[tuple[Level, str]]) -> None:
        """Forget the open series whose documents are no more those of the overlay: some of these entities."""
        if entities:
            gone = set(entities)
            self._open = {name: opened for name, opened in self._open.items() if gone.isdisjoint(opened.keys)}

    def add(self, location: Location, record: Record, order: Order) -> None:
        """Take in the record of an instance there is none of yet."""
        overlay = self._overlay
        opened = self._open.get((record.study, record.series))
        encoded = None
        if opened is not None and order > opened.order:
            encoded = opened.instance_part(record.attributes)
        if opened is None or encoded is None:
            contribution = contribution_of(record, location)
            encoded = contribution.instance_elements
            opened = self._merge(contribution, record.attributes)
            if self._remaking.studies:
                self._remaking.remember(location, record)
        elif record.sop_class not in opened.series.sop_classes:
            for document in (opened.series, opened.study):
                document.sop_classes = tuple(sorted({*document.sop_classes, record.sop_class}))
        opened.series.number_of_instances += 1
        opened.study.number_of_instances += 1
        opened.patient.number_of_instances += 1
        overlay.changed.update(opened.keys)
        overlay.touched.update(opened.keys)
        overlay.put_instance(instance_document(record, location, opened.study.patient, encoded))

    def _merge(self, contribution: Contribution, attributes: bytes) -> _OpenSeries:
        """Merge what a new instance says into the documents above it."""
        overlay = self._overlay
        study = overlay.entity(Level.STUDY, contribution.study)
        new_study = study is None
        if study is None:
            study = overlay.put(blank(Level.STUDY, contribution))
        before = study.patient
        if not new_study and (tags := disagreeing(study.elements, contribution)):
            known = decode_tags(overlay.note((DISAGREEMENT, study.study)))
            overlay.note_disagreement(study.study, tags | known)
        add(study, contribution)
        owner = study.patient
        if owner != before:
            self._remaking.studies.add(contribution.study)
            self._remaking.patients.update((before, owner))
        patient = overlay.entity(Level.PATIENT, owner)
        if patient is None:
            patient = overlay.put(Document(Level.PATIENT, patient=owner))
        if owner == contribution.patient:
            add(patient, contribution)
        series = overlay.entity(Level.SERIES, series_key(contribution.study, contribution.series))
        if series is None:
            series = overlay.put(blank(Level.SERIES, contribution))
            study.number_of_series += 1
            patient.number_of_series += 1
        if new_study:
            patient.number_of_studies += 1
        series.patient = owner
        add(series, contribution)
        if len(self._open) >= _MOST_OPEN_SERIES:
            self._open.clear()
        opened = _OpenSeries(series, study, patient, attributes, contribution.order)
        self._open[contribution.study, contribution.series] = opened
        return opened
