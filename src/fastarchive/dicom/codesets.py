"""The coded character sets that ISO 2022 switches between in DICOM text (PS3.3 Tables C.12-2 to C.12-4)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class CodeSet:
    """One code element: 94 or 96 characters of one byte, or 94 × 94 of two.

    `codec` decodes bytes of G1 as they are. Sets of G0 are brought there first, with `prefix` before each character.
    """

    escape: bytes
    codec: str
    in_g1: bool
    wide: bool = False
    prefix: bytes = b""
    yen: bool = False
    """ISO-IR 14, JIS X 0201 Romaji: ASCII but for a yen sign and an overline."""

    def decode(self, run: bytes) -> str:
        """The characters of a run of bytes, all of this set; U+FFFD for what isn't in it."""
        if self.in_g1:
            return run.decode(self.codec, "replace")
        if not self.wide:
            text = run.decode("ascii", "replace")
            return text.translate(_YEN) if self.yen else text
        raised = run.translate(_RAISED)
        if not self.prefix:
            try:
                return raised.decode(self.codec)
            except UnicodeDecodeError:
                pass  # pair by pair, so that one bad pair costs one character
        return "".join(
            (self.prefix + raised[start : start + 2]).decode(self.codec, "replace")[:1]
            for start in range(0, len(raised), 2)
        )

    def encode(self, character: str) -> bytes | None:
        """The bytes of one character, without escape sequence; None if this set has no such character."""
        if self.yen:
            if character in "\\~":
                return None
            character = {"¥": "\\", "‾": "~"}.get(character, character)
        try:
            encoded = character.encode(self.codec)
        except UnicodeEncodeError:
            return None
        if self.in_g1:
            fits = len(encoded) == (2 if self.wide else 1) and encoded[0] >= 0xA0
            return encoded if fits else None
        if not self.wide:
            return encoded
        if len(encoded) != len(self.prefix) + 2 or not encoded.startswith(self.prefix) or encoded[0] == 0x8E:
            return None
        return bytes(byte & 0x7F for byte in encoded[len(self.prefix) :])


_RAISED: Final = bytes(byte | 0x80 for byte in range(256))
_YEN: Final = {ord("~"): "‾"}

ASCII: Final = CodeSet(b"\x1b(B", "ascii", in_g1=False)
_ROMAJI: Final = CodeSet(b"\x1b(J", "ascii", in_g1=False, yen=True)
_KATAKANA: Final = CodeSet(b"\x1b)I", "shift_jis", in_g1=True)
_KANJI: Final = CodeSet(b"\x1b$B", "euc_jp", in_g1=False, wide=True)
_SUPPLEMENTARY_KANJI: Final = CodeSet(b"\x1b$(D", "euc_jp", in_g1=False, wide=True, prefix=b"\x8f")
_KOREAN: Final = CodeSet(b"\x1b$)C", "euc_kr", in_g1=True, wide=True)
_CHINESE: Final = CodeSet(b"\x1b$)A", "gb2312", in_g1=True, wide=True)


def _latin(final: bytes, codec: str) -> CodeSet:
    return CodeSet(b"\x1b-" + final, codec, in_g1=True)


BY_TERM: Final[Mapping[int, tuple[CodeSet, ...]]] = {
    6: (ASCII,),
    13: (_ROMAJI, _KATAKANA),
    58: (_CHINESE,),
    87: (_KANJI,),
    100: (_latin(b"A", "iso8859-1"),),
    101: (_latin(b"B", "iso8859-2"),),
    109: (_latin(b"C", "iso8859-3"),),
    110: (_latin(b"D", "iso8859-4"),),
    126: (_latin(b"F", "iso8859-7"),),
    127: (_latin(b"G", "iso8859-6"),),
    138: (_latin(b"H", "iso8859-8"),),
    144: (_latin(b"L", "iso8859-5"),),
    148: (_latin(b"M", "iso8859-9"),),
    149: (_KOREAN,),
    159: (_SUPPLEMENTARY_KANJI,),
    166: (_latin(b"T", "tis-620"),),
    192: (),
    203: (_latin(b"b", "iso8859-15"),),
}
"""The code elements of each defined term, by the ISO-IR number in it; none for 192, which is no part of ISO 2022."""

EXTENSION_ONLY: Final = frozenset((58, 87, 149, 159))
"""The sets that exist as code extensions only (PS3.3 Table C.12-4)."""

_BY_ESCAPE: Final[Mapping[bytes, CodeSet]] = {
    code_set.escape: code_set for family in BY_TERM.values() for code_set in family
} | {b"\x1b$@": _KANJI, b"\x1b$(B": _KANJI, b"\x1b(I": _KATAKANA}


def designated(value: bytes, position: int) -> tuple[CodeSet | None, int]:
    """What the escape sequence at `position` switches to, and where it ends; None if DICOM has no such sequence."""
    for length in (4, 3):
        code_set = _BY_ESCAPE.get(value[position : position + length])
        if code_set is not None:
            return code_set, position + length
    after = position + 1
    while after < len(value) and 0x20 <= value[after] <= 0x2F:
        after += 1
    return None, min(after + 1, len(value))
