"""What a data set says, whatever it is encoded in: to tell the same instance from another one under its UID.

Two encodings of one data set differ in byte order, in whether VRs are written, in how lengths are given and in whether
all of it is deflated (PS3.5 section 7 and Annex A). None of that is content, and neither are group lengths (7.2) and
data set trailing padding (7.1.4 of PS3.10). What is left is hashed in one form: implicit VR little endian elements with
defined lengths. Values count to the last byte, padding included.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from blake3 import blake3

from fastarchive.dicom.data_sets import encode_element, walk
from fastarchive.dicom.elements import Element, ElementError, PixelElement, scan_header
from fastarchive.dicom.layout import WORD_SIZE, Buffer, swap_bytes
from fastarchive.dicom.transfer_syntaxes import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_LITTLE,
    IMPLICIT_VR_LITTLE_ENDIAN,
    Encoding,
    encoding_of,
    is_deflated,
)

NATIVE: Final = frozenset(
    {
        IMPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_LITTLE_ENDIAN,
        EXPLICIT_VR_BIG_ENDIAN,
        DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    }
)
"""The transfer syntaxes without compression of pixels: an instance in one of them can be had in every other."""
LONGEST_STRETCH: Final = 16 << 20
"""Bytes before, and bytes after, the value of the bulk element that are held in memory to be compared."""

_PIECE: Final = 1 << 20
_TRAILING_PADDING: Final = 0xFFFCFFFC
_ITEM: Final = b"\xfe\xff\x00\xe0"


def may_mean_the_same(one: str, other: str) -> bool:
    """Whether data sets in these two transfer syntaxes can say the same without saying it in the same bytes."""
    return one == other or (one in NATIVE and other in NATIVE)


def meaning_of(chunks: Iterable[Buffer], transfer_syntax: str) -> bytes | None:
    """A digest (32 bytes) of what a data set says, given in pieces; None if it can't be read to its end.

    Equal for two data sets for which :func:`may_mean_the_same` holds if they say the same. Encapsulated pixel data
    counts as it is. Holds at most about twice :data:`LONGEST_STRETCH`, whatever the size of the data set.
    """
    try:
        return _digest(_Pieces(_inflated(chunks) if is_deflated(transfer_syntax) else chunks), transfer_syntax)
    except (ElementError, zlib.error):
        return None


class _Pieces:
    """Bytes that come in pieces, read in stretches of any length."""

    def __init__(self, chunks: Iterable[Buffer]) -> None:
        self._chunks = iter(chunks)
        self._waiting = memoryview(b"")

    def read(self, most: int) -> memoryview:
        """The next bytes, at least one and at most `most`; none at the end."""
        while not self._waiting:
            chunk = next(self._chunks, None)
            if chunk is None:
                return self._waiting
            self._waiting = memoryview(chunk)
        taken, self._waiting = self._waiting[:most], self._waiting[most:]
        return taken

    def give_back(self, data: Buffer) -> None:
        """Read these bytes again before what is waiting; at most once between two reads."""
        self._waiting = memoryview(bytes(data) + bytes(self._waiting))

    def rest(self) -> bytearray:
        """Everything left. Raises ElementError if it is longer than LONGEST_STRETCH."""
        found = bytearray()
        while piece := self.read(_PIECE):
            found += piece
            if len(found) > LONGEST_STRETCH:
                raise ElementError("too long to compare", len(found))
        return found


def _digest(pieces: _Pieces, transfer_syntax: str) -> bytes:
    hasher = blake3()
    header, pixel, encoding = _header(pieces, transfer_syntax)
    _add(hasher, header, encoding)
    if pixel is None:
        return hasher.digest()
    hasher.update(pixel.tag.to_bytes(4, "little"))
    if pixel.length is None:
        while piece := pieces.read(_PIECE):
            hasher.update(piece)
        return hasher.digest()
    hasher.update(pixel.length.to_bytes(8, "little"))
    for value in _in_words(pieces, pixel.length, WORD_SIZE.get(pixel.vr, 1)):
        hasher.update(value if encoding.little else swap_bytes(pixel.vr, value))
    _add(hasher, bytes(pieces.rest()), encoding)
    return hasher.digest()


def _header(pieces: _Pieces, transfer_syntax: str) -> tuple[bytes, PixelElement | None, Encoding]:
    """The data set up to its bulk element, all of it if there is none; the bulk element; the encoding found."""
    read = bytearray()
    wanted = _PIECE // 4
    ended = False
    while not ended:
        while len(read) < wanted:
            piece = pieces.read(wanted - len(read))
            if not piece:
                ended = True
                break
            read += piece
        data = bytes(read)
        header = scan_header(data, encoding_of(transfer_syntax), ())
        if header.pixel is not None:
            pieces.give_back(data[header.bulk_offset :])
            return data[: header.pixel.header_offset], header.pixel, header.encoding
        if header.damage is not None or len(read) >= LONGEST_STRETCH:
            break
        wanted *= 4
    if not ended or not header.complete:
        raise ElementError("can't be read to its end", len(read))
    return data, None, header.encoding


def _in_words(pieces: _Pieces, length: int, size: int) -> Iterator[Buffer]:
    """`length` bytes in pieces that don't cut a word of `size` bytes apart. Raises ElementError if fewer come."""
    left = length
    over = b""
    while left:
        piece = pieces.read(min(left, _PIECE))
        if not piece:
            raise ElementError("incomplete value", length - left)
        left -= len(piece)
        data: Buffer = over + bytes(piece) if over else piece
        whole = len(data) - len(data) % size
        over = bytes(data[whole:])
        yield data[:whole]
    yield over


def _add(hasher: blake3, data: bytes, encoding: Encoding) -> None:
    """Hash the elements of a stretch of a data set. Raises ElementError."""
    for element in walk(data, encoding):
        if element.tag & 0xFFFF and element.tag != _TRAILING_PADDING:
            hasher.update(encode_element(_plain(element), IMPLICIT_LITTLE))


def _plain(element: Element) -> Element:
    """A sequence that nothing marks as one (implicit VR has private ones as UN) with defined lengths all through."""
    tag, vr, value = element
    if vr == "UN" and value.startswith(_ITEM):
        try:
            (again,) = walk(_undefined(tag, value), IMPLICIT_LITTLE)
        except (ElementError, ValueError):
            return element
        return again if again.vr == "SQ" else element
    return element


def _undefined(tag: int, value: bytes) -> bytes:
    """A sequence value as an implicit little endian element of undefined length, which says that it is a sequence."""
    head = (tag >> 16).to_bytes(2, "little") + (tag & 0xFFFF).to_bytes(2, "little")
    return head + b"\xff\xff\xff\xff" + value + b"\xfe\xff\xdd\xe0" + bytes(4)


def _inflated(chunks: Iterable[Buffer]) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    for chunk in chunks:
        data: Buffer = chunk
        while data and not inflater.eof:
            yield inflater.decompress(data, _PIECE)
            data = inflater.unconsumed_tail
    while not inflater.eof and (more := inflater.decompress(b"", _PIECE)):
        yield more
