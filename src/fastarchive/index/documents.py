"""Records merged into the documents of the four levels: pure, and the same in whatever order records arrive.

The archive's state is a function of the *set* of its records, never of the order in which they were read:

* Of all records with one SOP Instance UID the earliest in record order, (received, pack, offset), is the instance.
  The others are *shadows*: they count nowhere and contribute nothing.
* Each instance contributes its patient, study and series attributes to the documents above it. Per attribute the
  earliest record with a value wins and later ones fill the gaps. A document therefore keeps the order of the record
  each of its elements came from; :func:`merge` is then a join of a semilattice: associative, commutative, idempotent.
* A series is one Series Instance UID *within one study*: should two studies use the same one, each has its own.
* A study is one Study Instance UID. Its document keeps what its own records say of the patient, so that no study is
  ever told under the name another study gave.
* A study belongs to the patient named by the earliest of its records that has a Patient ID; a record with another
  Patient ID is part of the study, but says nothing about that patient. Nothing tells whose the studies are that have
  no Patient ID: each of them has a patient of its own.

Counts can't be joined that way: merging a record twice would count it twice. They are exact because an instance is
counted when its document comes into being and at no other time (:mod:`fastarchive.index.ledger` asks the index first),
and because whatever takes something away (a deletion, an earlier record of the same instance, a study that turns out to
belong to another patient) makes the documents concerned again from the instances that are left.
"""

from __future__ import annotations

import re
import struct
import unicodedata
from collections.abc import Hashable, Iterable, Mapping
from typing import Final, NamedTuple

from fastarchive.dicom.attributes import PATIENT_ID, Level
from fastarchive.dicom.dictionary import vr_of
from fastarchive.index.encoded import encode_elements, instance_elements, instance_values
from fastarchive.index.table import table_elements, table_origins, table_values
from fastarchive.store.record import Location

Order = tuple[int, int, int]
"""Record order: (received in ns since the epoch, pack id, offset)."""

LONGEST_PATIENT_ID: Final = 1024
"""Characters of a Patient ID that tell patients apart (LO allows 64; index terms have to end somewhere)."""

KEY_SEPARATOR: Final = "\\"
"""Between Study and Series Instance UID in the key of a series; no UID and no value holds a backslash."""

_NAMELESS: Final = "\x1f"  # begins the key of a patient without Patient ID; no Patient ID has control characters
_CONTROL: Final = re.compile("[\0-\x1f\x7f]")
_UNSPLIT: Final = frozenset({"LT", "ST", "UT", "UR"})
_TRAILING_ONLY: Final = frozenset({"LT", "ST", "UT", "PN"})
_NO_LOCATION: Final = Location(0, 0, 0)
_NO_DIGEST: Final = bytes(32)


class Contribution(NamedTuple):
    """What one instance record says, split by level; text in UTF-8."""

    order: Order
    patient_id: str
    study: str
    series: str
    instance: str
    sop_class: str
    modality: str
    elements: Mapping[Level, dict[int, bytes]]
    encoded: bytes | None = None
    """The elements of the instance, encoded, if they were needed that way."""

    @property
    def instance_elements(self) -> bytes:
        """The elements of the instance, as they are kept in a row."""
        return encode_elements(self.elements[Level.IMAGE]) if self.encoded is None else self.encoded

    @property
    def patient(self) -> str:
        """The key of the patient it speaks of."""
        return self.patient_id or nameless_patient(self.study)


def patient_key(value: bytes) -> str:
    """A Patient ID (UTF-8) as the key of a patient: stripped, in NFC, without control characters."""
    text = value.decode("utf-8", "replace").strip(" \0")[:LONGEST_PATIENT_ID]
    if not text.isprintable():
        text = _CONTROL.sub("", text)
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def nameless_patient(study: str) -> str:
    """The key of the patient of a study that has no Patient ID."""
    return _NAMELESS + study


def has_patient_id(patient: str) -> bool:
    """Whether the key of a patient is a Patient ID."""
    return not patient.startswith(_NAMELESS)


def series_key(study: str, series: str) -> str:
    """The key of a series: its UID within its study."""
    return f"{study}{KEY_SEPARATOR}{series}"


