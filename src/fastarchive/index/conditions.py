"""What the index can be asked: plain data, turned into a Tantivy query by :mod:`fastarchive.index.schema`.

A condition *narrows*: the index answers with every document that meets it and perhaps some that don't; the pure
matching rules decide. An attribute the index doesn't keep at a level narrows nothing there.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Term:
    """The attribute has one of these values (decoded, stripped of padding).

    Any number of values. The unique keys work at their own level and at the levels below it: Patient ID at PATIENT,
    STUDY and SERIES, Study Instance UID at STUDY, SERIES and IMAGE, Series Instance UID at SERIES and IMAGE, SOP
    Instance UID at IMAGE. The computed Modalities in Study (0008,0061) and SOP Classes in Study (0008,0062) work at
    STUDY. Everything else works at the level of the attribute, and patient attributes at STUDY as well.
    """

    tag: int
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """A DA attribute lies between two dates (yyyymmdd), or a TM attribute between two times (µs since midnight).

    Both ends belong to the range; None leaves it open. A DT attribute is asked by its date part (yyyymmdd). Stored
    values that are no single date or time are always included.
    """

    tag: int
    low: int | None
    high: int | None


@dataclass(frozen=True, slots=True)
class Grams:
    """A value of the attribute holds these pieces of folded text (``dicom.values.fold``), in this order.

    For PN the text is that of any one component group. `anchored_start`: the first piece begins the text;
    `anchored_end`: the last one ends it.
    """

    tag: int
    pieces: tuple[str, ...]
    anchored_start: bool = False
    anchored_end: bool = False


@dataclass(frozen=True, slots=True)
class And:
    """All of them; no part at all means everything."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Any of them; no part at all means nothing."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Everything:
    """Every entity of the level."""


Condition = Term | Range | Grams | And | Or | Everything
