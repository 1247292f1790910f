"""Transfer syntaxes: how the bytes of a data set are laid out (PS3.5 section 10 and Annex A)."""

from typing import Final, NamedTuple


class Encoding(NamedTuple):
    """The layout of data elements: whether the VR is written in each element, and the byte order."""

    explicit: bool
    little: bool


EXPLICIT_LITTLE: Final = Encoding(explicit=True, little=True)
IMPLICIT_LITTLE: Final = Encoding(explicit=False, little=True)
EXPLICIT_BIG: Final = Encoding(explicit=True, little=False)

IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2"
EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1"
DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_VR_BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"

_PAPYRUS_IMPLICIT_VR_LITTLE_ENDIAN: Final = "1.2.840.10008.1.20"
# A private syntax of older GE archives: implicit VR little endian elements, pixel data in big endian words.
_GE_PRIVATE_IMPLICIT_VR: Final = "1.2.840.113619.5.2"

_JPIP_REFERENCED: Final = ("1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.204")
_JPIP_REFERENCED_DEFLATE: Final = ("1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205")

_ENCAPSULATED_LOSSLESS: Final = (
    "1.2.840.10008.1.2.4.70",  # JPEG Lossless, First-Order Prediction
    "1.2.840.10008.1.2.4.57",  # JPEG Lossless, Process 14
    "1.2.840.10008.1.2.4.80",  # JPEG-LS Lossless
    "1.2.840.10008.1.2.4.90",  # JPEG 2000 Lossless
    "1.2.840.10008.1.2.4.201",  # HTJ2K Lossless
    "1.2.840.10008.1.2.4.202",  # HTJ2K Lossless RPCL
    "1.2.840.10008.1.2.4.110",  # JPEG XL Lossless
    "1.2.840.10008.1.2.5",  # RLE Lossless
    "1.2.840.10008.1.2.8.1",  # Deflated Image Frame Compression
    "1.2.840.10008.1.2.1.98",  # Encapsulated Uncompressed
    "1.2.840.10008.1.2.4.92",  # JPEG 2000 Part 2 Multi-component Lossless
)
_ENCAPSULATED_LOSSY: Final = (
    "1.2.840.10008.1.2.4.50",  # JPEG Baseline
    "1.2.840.10008.1.2.4.51",  # JPEG Extended
    "1.2.840.10008.1.2.4.81",  # JPEG-LS Near-Lossless
    "1.2.840.10008.1.2.4.91",  # JPEG 2000
    "1.2.840.10008.1.2.4.93",  # JPEG 2000 Part 2 Multi-component
    "1.2.840.10008.1.2.4.203",  # HTJ2K
    "1.2.840.10008.1.2.4.111",  # JPEG XL JPEG Recompression
    "1.2.840.10008.1.2.4.112",  # JPEG XL
    *(f"1.2.840.10008.1.2.4.{number}{suffix}" for number in range(100, 107) for suffix in ("", ".1")),  # MPEG2, MPEG-4
    "1.2.840.10008.1.2.4.107",  # HEVC Main
    "1.2.840.10008.1.2.4.108",  # HEVC Main 10
)
_ENCAPSULATED_RETIRED: Final = tuple(
    f"1.2.840.10008.1.2.4.{number}" for number in (58, 65, 66, *range(52, 57), *range(59, 65))
)

_ENCAPSULATED: Final = frozenset(_ENCAPSULATED_LOSSLESS + _ENCAPSULATED_LOSSY + _ENCAPSULATED_RETIRED)
_DEFLATED: Final = frozenset({DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN, *_JPIP_REFERENCED_DEFLATE})

ALL_TRANSFER_SYNTAXES: Final[tuple[str, ...]] = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    *_ENCAPSULATED_LOSSLESS,
    *_ENCAPSULATED_LOSSY,
    *_JPIP_REFERENCED,
    *_JPIP_REFERENCED_DEFLATE,
    *_ENCAPSULATED_RETIRED,
    _PAPYRUS_IMPLICIT_VR_LITTLE_ENDIAN,
)
"""Every transfer syntax a data set can have on an association, retired ones included, most welcome first.

Explicit before implicit, because it keeps the VR of private elements; lossless before lossy. The media-only
encodings (RFC 2557, XML) and real-time video over SMPTE ST 2110 never encode a C-STORE data set and are left out.
"""


def encoding_of(transfer_syntax: str) -> Encoding:
    """The element layout of a transfer syntax UID, after inflating where it is deflated.

    Encapsulated, deflated, private and unknown transfer syntaxes are Explicit VR Little Endian (PS3.5 A.4).
    """
    if transfer_syntax in {IMPLICIT_VR_LITTLE_ENDIAN, _PAPYRUS_IMPLICIT_VR_LITTLE_ENDIAN, _GE_PRIVATE_IMPLICIT_VR}:
        return IMPLICIT_LITTLE
    if transfer_syntax == EXPLICIT_VR_BIG_ENDIAN:
        return EXPLICIT_BIG
    return EXPLICIT_LITTLE


def is_encapsulated(transfer_syntax: str) -> bool:
    """Whether pixel data in this standard transfer syntax is a sequence of compressed fragments (PS3.5 A.4)."""
    return transfer_syntax in _ENCAPSULATED


def is_deflated(transfer_syntax: str) -> bool:
    """Whether the whole data set is a raw deflate stream (PS3.5 A.5)."""
    return transfer_syntax in _DEFLATED
