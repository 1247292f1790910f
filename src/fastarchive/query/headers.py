"""Reading headers of the entities a query found, for its keys the index does not hold.

It is done last, for what met everything else, a few entities at a time so that a C-CANCEL is noticed, and never for
more instances than a limit allows: unlike everything else here it costs a read for each instance. Whose header tells of
a series, a study or a patient is decided in ``representatives``.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Final, NamedTuple

from fastarchive.dicom.attributes import TIMEZONE_OFFSET_FROM_UTC, Level
from fastarchive.dicom.charsets import DEFAULT, CharacterSet
from fastarchive.dicom.dictionary import depends_on_sign, vr_of
from fastarchive.dicom.elements import Element, scan_header
from fastarchive.dicom.sequences import private_place
from fastarchive.dicom.transfer_syntaxes import Encoding
from fastarchive.dicom.values import parse_offset
from fastarchive.index.view import View
from fastarchive.query.header_keys import HeaderKey
from fastarchive.query.match import LookedUp, Match
from fastarchive.query.representatives import representatives
from fastarchive.query.zones import move_date_time
from fastarchive.store.record import Location


class StoredHeader(NamedTuple):
    """The data set of an instance up to its pixels, how it is encoded, and what its text is in."""

    data: bytes
    encoding: Encoding
    character_set: CharacterSet


HeaderOf = Callable[[Location], StoredHeader | None]
"""Reads the header of the record at a location, whose size may be left 0; None if it can't be read."""
Told = Mapping[int, tuple[Element, CharacterSet]]
"""By the tag of the key: the stored element, and what its text is in."""

AT_A_TIME: Final = 50
"""Entities looked into before the matches among them are handed on."""
MOST_HEADERS: Final = 10_000
"""Headers read for one query, unless another limit is set."""
_PIXEL_REPRESENTATION: Final = 0x0028_0103
_BLOCKS: Final = range(0x10, 0x100)


class TooManyHeaders(Exception):
    """A query that asks to read more headers than it may: to be answered with A700."""


@dataclass(slots=True)
class HeaderWork:
    """What reading headers has done so far."""

    read: int = 0
    found: int = 0
    seconds: float = 0.0


class HeaderReader:
    """Looks keys up in headers for one query; ``most`` is how many it may read, 0 for no limit."""

    def __init__(self, header_of: HeaderOf, most: int = MOST_HEADERS) -> None:
        self._header_of = header_of
        self._left = most or None

    def decide(
        self, pages: Iterable[Sequence[Match]], level: Level, keys: Sequence[HeaderKey], view: View, work: HeaderWork
    ) -> Generator[list[Match], None, None]:
        """Those of the matches of a level whose headers meet the keys, with the answers to them; raises TooManyHeaders.

        An instance whose header can't be read is one without any of the attributes.
        """
        for page in pages:
            if not page:
                yield []
            for start in range(0, len(page), AT_A_TIME):
                started = perf_counter()
                some = page[start : start + AT_A_TIME]
                found: list[Match] = []
                cut = False
                try:
                    found.extend(self._decided(some, level, keys, view, work))
                except TooManyHeaders:
                    cut = True
                work.found += len(found)
                work.seconds += perf_counter() - started
                yield found
                if cut:
                    raise TooManyHeaders

    def _decided(
        self, page: Sequence[Match], level: Level, keys: Sequence[HeaderKey], view: View, work: HeaderWork
    ) -> Iterator[Match]:
        entities = [document for match in page if (document := match[level.depth]) is not None]
        for match, places in zip(page, representatives(view, level, entities), strict=True):
            told = self._told(places, keys, work)
            answers: dict[int, Element] = {}
            for key in keys:
                stored, character_set = told.get(key.tag, (None, DEFAULT))
                if not key.accepts(stored, character_set):
                    break
                answers[key.tag] = key.answer(stored, character_set)
            else:
                yield LookedUp.of(match, answers)

    def _told(self, places: Iterable[Location], keys: Sequence[HeaderKey], work: HeaderWork) -> Told:
        """What the headers at some places tell: for each key the first value there is. Raises TooManyHeaders."""
        told: dict[int, tuple[Element, CharacterSet]] = {}
        missing = list(keys)
        for place in places:
            if self._left is not None:
                if not self._left:
                    raise TooManyHeaders
                self._left -= 1
            work.read += 1
            header = self._header_of(place)
            if header is None:
                continue
            for tag, element in look_up(missing, header).items():
                if element.value or tag not in told:
                    told[tag] = element, header.character_set
            missing = [key for key in missing if key.tag not in told or not told[key.tag][0].value]
            if not missing:
                break
        return told


def look_up(keys: Iterable[HeaderKey], header: StoredHeader) -> dict[int, Element]:
    """The stored elements the keys mean, by the tag of the key."""
    keys = tuple(keys)
    found = scan_header(header.data, header.encoding, _first_wanted(keys))
    elements, encoding = dict(found.elements), found.encoding
    place_of = {key.tag: key.tag for key in keys if not key.creator}
    for key in keys:
        if key.creator and (place := private_place(elements, key.tag, key.creator)) is not None:
            place_of[key.tag] = place
    private = frozenset(place_of[key.tag] for key in keys if key.creator and key.tag in place_of)
    if private:
        elements = elements | dict(scan_header(header.data, encoding, private).elements)
    signed = elements.get(_PIXEL_REPRESENTATION)
    is_signed = signed is not None and signed.value[:1] == b"\1"
    known = {tag: _known(elements[place], encoding, is_signed) for tag, place in place_of.items() if place in elements}
    zones = {key.tag: key.options.zone for key in keys}
    told = elements.get(TIMEZONE_OFFSET_FROM_UTC)
    offset = None if told is None else parse_offset(told.value.decode("latin-1").strip(" \0"))
    return {tag: _in_zone(element, offset, zones[tag]) for tag, element in known.items()}


def _in_zone(element: Element, offset: int | None, zone: int | None) -> Element:
    """A DT element in the zone of the query (M18); what belongs to a date or time alone is not known."""
    if zone is None or element.vr != "DT":
        return element
    values = element.value.decode("latin-1").split("\\")
    moved = "\\".join(move_date_time(value.strip(" \0"), offset, zone) for value in values)
    return element._replace(value=moved.encode("latin-1"))


def _first_wanted(keys: Iterable[HeaderKey]) -> frozenset[int]:
    """What tells numbers with a sign, the attributes of the standard, and all creators of the private groups asked."""
    wanted = {_PIXEL_REPRESENTATION, TIMEZONE_OFFSET_FROM_UTC}
    for key in keys:
        if key.creator:
            wanted.update(key.tag & 0xFFFF_0000 | block for block in _BLOCKS)
        else:
            wanted.add(key.tag)
    return frozenset(wanted)


def _known(element: Element, encoding: Encoding, signed: bool) -> Element:
    """An element with the VR its writer didn't know or couldn't say (PS3.5 6.2.2, A.1)."""
    vr = vr_of(element.tag) if element.vr == "UN" else element.vr
    if not encoding.explicit and signed and depends_on_sign(element.tag):
        vr = "SS"
    return element if vr == element.vr else element._replace(vr=vr)
