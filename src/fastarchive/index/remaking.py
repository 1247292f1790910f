"""Study, series and patient documents made again from the records of their instances, read back from their packs.

Needed whenever an instance goes away, or a study turns out to belong to another patient: what was merged into a
document can't be taken out of it again.
"""

from __future__ import annotations

import logging

from fastarchive.dicom.attributes import PATIENT_ID, Level
from fastarchive.index.contributions import contribution_of
from fastarchive.index.disagreements import disagreeing_among
from fastarchive.index.documents import Contribution, Document, add, blank, has_patient_id, merge, series_key
from fastarchive.index.overlay import Overlay
from fastarchive.index.packs import ReadRecord
from fastarchive.store.record import Location, Record

_log = logging.getLogger(__name__)


class Remaking:
    """What has to be made again in `overlay`, and how.

    `read` gives the record at a location, or None if it can't be read any more.
    """

    def __init__(self, overlay: Overlay, read: ReadRecord) -> None:
        self._overlay = overlay
        self._read = read
        self.studies: set[str] = set()
        """Studies to be made again."""
        self.patients: set[str] = set()
        """Keys of patients to be made again."""
        self._recent: dict[Location, Record] = {}

    @property
    def is_due(self) -> bool:
        """Whether there is anything to be made again."""
        return bool(self.studies or self.patients)

    def remember(self, location: Location, record: Record) -> None:
        """Spare reading a record that is at hand and likely to be needed."""
        self._recent[location] = record

    def forget(self) -> None:
        """Give the remembered records back."""
        self._recent.clear()

    def run(self) -> None:
        """Make the documents again from the instances that are left."""
        studies, self.studies = self.studies, set()
        for study in sorted(studies):
            self._study(study)
        patients, self.patients = self.patients, set()
        for key in sorted(patients):
            self._patient(key)
        _log.info("made %d studies and %d patients again from their instances", len(studies), len(patients))

    def _study(self, study: str) -> None:
        overlay = self._overlay
        before = overlay.entity(Level.STUDY, study)
        if before is not None:
            self.patients.add(before.patient)
        instances = list(overlay.instances_of(study))
        contributions = [self._contribution(instance) for instance in instances]
        by_series: dict[str, list[Contribution]] = {}
        for contribution in contributions:
            by_series.setdefault(series_key(study, contribution.series), []).append(contribution)
        gone = {document.key for document in overlay.series_of(study)} - by_series.keys()
        for key in gone:
            overlay.remove(Level.SERIES, key)
        overlay.note_disagreement(study, disagreeing_among(contributions))
        if not contributions:
            overlay.remove(Level.STUDY, study)
            return
        remade = merge(Level.STUDY, blank(Level.STUDY, contributions[0]), contributions)
        remade.number_of_series, remade.number_of_instances = len(by_series), len(contributions)
        overlay.put(remade, before)
        self.patients.add(remade.patient)
        for key, members in by_series.items():
            series = merge(Level.SERIES, None, members)
            series.patient, series.number_of_instances = remade.patient, len(members)
            overlay.put(series, overlay.entity(Level.SERIES, key))
        for instance in instances:
            if instance.patient != remade.patient:
                moved = instance.copy()
                moved.patient = remade.patient
                overlay.instances[instance.instance] = moved

    def _patient(self, key: str) -> None:
        overlay = self._overlay
        studies = list(overlay.studies_of(key))
        if not studies:
            overlay.remove(Level.PATIENT, key)
            return
        patient = Document(Level.PATIENT, patient=key)
        patient.number_of_studies = len(studies)
        for study in studies:
            patient.number_of_series += study.number_of_series
            patient.number_of_instances += study.number_of_instances
            for instance in overlay.instances_of(study.study):
                contribution = self._contribution(instance)
                if contribution.patient == key:
                    add(patient, contribution)
        overlay.put(patient, overlay.entity(Level.PATIENT, key))

    def _contribution(self, instance: Document) -> Contribution:
        """What the record of an instance says; what its document knows of it, if the record can't be read any more."""
        record = self._recent.get(instance.location) or self._read(instance.location)
        if record is not None:
            self._recent[instance.location] = record
            return contribution_of(record, instance.location)
        _log.warning("a record can't be read: offset %d of pack %d", instance.location.offset, instance.location.pack)
        patient_id = instance.patient if has_patient_id(instance.patient) else ""
        elements: dict[Level, dict[int, bytes]] = {level: {} for level in Level}
        elements[Level.IMAGE] = instance.elements
        if patient_id:
            elements[Level.PATIENT][PATIENT_ID] = patient_id.encode()
        return Contribution(
            instance.order,
            patient_id,
            instance.study,
            instance.series,
            instance.instance,
            instance.sop_class,
            "",
            elements,
        )
