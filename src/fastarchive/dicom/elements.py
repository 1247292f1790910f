"""Data elements as the rest of the archive meets them: find, walk, encode; never decode.

Values are handed out little endian, as stored and with their padding; sequences inside them are explicit little
endian items, so that nobody above needs to know how a data set arrived.
"""

from fastarchive.dicom.data_sets import MAXIMUM_NESTING, encode, encode_element, encode_sequence, parse_sequence, walk
from fastarchive.dicom.headers import PIXEL_DATA_TAGS, Header, PixelElement, scan_header
from fastarchive.dicom.layout import LONG_VRS, SHORT_VRS, WORD_SIZE, Element, ElementError, IncompleteError, swap_bytes

__all__ = [
    "LONG_VRS",
    "MAXIMUM_NESTING",
    "PIXEL_DATA_TAGS",
    "SHORT_VRS",
    "WORD_SIZE",
    "Element",
    "ElementError",
    "Header",
    "IncompleteError",
    "PixelElement",
    "encode",
    "encode_element",
    "encode_sequence",
    "parse_sequence",
    "scan_header",
    "swap_bytes",
    "walk",
]