class Document:
    """One patient, study, series or instance.

    ``elements`` maps tag → value bytes, little endian, text in UTF-8 whatever the record's character set was, without
    (0008,0005); padding as received, empty values left out. The VR is the dictionary's. Documents handed out by a view
    are shared: treat them as immutable.
    """

    __slots__ = (
        "_elements",
        "_origins",
        "_packed",
        "digest",
        "instance",
        "length",
        "level",
        "location",
        "modalities",
        "number_of_instances",
        "number_of_series",
        "number_of_studies",
        "origin",
        "patient",
        "received",
        "rowid",
        "series",
        "sop_class",
        "sop_classes",
        "study",
        "transfer_syntax",
    )

    def __init__(
        self,
        level: Level,
        *,
        patient: str = "",
        study: str = "",
        series: str = "",
        instance: str = "",
        encoded: bytes | None = None,
    ) -> None:
        self.level = level
        self.rowid = 0
        """Place in the index, stable over updates; 0 for what isn't in the index yet."""
        self.patient = patient
        """Key of the patient: the Patient ID, or one of its own for a study without (:func:`nameless_patient`)."""
        self.study = study
        """Study Instance UID; empty at PATIENT level."""
        self.series = series
        """Series Instance UID; empty above SERIES level."""
        self.instance = instance
        """SOP Instance UID; empty above IMAGE level."""
        self.number_of_studies = 0
        """PATIENT: studies."""
        self.number_of_series = 0
        """PATIENT, STUDY: series."""
        self.number_of_instances = 0
        """PATIENT, STUDY, SERIES: instances."""
        self.modalities: tuple[str, ...] = ()
        """STUDY: distinct modalities, sorted."""
        self.sop_classes: tuple[str, ...] = ()
        """STUDY, SERIES: distinct SOP Class UIDs, sorted."""
        # IMAGE only:
        self.received = 0
        self.location = _NO_LOCATION
        self.origin: tuple[int, int] | None = None
        """Pack and offset where its record was first written, if it was moved since."""
        self.digest = _NO_DIGEST
        self.length = 0
        self.transfer_syntax = ""
        self.sop_class = ""
        self._elements: dict[int, bytes] | None = {} if encoded is None else None
        self._origins: dict[int, Order] | None = {}
        # The row, if not everything in it has been asked for yet, and where the elements start in it.
        self._packed: tuple[bytes, int] | None = None if encoded is None else (encoded, 0)

    @property
    def key(self) -> str:
        """The unique key of this entity at its level: what :meth:`View.get` takes."""
        return self.key_at(self.level)

    def key_at(self, level: Level) -> str:
        """The key of the entity at `level` this one is or belongs to (for a level above; not below)."""
        if level is Level.IMAGE:
            return self.instance
        if level is Level.SERIES:
            return f"{self.study}{KEY_SEPARATOR}{self.series}"
        return self.study if level is Level.STUDY else self.patient

    @property
    def ancestry(self) -> Hashable:
        """The same for documents of a level with the same patient, study and series, if they are of one kind: all from
        an index, or all from records."""
        return self.patient, self.study, self.series

    @property
    def order(self) -> Order:
        """IMAGE: record order of the record the instance is."""
        return (self.received, *(self.origin or (self.location.pack, self.location.offset)))

    @property
    def elements(self) -> dict[int, bytes]:
        """Tag → value bytes; see the class."""
        if self._elements is None:
            assert self._packed is not None
            image = self.level is Level.IMAGE
            self._elements = instance_elements(*self._packed) if image else table_elements(*self._packed)
        return self._elements

    @property
    def origins(self) -> dict[int, Order]:
        """Tag → order of the record the element came from; empty at IMAGE level."""
        if self._origins is None:
            assert self._packed is not None
            self._origins = {} if self.level is Level.IMAGE else table_origins(*self._packed)
        return self._origins

    def pick(self, tags: tuple[int, ...]) -> list[bytes]:
        """The values of these tags, empty where there is none: cheaper than ``elements`` for a few of them."""
        if self._elements is not None:
            get = self._elements.get
            return [get(tag, b"") for tag in tags]
        assert self._packed is not None
        return (instance_values if self.level is Level.IMAGE else table_values)(*self._packed, tags)

    def values(self, tag: int) -> list[str]:
        """The stored values of an attribute as text: decoded, split, stripped as its VR allows; [] if it has none.

        Numbers of binary VRs are not turned into text: for US use ``elements`` (:func:`unsigned` helps).
        """
        value = self.pick((tag,))[0]
        if not value:
            return []
        vr = vr_of(tag)
        if vr == "US":
            return [str(number) for (number,) in struct.iter_unpack("<H", value[: len(value) & ~1])]
        return text_values(value, vr)

    def copy(self) -> Document:
        """A copy that shares nothing that changes."""
        other = Document.__new__(Document)
        for name in Document.__slots__:
            setattr(other, name, getattr(self, name))
        if self._elements is not None:
            other._elements = dict(self._elements)
        if self._origins is not None:
            other._origins = dict(self._origins)
        return other

    def state(self) -> tuple[object, ...]:
        """Everything but the rowid, to compare documents by."""
        names = (name for name in Document.__slots__ if not name.startswith("_") and name != "rowid")
        return (*(getattr(self, name) for name in names), self.elements, self.origins)

    def __repr__(self) -> str:  # a name or an identifier in a log line would be patient data
        return f"<Document {self.level} rowid={self.rowid}>"

    def encoded_elements(self) -> bytes:
        """IMAGE: the elements as they are kept in the row, for :func:`instance_elements`."""
        if self._packed is None:
            return encode_elements(self.elements)
        row, position = self._packed
        return row[position:]


