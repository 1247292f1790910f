"""The tables of the standard (PS3.6) as pydicom carries them, without the rest of pydicom.

``import pydicom`` takes a second of CPU and 25 MB, because it brings pixel decoders and a downloader along. The two
modules with the tables depend on nothing, so they are loaded from their files: a process that only moves instances
needs no more of it.
"""

import importlib.util
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

Entry = tuple[str, str, str, str, str]


def _load(name: str) -> ModuleType:
    package = importlib.util.find_spec("pydicom")  # finds the package and doesn't run it
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("pydicom is not installed", name="pydicom")
    path = Path(package.submodule_search_locations[0], f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"fastarchive.dicom.{name}", path)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"this pydicom has no {name}", name="pydicom")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_dictionary: Final[Any] = _load("_dicom_dict")

ATTRIBUTES: Final[Mapping[int, Entry]] = _dictionary.DicomDictionary
"""Tag → (VR, VM, name, "Retired" or "", keyword)."""
_REPEATING_MASKS: Final = tuple(
    (
        int(mask.replace("x", "0"), 16),
        int("".join("0" if digit == "x" else "F" for digit in mask), 16),
        entry,
    )
    for mask, entry in _dictionary.RepeatersDictionary.items()
)
UIDS: Final[Mapping[str, Entry]] = _load("_uid_dict").UID_dictionary
"""UID → (name, kind, information, "Retired" or "", keyword)."""
TAGS: Final[Mapping[str, int]] = {entry[4]: tag for tag, entry in ATTRIBUTES.items() if entry[4]}
"""Keyword → tag."""


def attribute_at(tag: int) -> Entry | None:
    """The entry of a tag, of a repeating group (like 60xx,3000) too; None if the standard has no such attribute."""
    entry = ATTRIBUTES.get(tag)
    if entry is None and not tag & 0x00010000:
        entry = next((found for value, mask, found in _REPEATING_MASKS if tag & mask == value), None)
    return entry
