"""Instances as DICOM files (PS3.10) in folders or in a zip file, in bounded memory whatever their number and size."""

from __future__ import annotations

import os
import re
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Final, Protocol, Self

from blake3 import blake3

from fastarchive.archive import Archive, NoSuchInstance
from fastarchive.dicom.part10 import encode_file_head
from fastarchive.dicom.transfer_syntaxes import is_deflated, is_encapsulated
from fastarchive.index.documents import Document, has_patient_id
from fastarchive.store.blobs import DamagedInstance, Reader
from fastarchive.store.filters import Buffer

_LONGEST_NAME: Final = 120
"""Bytes of one folder's name; UIDs and Patient IDs that keep to the standard are at most 64 characters."""
_IN_MEMORY: Final = 16 << 20
_COPY_PIECE: Final = 1 << 20
_UNSAFE: Final = re.compile(r"[^\w.^ -]")
_RESERVED: Final = re.compile(r"(CON|PRN|AUX|NUL|COM\d|LPT\d)(\..*)?", re.IGNORECASE)
_ZIP64: Final = 1 << 31


@dataclass(frozen=True, slots=True)
class Failure:
    """An instance that was not exported, and why."""

    sop_instance: str
    reason: str


@dataclass(slots=True)
class ExportReport:
    """What was exported."""

    instances: int = 0
    bytes: int = 0
    """Of the files, file meta information included."""
    seconds: float = 0.0
    failures: list[Failure] = field(default_factory=list)


class Target(Protocol):
    """Where files go."""

    def write(self, name: PurePosixPath, chunks: Iterable[Buffer], *, compressible: bool = True) -> int:
        """Write a file, whole or not at all; its bytes. Raises what `chunks` raises, and OSError."""


class FolderTarget:
    """Files below a folder, which is made where it is missing. What is there under the same names is replaced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, name: PurePosixPath, chunks: Iterable[Buffer], *, compressible: bool = True) -> int:
        """See :class:`Target`."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(path.name + ".partial")
        size = 0
        try:
            with partial.open("wb") as file:
                for chunk in chunks:
                    size += file.write(chunk)
            partial.rename(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        return size


class ZipTarget:
    """A zip file, which has its name once it is whole. A context manager; left by an exception there is no file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        with ExitStack() as resources:
            self._file = resources.enter_context(self._partial.open("wb"))
            self._zip = resources.enter_context(zipfile.ZipFile(self._file, "w", compresslevel=1))
            self._resources = resources.pop_all()

    def __enter__(self) -> Self:
        return self

    def write(self, name: PurePosixPath, chunks: Iterable[Buffer], *, compressible: bool = True) -> int:
        """See :class:`Target`."""
        # A member can't be taken back: what turns out to be damaged at its end must not have been begun.
        with tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(self._path.parent)) as whole:
            for chunk in chunks:  # one by one: writelines() looks at the size only at the end
                whole.write(chunk)
            size = whole.tell()
            whole.seek(0)
            info = zipfile.ZipInfo(str(name), time.localtime()[:6])
            info.compress_type = zipfile.ZIP_DEFLATED if compressible else zipfile.ZIP_STORED
            info.external_attr = 0o644 << 16
            with self._zip.open(info, "w", force_zip64=size >= _ZIP64) as member:
                while piece := whole.read(_COPY_PIECE):
                    member.write(piece)
        return size

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._zip.close()
                self._file.flush()
                os.fsync(self._file.fileno())
                self._partial.rename(self._path)
        finally:
            self._resources.close()
            self._partial.unlink(missing_ok=True)


def export(
    archive: Archive,
    documents: Iterable[Document],
    target: Target,
    *,
    name: Callable[[Document], PurePosixPath] | None = None,
    advance: Callable[[], object] = lambda: None,
) -> ExportReport:
    """Write every instance to `target`. `name` gives the path of each, by default :func:`path_of`.

    An instance that is damaged, or was deleted meanwhile, is reported and the others go on. Raises OSError when the
    target can't be written.
    """
    report = ExportReport()
    started = time.monotonic()
    for document in documents:
        try:
            reader = archive.read(document.instance)
            size = target.write(
                (name or path_of)(document), file_chunks(reader), compressible=_is_compressible(document)
            )
        except DamagedInstance as error:
            report.failures.append(Failure(document.instance, error.reason))
        except NoSuchInstance:
            report.failures.append(Failure(document.instance, "it was deleted meanwhile"))
        else:
            report.instances += 1
            report.bytes += size
        advance()
    report.seconds = time.monotonic() - started
    return report


def file_chunks(reader: Reader) -> Iterator[Buffer]:
    """A stored instance as the bytes of a DICOM file. Raises DamagedInstance."""
    record = reader.record
    yield encode_file_head(record.transfer_syntax, record.sop_class, record.sop_instance, record.calling_ae)
    yield from reader.chunks()


def path_of(document: Document) -> PurePosixPath:
    """Patient ID / Study Instance UID / Series Instance UID / SOP Instance UID.dcm, each as :func:`safe_name`."""
    patient = document.patient if has_patient_id(document.patient) else "no patient ID"
    return PurePosixPath(
        safe_name(patient),
        safe_name(document.study),
        safe_name(document.series),
        safe_name(document.instance) + ".dcm",
    )


def safe_name(text: str) -> str:
    """A name that any file system takes, for text from anywhere; different names for different texts.

    What had to be changed, or cut off, gets a few digits of its digest.
    """
    name = _UNSAFE.sub("_", text)
    while len(name.encode()) > _LONGEST_NAME:
        name = name[: len(name) - 1]
    name = name.strip(" .")
    if name == text and name and not _RESERVED.fullmatch(name):
        return name
    return f"{name or 'unnamed'}-{blake3(text.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _is_compressible(document: Document) -> bool:
    return not (is_encapsulated(document.transfer_syntax) or is_deflated(document.transfer_syntax))
