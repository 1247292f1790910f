"""The data dictionary (PS3.6): tag, VR and keyword of the standard's attributes, cached."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from fastarchive.dicom import tables

# Where the dictionary leaves a choice that only other elements could settle, one VR is used throughout:
# the unsigned or word form, which is how PS3.5 A.1 has implicit VR pixel and lookup table data.
_ONE_OF_SEVERAL: Final[Mapping[str, str]] = {
    "US or SS": "US",
    "US or OW": "OW",
    "US or SS or OW": "OW",
    "OB or OW": "OW",
    "": "UN",
    "NONE": "UN",
}


@lru_cache(maxsize=16384)
def vr_of(tag: int) -> str:
    """The VR of an attribute, "UN" if the standard doesn't know it.

    Group lengths are UL (PS3.5 7.2) and private creators LO (PS3.5 7.8.1), whatever their group.
    """
    element = tag & 0xFFFF
    if element == 0:
        return "UL"
    if tag & 0x00010000:
        return "LO" if 0x10 <= element <= 0xFF else "UN"
    entry = tables.attribute_at(tag)
    return "UN" if entry is None else _ONE_OF_SEVERAL.get(entry[0], entry[0])


@lru_cache(maxsize=4096)
def depends_on_sign(tag: int) -> bool:
    """Whether the VR is US or SS, by Pixel Representation (PS3.5 A.1)."""
    entry = tables.attribute_at(tag)
    return entry is not None and entry[0] == "US or SS"


@lru_cache(maxsize=16384)
def keyword_of(tag: int) -> str:
    """The keyword of an attribute ("PatientName"), or its tag as eight hexadecimal digits if it has none."""
    if not tag & 0xFFFF:
        return "GroupLength"
    entry = tables.attribute_at(tag)
    return entry[4] if entry is not None and entry[4] else f"{tag:08X}"


@lru_cache(maxsize=4096)
def tag_of(keyword: str) -> int:
    """The tag of a keyword ("PatientName"); eight hexadecimal digits are taken as the tag itself.

    Raises KeyError if there is no such attribute.
    """
    tag = tables.TAGS.get(keyword)
    if tag is not None:
        return tag
    if len(keyword) == 8:
        try:
            return int(keyword, 16)
        except ValueError:
            pass
    raise KeyError(keyword)