def text_values(value: bytes, vr: str) -> list[str]:
    """UTF-8 value bytes as a list of values; [] when there is nothing but padding."""
    text = value.decode("utf-8", "replace")
    if vr == "UI":
        values = [part.strip("\0 ") for part in text.split("\\")]
    elif vr in _UNSPLIT:
        values = [text.rstrip("\0 ")]
    elif vr in _TRAILING_ONLY:
        values = [part.rstrip("\0 ") for part in text.split("\\")]
    else:
        values = [part.strip("\0 ") for part in text.split("\\")]
    return values if any(values) else []


def absorb(document: Document, elements: Mapping[int, bytes], order: Order) -> bool:
    """Merge a record's elements of one level into `document` in place; True if the document changed."""
    own, origins, changed = document.elements, document.origins, False
    if not own:
        own.update(elements)
        origins.update(dict.fromkeys(elements, order))
        return bool(elements)
    for tag, value in elements.items():
        known = origins.get(tag)
        if known is None or order < known:
            own[tag], origins[tag] = value, order
            changed = True
    return changed


def merge(level: Level, document: Document | None, contributions: Iterable[Contribution]) -> Document:
    """`document` with the attributes of more records, as a new document.

    Level, identity, elements, origins, modalities and SOP classes are merged; counts and rowid are left as they are
    (see above). All contributions must belong to the same entity of `level` (PATIENT, STUDY or SERIES).
    """
    merged = document.copy() if document is not None else None
    for contribution in contributions:
        if merged is None:
            merged = blank(level, contribution)
        add(merged, contribution)
    if merged is None:
        raise ValueError("nothing to merge")
    return merged


def blank(level: Level, contribution: Contribution) -> Document:
    """A document without content for the entity of `level` a contribution belongs to."""
    return Document(
        level,
        patient=contribution.patient,
        study=contribution.study if level.depth >= Level.STUDY.depth else "",
        series=contribution.series if level.depth >= Level.SERIES.depth else "",
    )


def add(document: Document, contribution: Contribution) -> None:
    """Merge one contribution into a document above IMAGE level, in place, counts left alone."""
    level = document.level
    absorb(document, contribution.elements[level], contribution.order)
    if level is Level.STUDY:
        absorb(document, contribution.elements[Level.PATIENT], contribution.order)
        if contribution.patient_id:  # whose the study is, is settled like any attribute
            document.patient = patient_key(document.elements[PATIENT_ID])
        if contribution.modality and contribution.modality not in document.modalities:
            document.modalities = tuple(sorted((*document.modalities, contribution.modality)))
    if level is not Level.PATIENT and contribution.sop_class and contribution.sop_class not in document.sop_classes:
        document.sop_classes = tuple(sorted((*document.sop_classes, contribution.sop_class)))
