"""The tables of the standard are pydicom's own, looked up the same way, without loading pydicom."""

from __future__ import annotations

import subprocess
import sys

from hypothesis import given
from hypothesis import strategies as st
from pydicom import datadict
from pydicom._dicom_dict import DicomDictionary, RepeatersDictionary
from pydicom.uid import UID_dictionary

from fastarchive.dicom import tables

repeating = st.builds(
    lambda mask, digits: int("".join(digits[i] if c == "x" else c for i, c in enumerate(mask)), 16),
    st.sampled_from(list(RepeatersDictionary)),
    st.text("0123456789abcdef", min_size=8, max_size=8),
)


def test_tables_are_those_of_pydicom() -> None:
    # Users of pydicom may add to its dictionary in their process; nothing of it may be missing here or differ.
    assert tables.ATTRIBUTES.items() <= DicomDictionary.items()
    assert tables.UIDS.items() <= UID_dictionary.items()
    assert tables.TAGS.items() <= datadict.keyword_dict.items()
    assert len(tables.ATTRIBUTES) > 5000


@given(st.one_of(repeating, st.sampled_from(list(DicomDictionary)), st.integers(0, 0xFFFFFFFF)))
def test_entries_are_found_as_pydicom_finds_them(tag: int) -> None:
    try:
        expected = datadict.get_entry(tag)
    except KeyError:
        expected = None
    assert tables.attribute_at(tag) == expected


def test_no_process_of_the_archive_loads_all_of_pydicom() -> None:
    code = (
        "import sys, fastarchive.server.worker, fastarchive.server.indexer; raise SystemExit('pydicom' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
