"""Instances without end at the cost of a header: what an open loop sends at thousands a second.

A stock holds some images of each modality. Every instance made from it has a header and UIDs of its own, and the pixels
of a stocked image shifted along the rows by an amount of its own, handed over as two views of the same memory: they
differ from instance to instance, compress alike, and are never copied before the kernel does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from bench.encoding import EXPLICIT_LITTLE, element
from bench.modality import SOP_CLASSES, Modality, Scanner, SeriesHeaders, Study, pixel_vr

Piece = bytes | memoryview

_STOCK_BYTES = 48 * 2**20
"""How much memory the images of one modality may take."""


@dataclass(slots=True)  # made by the thousand: frozen ones take four times as long
class Prepared:
    """An instance ready to be sent: its data set in pieces, and what to know of it afterwards."""

    study: str
    """Study Instance UID."""
    patient_id: str
    series: str
    """Series Instance UID."""
    sop_class: str
    sop_instance: str
    transfer_syntax: str
    pieces: tuple[Piece, ...]
    last: bool
    """Whether it is the last one of its series."""

    @property
    def size(self) -> int:
        """Bytes of the data set."""
        return sum(map(len, self.pieces))

    @property
    def data_set(self) -> bytes:
        """The pieces joined."""
        return b"".join(self.pieces)


class _Images:
    """The stocked images of one modality."""

    def __init__(self, scanner: Scanner, modality: Modality, pool: int) -> None:
        first = scanner.pixels(modality, 0)
        geometry = scanner.geometry(modality)
        wanted = max(min(pool, _STOCK_BYTES // first.nbytes), 1)
        images = [first] + [scanner.pixels(modality, number * 977, number) for number in range(1, wanted)]
        self.start = element(0x7FE00010, pixel_vr(first), b"")[:-4] + first.nbytes.to_bytes(4, "little")
        self._views = [memoryview(image.tobytes()) for image in images]
        self._width = first.nbytes // (geometry.rows * geometry.columns * geometry.frames)
        self._pixels = geometry.rows * geometry.columns * geometry.frames
        # A step coprime with the number of pixels comes by every shift before one repeats; near a whole number of rows.
        self._step = next(step for step in count(geometry.columns * 37 + 1) if math.gcd(step, self._pixels) == 1)

    def pixels(self, serial: int) -> tuple[Piece, Piece]:
        """Pixels no other serial number has, until every image was shifted by every number of pixels."""
        view = self._views[serial % len(self._views)]
        shift = serial // len(self._views) * self._step % self._pixels * self._width
        return view[shift:], view[:shift]


class Stock:
    """Synthetic patients without end. The same seed and lane give the same instances."""

    def __init__(
        self,
        scanner: Scanner,
        modalities: Sequence[Modality] = (Modality.CT,),
        *,
        per_series: int = 100,
        series_per_study: int = 2,
        pool: int = 512,
    ) -> None:
        """Draws the images, some milliseconds each. modalities take turns from patient to patient; one named twice
        comes twice as often. pool: images to stock of each modality, fewer of large ones."""
        self._scanner = scanner
        self._modalities = tuple(modalities)
        self._per_series = per_series
        self._series_per_study = series_per_study
        self._images = {modality: _Images(scanner, modality, pool) for modality in dict.fromkeys(modalities)}

    @property
    def sop_classes(self) -> list[str]:
        """What has to be negotiated to send it."""
        return list(dict.fromkeys(SOP_CLASSES[modality] for modality in self._modalities))

    def stream(self, lane: int = 0, lanes: int = 1, first_patient: int = 0) -> Iterator[Prepared]:
        """Instances of every `lanes`-th patient from `first_patient + lane` on: study by study, without end."""
        serial = lane
        for turn in count():
            patient = self._scanner.patient(first_patient + lane + turn * lanes)
            modality = self._modalities[(lane + turn) % len(self._modalities)]
            study = self._scanner.study(patient, 0, modality)
            for series_number in range(1, self._series_per_study + 1):
                headers = self._scanner.headers(study, series_number)
                for number in range(1, self._per_series + 1):
                    yield self._instance(study, headers, number, serial)
                    serial += lanes

    def _instance(self, study: Study, headers: SeriesHeaders, number: int, serial: int) -> Prepared:
        images = self._images[study.modality]
        return Prepared(
            study=study.uid,
            patient_id=study.patient.patient_id,
            series=headers.uid,
            sop_class=SOP_CLASSES[study.modality],
            sop_instance=headers.sop_instance(number),
            transfer_syntax=EXPLICIT_LITTLE,
            pieces=(headers.image(number) + images.start, *images.pixels(serial)),
            last=number == self._per_series,
        )
