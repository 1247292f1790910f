"""Specific Character Sets (0008,0005): the text in bytes, and bytes again (PS3.3 C.12.1.1.2, PS3.5 6.1).

Code extensions (ISO 2022) are decoded here rather than by pydicom's tables, because the state has to return to the
initial sets at each delimiter (rule X2), delimiters can be bytes of other characters (X1), and nothing may fail (X7).
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from fastarchive.dicom import codesets
from fastarchive.dicom.codesets import ASCII, CodeSet

TEXT_VRS: Final = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))
"""The VRs the Specific Character Set is for (PS3.5 6.1.2.2); all others are in the default repertoire."""
SINGLE_VALUED_VRS: Final = frozenset(("LT", "ST", "UR", "UT"))
"""The VRs in which a backslash is a character and no delimiter (PS3.5 6.2)."""

_ESCAPE: Final = 0x1B
_CONTROL_DELIMITERS: Final = frozenset(b"\t\n\f\r")
_DELIMITERS_OF_TEXT: Final = _CONTROL_DELIMITERS | frozenset(b"\\")
_DELIMITERS_OF_NAMES: Final = _DELIMITERS_OF_TEXT | frozenset(b"^=")

_STAND_ALONE: Final[Mapping[str, str]] = {"ISO_IR 192": "utf-8", "GB18030": "gb18030", "GBK": "gbk"}
_MISSPELLINGS: Final[Mapping[str, str]] = {
    "UTF8": "ISO_IR 192",
    "ISO2022IR192": "ISO_IR 192",
    "ISO2022GBK": "GBK",
    "GB2312": "GBK",
    "ISO2022GB18030": "GB18030",
    "ISO202258": "ISO 2022 IR 58",
    "ISO202287": "ISO 2022 IR 87",
    "ISO2022149": "ISO 2022 IR 149",
    "LATIN1": "ISO_IR 100",
    "ISO88591": "ISO_IR 100",
    "ASCII": "ISO_IR 6",
    "ISO646": "ISO_IR 6",
}
_TERMS: Final[Mapping[str, str]] = {
    re.sub("[^A-Z0-9]", "", term): term
    for number in codesets.BY_TERM
    for term in (f"ISO_IR {number}", f"ISO 2022 IR {number}")
    if not (number in codesets.EXTENSION_ONLY and term.startswith("ISO_IR"))
} | {re.sub("[^A-Z0-9]", "", term): term for term in _STAND_ALONE}


@dataclass(frozen=True, slots=True)
class CharacterSet:
    """One value of Specific Character Set, ready to decode and encode with. Immutable; `parse` returns shared ones."""

    terms: tuple[str, ...]
    """The defined terms in their proper spelling, as they were repaired; () for the default repertoire."""
    codec: str | None
    """The codec of a set that needs no code extensions; None if it does."""
    initial: tuple[CodeSet, CodeSet | None]
    """What G0 and G1 are at the start and after each delimiter."""
    extensions: tuple[CodeSet, ...]
    unknown_terms: tuple[str, ...] = ()
    """What was given and is no defined term (rule X7)."""

    @staticmethod
    def parse(value: bytes | None, override: str | None = None, *, assumed: str | None = None) -> "CharacterSet":
        r"""The character set an element (0008,0005) with this value announces.

        `override` (terms separated by backslashes) is used whatever the value says, for senders known to lie; `assumed`
        where it says nothing. Never fails: misspelt terms are repaired, unknown ones left out (rules X4, X7, M2).
        """
        text = bytes(value or b"")
        # No value of this length makes sense, and kept in the cache they would fill the memory.
        parse = _parse if len(text) <= _LONGEST_KEPT else _parse.__wrapped__
        return parse(text, override, assumed)

    @property
    def is_default(self) -> bool:
        """Whether this is the default repertoire, ISO_IR 6."""
        return not self.terms or self.terms == ("ISO_IR 6",)

    @property
    def begins_with_ascii(self) -> bool:
        """Whether bytes below 0x80 are ASCII until an escape sequence; in ISO_IR 13 they are not all."""
        return self.initial[0] is ASCII

    @property
    def value(self) -> bytes:
        """The value of (0008,0005) that announces this set, unpadded."""
        return "\\".join(self.terms).encode("ascii")

    def decode(self, value: bytes, vr: str) -> str:
        r"""The text of a value, padding included; `\`, `^` and `=` in it are delimiters, never parts of characters.

        Never raises: what can't be decoded becomes U+FFFD. Bytes above 127 where the default repertoire was announced
        are read as UTF-8 if they are that, else as Latin alphabet No. 1, so that nothing is lost.
        """
        if value.isascii() and _ESCAPE not in value and self.initial[0] is ASCII:
            return value.decode("ascii")
        if vr not in TEXT_VRS:
            return _undeclared(value)
        if self.codec is not None and (_ESCAPE not in value or self.terms[0] in _STAND_ALONE):
            return value.decode(self.codec, "replace")
        if self.is_default and _ESCAPE not in value:
            return _undeclared(value)
        return self._decode_extended(value, vr)

    def decode_values(self, value: bytes, vr: str) -> list[str]:
        """The values of an element, padding included; split after decoding (rule X1), but for LT, ST, UR and UT."""
        text = self.decode(value, vr)
        return [text] if vr in SINGLE_VALUED_VRS else text.split("\\")

    def encode(self, text: str, vr: str) -> bytes | None:
        r"""The bytes of `text` in this set, unpadded; None if it can't hold it. Backslashes delimit, as in `decode`."""
        if text.isascii() and self.initial[0] is ASCII:
            return text.encode("ascii")
        if vr not in TEXT_VRS or self.is_default:
            return None
        if self.codec is not None:
            try:
                return text.encode(self.codec)
            except UnicodeEncodeError:
                return None
        return self._encode_extended(text, vr)

    def _decode_extended(self, value: bytes, vr: str) -> str:
        delimiters = _delimiters(vr)
        g0, g1 = self.initial
        parts: list[str] = []
        position, end = 0, len(value)
        while position < end:
            byte = value[position]
            start = position
            if byte == _ESCAPE:
                code_set, position = codesets.designated(value, position)
                if code_set is None:
                    parts.append("\ufffd")
                elif code_set.in_g1:
                    g1 = code_set
                else:
                    g0 = code_set
                continue
            if byte in delimiters and not (g0.wide and byte > 0x20):
                parts.append(chr(byte))
                g0, g1 = self.initial
                position += 1
                continue
            high = byte >= 0x80
            if not high and (byte <= 0x20 or byte == 0x7F):
                parts.append(chr(byte))
                position += 1
                continue
            code_set = (g1 or self._only_extension_of_g1()) if high else g0
            width = 2 if code_set is not None and code_set.wide else 1
            while position < end:
                byte = value[position]
                if (byte >= 0x80) != high or byte <= 0x20 or (width == 1 and byte in delimiters):
                    break
                position += width
            run = value[start:position]
            parts.append(_undeclared(run) if code_set is None else code_set.decode(run))
        return "".join(parts)

    def _only_extension_of_g1(self) -> CodeSet | None:
        # Senders forget to repeat the escape sequence after a delimiter. Where value 1 has nothing in G1 such bytes
        # mean nothing by the standard, so they can be given the only meaning left.
        candidates = [code_set for code_set in self.extensions if code_set.in_g1]
        return candidates[0] if len(candidates) == 1 else None

    def _encode_extended(self, text: str, vr: str) -> bytes | None:
        delimiters = _delimiters(vr)
        start0, start1 = g0, g1 = self.initial
        encoded = bytearray()
        for character in text:
            code = ord(character)
            if code in delimiters or code <= 0x20:
                if code in delimiters:
                    if g0 is not start0:
                        encoded += start0.escape
                    g0, g1 = start0, start1
                elif g0.wide:
                    g0 = start0
                    encoded += g0.escape
                encoded.append(code)
                continue
            for code_set in (g0, g1, *self.extensions, start0, start1, ASCII):
                if code_set is None:
                    continue
                piece = code_set.encode(character)
                # A byte that would be taken for a delimiter can't stand for a character (rule X3).
                if piece is None or (not code_set.wide and piece[0] in delimiters):
                    continue
                if code_set is not g0 and code_set is not g1:
                    if not self.extensions:
                        continue
                    encoded += code_set.escape
                    if code_set.in_g1:
                        g1 = code_set
                    else:
                        g0 = code_set
                encoded += piece
                break
            else:
                return None
        if g0 is not start0:
            encoded += start0.escape
        return bytes(encoded)


def _delimiters(vr: str) -> frozenset[int]:
    """The bytes that return code extensions to their initial state in a value of this VR (PS3.5 6.1.2.5.3)."""
    if vr == "PN":
        return _DELIMITERS_OF_NAMES
    return _CONTROL_DELIMITERS if vr in SINGLE_VALUED_VRS else _DELIMITERS_OF_TEXT


def _undeclared(value: bytes) -> str:
    """Bytes that should have been in the default repertoire."""
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return value.decode("latin-1")


_LONGEST_KEPT: Final = 256


@lru_cache(maxsize=1024)
def _parse(value: bytes, override: str | None, assumed: str | None) -> CharacterSet:
    text = (
        override
        if override is not None
        else value.decode("ascii", "replace").strip("\0 \\" if b"\\" not in value else "\0 ")
    )
    if not text.strip("\\ ") and assumed is not None:
        text = assumed
    terms: list[str] = []
    unknown: list[str] = []
    for given in text.split("\\") if text.strip("\\ ") else ():
        key = re.sub("[^A-Z0-9]", "", given.upper())
        term = "" if not key else _TERMS.get(key) or _MISSPELLINGS.get(key)
        if term is None:
            unknown.append(given.strip())
        elif term or not terms:
            terms.append(term)
    return _of_terms(_repaired(terms), tuple(unknown))


def _repaired(terms: Sequence[str]) -> tuple[str, ...]:
    """Terms without the combinations that rule X4 forbids."""
    if not terms:
        return ()
    for term in terms:
        # After the default repertoire, a part of each of them, such a set is what the text must be in.
        if term in _STAND_ALONE and (term == terms[0] or terms[0] in {"", "ISO_IR 6", "ISO 2022 IR 6"}):
            return (term,)
    kept = tuple(term for term in terms if term not in _STAND_ALONE)
    if len(kept) == 1:
        return () if kept[0] in {"", "ISO 2022 IR 6"} else kept
    # Only sets named "ISO 2022 IR n" can be switched to, or from (PS3.3 Table C.12-3, C.12-4).
    return tuple(term.replace("ISO_IR", "ISO 2022 IR") for term in kept)


def _of_terms(terms: tuple[str, ...], unknown: tuple[str, ...]) -> CharacterSet:
    if terms and terms[0] in _STAND_ALONE:
        return CharacterSet(terms, _STAND_ALONE[terms[0]], (ASCII, None), (), unknown)
    families = [codesets.BY_TERM[int(term.rpartition(" ")[2])] if term else (ASCII,) for term in terms]
    initial: tuple[CodeSet, CodeSet | None] = (ASCII, None)
    if families:
        first = families[0]
        g0 = next((code_set for code_set in first if not code_set.in_g1 and not code_set.wide), ASCII)
        initial = (g0, next((code_set for code_set in first if code_set.in_g1), None))
    extended = len(terms) > 1 or (bool(terms) and terms[0].startswith("ISO 2022"))
    extensions = tuple(code_set for family in families for code_set in family) if extended else ()
    codec = None
    if initial[0] is ASCII and initial[1] is not None and not extended:
        codec = initial[1].codec
    return CharacterSet(terms, codec, initial, extensions, unknown)


DEFAULT: Final = CharacterSet.parse(None)
"""The default repertoire, ISO_IR 6."""
UTF8: Final = CharacterSet.parse(b"ISO_IR 192")
"""Unicode in UTF-8, ISO_IR 192."""
