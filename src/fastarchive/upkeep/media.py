"""Exchange media: file names as PS3.10 8.2 wants them, and the DICOMDIR that lists the files (PS3.3 F).

pydicom makes the directory records from the headers of the instances; the files themselves are written from the
archive, byte for byte and one block at a time, to the places it chose.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, Final

from fastarchive.archive import Archive, NoSuchInstance
from fastarchive.dicom.part10 import encode_file_head
from fastarchive.dicom.transfer_syntaxes import is_deflated
from fastarchive.index.documents import Document
from fastarchive.store.blobs import DamagedInstance
from fastarchive.upkeep.export import Failure, Target

MOST_INSTANCES: Final = 10_000
"""More are no medium any more, and pydicom takes too long over them."""
_READ_WHOLE: Final = 64 << 20
# What directory records must have a value for (PS3.3 F.5) and instances often lack. Only the DICOMDIR says so, never a
# file; the values are those dcmmkdir invents.
_INVENTED: Final = {
    "PatientID": "UNKNOWN",
    "PatientName": "",
    "StudyDate": "19000101",
    "StudyTime": "000000",
    "StudyID": "0",
    "StudyDescription": "",
    "AccessionNumber": "",
    "Modality": "OT",
    "SeriesNumber": "0",
    "InstanceNumber": "0",
    "ContentDate": "19000101",
    "ContentTime": "000000",
}
_MAY_BE_EMPTY: Final = frozenset({"PatientName", "StudyDescription", "AccessionNumber"})


class DirectoryTooLarge(ValueError):
    """There are more instances than a DICOMDIR is made for."""


class MediaDirectory:
    """A DICOMDIR in the making; the instances in it keep the places it gave them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files = _file_set()
        self._names: dict[str, PurePosixPath] = {}
        self.failures: list[Failure] = []
        """Instances that can't be listed: a directory record needs more of them than can be invented."""

    def add(self, archive: Archive, documents: Iterable[Document], advance: Callable[[], object]) -> None:
        """List the instances. Raises DirectoryTooLarge, OSError."""
        for document in documents:
            if len(self._files) >= MOST_INSTANCES:
                raise DirectoryTooLarge(f"a DICOMDIR of more than {MOST_INSTANCES} instances is not made")
            try:
                self._files.add(_completed(_header(archive, document.instance)))
            except (OSError, DirectoryTooLarge):
                raise
            except DamagedInstance as error:
                self.failures.append(Failure(document.instance, error.reason))
            except NoSuchInstance:
                self.failures.append(Failure(document.instance, "it was deleted meanwhile"))
            except Exception as error:  # pydicom raises many kinds for data sets that keep to no rule
                self.failures.append(Failure(document.instance, f"no directory record: {_reason(error)}"))
            advance()

    def finish(self) -> None:
        """Choose the places and make the DICOMDIR. Raises OSError."""
        self._files.adding = False
        self._files.write(self._folder)
        for entry in self._files:
            self._names[entry.SOPInstanceUID] = PurePosixPath(*Path(entry.FileID).parts)

    def lists(self, document: Document) -> bool:
        """Whether an instance is listed."""
        return document.instance in self._names

    def name(self, document: Document) -> PurePosixPath:
        """Where its file belongs. Raises KeyError for what isn't listed."""
        return self._names[document.instance]

    def write(self, target: Target) -> None:
        """Write the DICOMDIR. Raises OSError."""
        target.write(PurePosixPath("DICOMDIR"), (Path(self._folder, "DICOMDIR").read_bytes(),))


@contextmanager
def media_directory() -> Iterator[MediaDirectory]:
    """A directory in the making, with a temporary folder for as long as it takes."""
    with TemporaryDirectory(prefix="fastarchive-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's, about values that don't keep to the standard: they are kept as is
        yield MediaDirectory(Path(folder))


def _file_set() -> Any:
    from pydicom.fileset import FileSet

    class Files(FileSet):  # type: ignore[misc]  # pydicom is not typed
        """Doesn't compare each instance with all before: they differ, and it would take the square of their number."""

        adding = True

        def __iter__(self) -> Iterator[Any]:
            return iter(()) if self.adding else super().__iter__()

    return Files()


def _header(archive: Archive, sop_instance: str) -> Any:
    """The instance without its pixels, as pydicom sees it. Raises whatever pydicom does."""
    from pydicom import dcmread

    reader = archive.read(sop_instance)
    record = reader.record
    head = encode_file_head(record.transfer_syntax, record.sop_class, record.sop_instance)
    if len(record.blocks) == 1 or (is_deflated(record.transfer_syntax) and record.length <= _READ_WHOLE):
        content = reader.read()
    else:
        content = reader.header()
    return dcmread(io.BytesIO(head + content), stop_before_pixels=True)


def _completed(data_set: Any) -> Any:
    """The header with a value wherever a directory record needs one."""
    for keyword, value in _INVENTED.items():
        if keyword not in data_set or (keyword not in _MAY_BE_EMPTY and data_set[keyword].is_empty):
            setattr(data_set, keyword, value)
    return data_set


def _reason(error: Exception) -> str:
    """What pydicom says, without what it may quote of the data set."""
    text = str(error)
    known = text.partition("record creator: ")[2].partition(". See DICOM")[0]
    return known or type(error).__name__
