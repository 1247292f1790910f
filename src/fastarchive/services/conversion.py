"""A stored data set in another uncompressed transfer syntax, streamed (PS3.5 Annex A).

An instance is sent as it is stored. When the other side takes its SOP class in other uncompressed transfer syntaxes
only, what can be rewritten without changing a pixel is: implicit and explicit VR, little and big endian, deflated data
sets, which are inflated, and RLE Lossless, which is unpacked. Other compressed pixel data stays what it is.

Two things are not carried over, both without meaning: group lengths (retired, and wrong after the rewriting), and
whether a sequence had a defined length.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Generator, Iterable, Iterator
from typing import Final

from fastarchive.dicom.dictionary import depends_on_sign
from fastarchive.dicom.elements import (
    Element,
    ElementError,
    Header,
    PixelElement,
    encode_element,
    scan_header,
    swap_bytes,
    walk,
)
from fastarchive.dicom.layout import Buffer
from fastarchive.dicom.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_LITTLE,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    Encoding,
    encoding_of,
)
from fastarchive.services import rle

__all__ = ["TARGETS", "ConversionError", "can_convert", "convert"]

TARGETS: Final = (EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN)
"""What can be written, the most faithful first: explicit VR says what private elements are."""

RLE_LOSSLESS: Final = "1.2.840.10008.1.2.5"
_SOURCES: Final = frozenset({*TARGETS, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, RLE_LOSSLESS})
_PIXEL_REPRESENTATION: Final = 0x00280103
_LONGEST_PART: Final = 64 * 2**20
"""Bytes of elements before, or after, the pixel data that are held at once."""
_INFLATED_PIECE: Final = 2**20


class ConversionError(ValueError):
    """The data set cannot be rewritten; the message says why, without a word of what it holds."""


def can_convert(source: str, target: str) -> bool:
    """Whether a data set stored in transfer syntax `source` can be sent in `target`."""
    return source in _SOURCES and target in TARGETS


def convert(chunks: Iterable[Buffer], source: str, target: str) -> Iterator[bytes]:
    """The data set of `chunks`, stored in transfer syntax `source`, in transfer syntax `target`.

    Holds the elements around the pixel data and one chunk of it. Raises ConversionError, also after the first chunks
    were handed out if it is the elements after the pixel data that make no sense, and whatever `chunks` raises.
    """
    if not can_convert(source, target):
        raise ConversionError("no conversion between these transfer syntaxes")
    if source == RLE_LOSSLESS:
        return _convert(_unpack(iter(chunks)), EXPLICIT_LITTLE, encoding_of(target))
    if source == DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN:
        return _convert(_inflate(chunks), encoding_of(source), encoding_of(target))
    return _convert(iter(chunks), encoding_of(source), encoding_of(target))


def _unpack(chunks: Iterator[Buffer]) -> Iterator[bytes]:
    """A data set in RLE Lossless in Explicit VR Little Endian."""
    data, header = _read_header(chunks, EXPLICIT_LITTLE, rle.WANTED)
    if header.pixel is None or header.pixel.length is not None:
        yield bytes(data)  # nothing in it is compressed
        yield from map(bytes, chunks)
        return
    try:
        yield from rle.native(data, header, chunks)
    except rle.RleError as error:
        raise ConversionError(f"RLE: {error}") from None


def _convert(chunks: Iterator[Buffer], source: Encoding, target: Encoding) -> Iterator[bytes]:
    data, header = _read_header(chunks, source)
    source = header.encoding
    signed = _is_signed(header)
    pixel = header.pixel
    if pixel is None:
        yield _translate(data, source, target, signed)
        return
    if pixel.length is None:
        raise ConversionError("pixel data is compressed")
    before = _translate(memoryview(data)[: pixel.header_offset], source, target, signed)
    yield before + _pixel_header(pixel, target)
    swap = pixel.vr if source.little != target.little else None
    rest = yield from _pixels(chunks, memoryview(data)[pixel.value_offset :], pixel.length, swap)
    after = bytearray(rest)
    for chunk in chunks:
        after += chunk
        if len(after) > _LONGEST_PART:
            raise ConversionError("too much after the pixel data")
    if after:
        yield _translate(after, source, target, signed)


def _read_header(
    chunks: Iterator[Buffer], source: Encoding, wanted: Collection[int] = (_PIXEL_REPRESENTATION,)
) -> tuple[bytearray, Header]:
    """All bytes up to the pixel data and somewhat more, or the whole data set if it has none."""
    data = bytearray()
    scanned = 0
    for chunk in chunks:
        data += chunk
        if len(data) < 2 * scanned:
            continue
        scanned = len(data)
        header = scan_header(data, source, wanted)
        if header.pixel is not None:
            return data, header
        if header.damage is not None:
            raise ConversionError("the data set is malformed")
        if len(data) > _LONGEST_PART:
            raise ConversionError("too much before the pixel data")
    header = scan_header(data, source, wanted)
    if header.damage is not None:
        raise ConversionError("the data set is malformed")
    return data, header


def _pixels(chunks: Iterator[Buffer], data: memoryview, length: int, swap: str | None) -> Generator[bytes, None, bytes]:
    """Hand on `length` bytes, swapped in words of the VR `swap`; returns what was read beyond them."""
    carried = b""
    while length:
        piece = data[:length]
        beyond = data[len(piece) :]
        length -= len(piece)
        if swap is None:
            yield bytes(piece)
        else:
            joined = carried + bytes(piece)
            whole = len(joined) - len(joined) % 8 if length else len(joined)
            yield swap_bytes(swap, joined[:whole])
            carried = joined[whole:]
        if length:
            try:
                data = memoryview(next(chunks))
            except StopIteration:
                raise ConversionError("pixel data ends early") from None
        else:
            data = beyond
    return bytes(data)


def _translate(data: Buffer, source: Encoding, target: Encoding, signed: bool) -> bytes:
    try:
        return b"".join(
            [
                encode_element(_with_sign(element) if signed and not source.explicit else element, target)
                for element in walk(data, source)
                if element.tag & 0xFFFF
            ]
        )
    except ElementError:
        raise ConversionError("the data set is malformed") from None


def _pixel_header(pixel: PixelElement, target: Encoding) -> bytes:
    group, number = pixel.tag >> 16, pixel.tag & 0xFFFF
    order = "<" if target.little else ">"
    if not target.explicit:
        return struct.pack(f"{order}HHL", group, number, pixel.length)
    return struct.pack(f"{order}HH2s2xL", group, number, pixel.vr.encode("ascii"), pixel.length)


def _is_signed(header: Header) -> bool:
    """Pixel Representation (0028,0103): whether "US or SS" means SS in this data set."""
    element = header.elements.get(_PIXEL_REPRESENTATION)
    return element is not None and element.value[:2] == b"\x01\x00"


def _with_sign(element: Element) -> Element:
    """An element of implicit VR with the VR that signed pixels give it."""
    return element._replace(vr="SS") if depends_on_sign(element.tag) else element


def _inflate(chunks: Iterable[Buffer]) -> Iterator[bytes]:
    """A deflated data set in pieces (PS3.5 A.5: a raw deflate stream, perhaps with a padding byte after it)."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        for chunk in chunks:
            piece = inflater.decompress(chunk, _INFLATED_PIECE)
            while piece:
                yield piece
                piece = inflater.decompress(inflater.unconsumed_tail, _INFLATED_PIECE)
        yield inflater.flush()
    except zlib.error:
        raise ConversionError("the deflated data set is damaged") from None
