"""An archive as one small object: store, index and query over one directory, usable without any network.

    with Archive.open(Path("archive")) as archive:
        archive.import_file(Path("slice.dcm"))
        for row in archive.find("STUDY", {"PatientName": "SMITH*"}):
            print(row["StudyInstanceUID"])

Everything here blocks and may be called from any thread; the services call it from theirs. An archive may be open in
any number of processes at once: each appends to packs of its own, one of them writes the index, all of them see
everything that is durable.
"""

from __future__ import annotations

import errno
import shutil
import threading
import zlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO, Final, Self

from fastarchive.admission import Admission, ConflictPolicies, Outcome, Receipt
from fastarchive.dicom.attributes import SPECIFIC_CHARACTER_SET, STORED_TAGS, Level
from fastarchive.dicom.charsets import CharacterSet
from fastarchive.dicom.elements import scan_header
from fastarchive.dicom.part10 import (
    HEAD_LENGTH,
    MEDIA_STORAGE_DIRECTORY,
    NotDicomFile,
    encode_file_head,
    parse_file_head,
)
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE, encoding_of, is_deflated
from fastarchive.index.current import Index
from fastarchive.index.renewing import Renewing
from fastarchive.index.view import View
from fastarchive.index.writer import IndexBusy, IndexWriter
from fastarchive.plain import PlainInstances
from fastarchive.query import keywords
from fastarchive.query.explain import Explanation
from fastarchive.query.headers import HeaderReader, StoredHeader
from fastarchive.store.appends import OwnPacks
from fastarchive.store.blobs import Blobs, DamagedInstance, Reader
from fastarchive.store.compacted import read_compacted
from fastarchive.store.damage import DamageList
from fastarchive.store.intake import HEADER_LIMIT, SPILL, Intake
from fastarchive.store.line import open_line
from fastarchive.store.log import SEAL_SIZE, Log
from fastarchive.store.mirror import MirrorWait
from fastarchive.store.pack import list_packs, used_bytes
from fastarchive.store.record import Location
from fastarchive.store.recovery import RecoveryReport, recover
from fastarchive.store.writers import LogStatus

__all__ = ["Archive", "NoSuchInstance", "Outcome", "ReadOnlyArchive", "Receipt"]

_READ_SIZE: Final = 2**20


class ReadOnlyArchive(RuntimeError):
    """Something was to be stored in an archive that is open for reading only."""


class NoSuchInstance(KeyError):
    """The archive holds no instance of that SOP Instance UID."""


class Archive:
    """One archive directory, open in this process. Use :meth:`open`; a context manager that closes in order."""

    def __init__(
        self,
        directory: Path,
        index: Index,
        log: Log | None,
        resources: ExitStack,
        *,
        mirror: Path | None = None,
        own: OwnPacks | None = None,
        conflicts: ConflictPolicies | None = None,
    ) -> None:
        self.directory = directory
        self._mirror = mirror
        self._own = own or OwnPacks()
        self._plain: PlainInstances | None = None
        self._spool = directory / "spool"
        self.index = index
        self.damage = DamageList(directory)
        damage = None if log is None else self.damage
        self.blobs = Blobs(directory, mirror=mirror, damage=damage, relocate=self._moved)
        self._log = log
        self._resources = resources
        self._admission = Admission(index, self.blobs, conflicts)
        self.recovery: RecoveryReport | None = None

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        read_only: bool = False,
        write_index: bool = True,
        recover_packs: bool = True,
        seal_size: int = SEAL_SIZE,
        reserve_bytes: int = 0,
        commit_seconds: float = 1.0,
        renew_apart: bool = False,
        mirror: Path | None = None,
        mirror_wait: str = MirrorWait.BOTH,
        conflicts: ConflictPolicies | None = None,
    ) -> Self:
        """Open, and create where needed, the archive in ``directory``.

        read_only: nothing is written, not even the index; works beside running processes. write_index: write the index
        in a thread of this process, unless another process already does. recover_packs: first settle what crashed
        processes left open. seal_size: bytes after which a pack is closed for good. reserve_bytes: free disk space
        below which nothing is stored. commit_seconds: longest time between an append and its commit to the index.
        renew_apart: open new commits in a thread, so that nothing else waits for it; for a process that lives long.
        mirror: an existing folder for a second copy of every pack; what is damaged here is read from there.
        mirror_wait: "both" or "one", how many copies an acknowledgement waits for. conflicts: what becomes of another
        data set under a SOP Instance UID that is stored; by default it is refused.

        Raises FileNotFoundError for a read-only archive or a mirror that is not there, OSError when the directory can't
        be used.
        """
        if read_only and not (directory / "packs").is_dir():
            raise FileNotFoundError(f"there is no archive in {directory}")
        if mirror is not None and not mirror.is_dir():
            raise FileNotFoundError(errno.ENOENT, "there is no folder for the mirror", str(mirror))
        with ExitStack() as resources:
            report = None
            log = None
            if not read_only:
                # Patient data is no business of other users of the machine.
                directory.mkdir(mode=0o750, parents=True, exist_ok=True)
                for name in ("packs", "spool", "run"):
                    (directory / name).mkdir(exist_ok=True)
                report = recover(directory, mirror=mirror) if recover_packs else None
            own = OwnPacks()
            index = Index(directory, mirror=mirror, own=own, renewed_apart=renew_apart)
            resources.callback(index.close)
            if renew_apart:
                resources.callback(Renewing(index).stop)
            if not read_only:
                if write_index:
                    _start_index_writer(directory, resources, commit_seconds, mirror)
                log = Log(
                    directory,
                    seal_size=seal_size,
                    reserve_bytes=reserve_bytes,
                    mirror=mirror,
                    mirror_wait=MirrorWait(mirror_wait),
                    own=own,
                )
                resources.callback(log.close)
            archive = cls(directory, index, log, resources.pop_all(), mirror=mirror, own=own, conflicts=conflicts)
            archive.recovery = report
            return archive

    def close(self) -> None:
        """Wait for what is being appended, seal the pack, bring the index up to date, release everything."""
        self._resources.close()
        self.blobs.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ---------------------------------------------------------------- taking in

    def receive(
        self,
        *,
        transfer_syntax: str,
        sop_class: str = "",
        sop_instance: str = "",
        calling_ae: str = "",
        called_ae: str = "",
        character_set: str = "",
    ) -> Intake:
        """An intake for one data set; write its bytes, then give it to :meth:`submit`.

        sop_class, sop_instance: what the sender says the data set is; empty when it doesn't say. character_set: what
        queries are to read its text in, whatever it declares.
        """
        log = self._writable()
        return Intake(
            transfer_syntax=transfer_syntax,
            sop_class=sop_class,
            sop_instance=sop_instance,
            calling_ae=calling_ae,
            called_ae=called_ae,
            character_set=character_set,
            spool_directory=self._spool,
            reserve_bytes=log.reserve_bytes,
            is_known=self._admission.is_known,
        )

    def submit(self, intake: Intake) -> Future[Receipt]:
        """Finish an intake and hand its record to the log, unless it is there already.

        The work on the bytes is done before this returns; the future resolves when the record is durable, or at once if
        nothing has to be written. It fails with NoSpace or LogBroken when nothing was stored. The intake is closed by
        the caller, after the future has resolved.

        Raises IntakeError when the data set can't be stored, OSError when spool or index can't be used, and NoSpace or
        LogBroken where a conflict is settled before it returns.
        """
        return self._admission.admit(intake, self._writable())

    def submit_promptly(self, intake: Intake) -> Future[Receipt] | None:
        """As :meth:`submit` for an intake of a small data set, for a caller that must not wait, like an event loop.
        None when that would take more than a moment: nothing was stored then, and :meth:`submit` is to do it."""
        return self._admission.admit_promptly(intake, self._writable())

    def plain_instances(self, makers: int) -> PlainInstances | None:
        """The shortest way in, for one event loop, with work on `makers` data sets at a time. None where there is none:
        without a library for it, and with a mirror. Asked again, the same."""
        log = self._writable()
        if self._plain is None and self._mirror is None:
            line = open_line(
                self.directory,
                STORED_TAGS,
                seal_size=log.seal_size,
                reserve_bytes=log.reserve_bytes,
                own=self._own,
                makers=makers,
            )
            if line is not None:
                self._plain = PlainInstances(self._admission, line)
                self._resources.callback(self._plain.close)
        return self._plain

    def store(
        self,
        data_set: bytes,
        *,
        transfer_syntax: str,
        sop_class: str = "",
        sop_instance: str = "",
        calling_ae: str = "",
        called_ae: str = "",
    ) -> Receipt:
        """Store one data set (without file meta information) and return when it is durable.

        Raises IntakeError, NoSpace, LogBroken as :meth:`submit`.
        """
        intake = self.receive(
            transfer_syntax=transfer_syntax,
            sop_class=sop_class,
            sop_instance=sop_instance,
            calling_ae=calling_ae,
            called_ae=called_ae,
        )
        try:
            intake.write(data_set)
            return self.submit(intake).result()
        finally:
            intake.close()

    def import_file(
        self,
        path: Path,
        *,
        calling_ae: str = "",
        character_set: str = "",
        character_sets: Mapping[str, str] = MappingProxyType({}),
    ) -> Receipt:
        """Store a DICOM file (PS3.10), in bounded memory whatever its size.

        character_set: what queries are to read its text in, whatever it declares; without it that of the AE it came
        from (``calling_ae``, else the file's Source Application Entity Title) in ``character_sets``, if there is one.

        The data set says which instance it is; a file meta information that says otherwise is not believed.

        Raises NotDicomFile for other files and for a DICOMDIR, OSError with its name when it can't be read, and as
        :meth:`store`.
        """
        with path.open("rb") as file:
            start = _read(file, HEAD_LENGTH, path)
            head = parse_file_head(start)
            if head.sop_class == MEDIA_STORAGE_DIRECTORY:
                raise NotDicomFile("a DICOMDIR is the index of a medium, not an instance")
            source = calling_ae or head.source_ae
            intake = self.receive(
                transfer_syntax=head.transfer_syntax,
                calling_ae=source,
                character_set=character_set or character_sets.get(source, ""),
            )
            try:
                chunk = start[head.data_set_offset :]
                while chunk:
                    intake.write(chunk)
                    if intake.pending >= SPILL:
                        intake.drain()
                    chunk = _read(file, _READ_SIZE, path)
                return self.submit(intake).result()
            finally:
                intake.close()

    # ---------------------------------------------------------------- finding and handing out

    def view(self) -> View:
        """What the archive holds at this moment."""
        return self.index.view()

    def find(
        self, level: str, keys: Mapping[str, str] | None = None, returning: Iterable[str] = ()
    ) -> Iterator[dict[str, str]]:
        """Rows of the entities of ``level`` (PATIENT, STUDY, SERIES, IMAGE) that match, as keyword → text.

        keys: DICOM keywords and values as in a C-FIND identifier (wildcards, ranges, UID lists), of any level.
        returning: keywords to return besides them; by default those that tell the entities of a level apart.

        Raises ``query.keywords.KeywordError`` for a level, keyword or value that can't be.
        """
        query = keywords.parse_keywords(level, _pairs(keys), returning, headers=True)
        return keywords.find(query, self.view(), HeaderReader(self.header_of, most=0))

    def explain(
        self,
        level: str,
        keys: Mapping[str, str] | None = None,
        returning: Iterable[str] = (),
        *,
        values: bool = True,
        seconds: float | None = None,
    ) -> Explanation:
        """How :meth:`find` answers: the keys, the plan and the work of each step. The query is run, without a limit to
        its time unless ``seconds`` is given. Without ``values`` nothing of what the keys ask for is repeated.

        What :meth:`find` would refuse because it can't be answered is shown as ignored, as a C-FIND would.
        Raises ``query.keywords.KeywordError`` as :meth:`find` for what is no query.
        """
        query = keywords.parse_keywords(level, _pairs(keys), returning, headers=True, ignores=True)
        return keywords.explained(query, self.view(), HeaderReader(self.header_of), values=values, seconds=seconds)

    def read(self, sop_instance: str) -> Reader:
        """A reader of the data set, as it was received.

        Raises :class:`NoSuchInstance`; the reader raises DamagedInstance rather than hand out changed bytes.
        """
        entry = self.index.locate(sop_instance)
        if entry is None:
            raise NoSuchInstance(sop_instance)
        return self.blobs.open(entry.location, instance=sop_instance)

    def header_of(self, location: Location) -> StoredHeader | None:
        """The data set of the record at a location (whose size may be left 0) up to its pixels, for what the index does
        not hold; None if it can't be read."""
        try:
            if not location.size:
                location = self.blobs.locate(location.pack, location.offset)
            reader = self.blobs.open(location, content=False)
            record, header = reader.record, reader.header()
            if is_deflated(record.transfer_syntax):
                header = zlib.decompressobj(-zlib.MAX_WBITS).decompress(header, HEADER_LIMIT)
        except (DamagedInstance, zlib.error):
            return None
        # The record knows better than the data set what the text of some senders is in.
        said = scan_header(record.attributes, EXPLICIT_LITTLE, (SPECIFIC_CHARACTER_SET,)).elements
        value = said[SPECIFIC_CHARACTER_SET].value if said else None
        return StoredHeader(header, encoding_of(record.transfer_syntax), CharacterSet.parse(value))

    def export(self, sop_instance: str, path: Path) -> None:
        """Write an instance as a DICOM file (PS3.10). Raises as :meth:`read`, and OSError; leaves no half file."""
        self.write_file(self.read(sop_instance), path)

    @staticmethod
    def write_file(reader: Reader, path: Path) -> None:
        """Write what a reader reads as a DICOM file. Raises DamagedInstance, OSError; leaves no half file."""
        record = reader.record
        partial = path.with_name(path.name + ".partial")
        try:
            with partial.open("wb") as file:
                file.write(
                    encode_file_head(record.transfer_syntax, record.sop_class, record.sop_instance, record.calling_ae)
                )
                file.writelines(reader.chunks())
            partial.rename(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def log_status(self) -> LogStatus:
        """What the log of this process has done, and what it is waiting for. Raises ReadOnlyArchive."""
        status = self._writable().status()
        return status if self._plain is None else status.and_of(self._plain.status())

    def status(self) -> dict[str, Any]:
        """Counts and sizes for people and scripts: entities by level, packs and their bytes, index tail, disk."""
        view = self.view()
        packs = [used_bytes(self.directory, pack) for pack in list_packs(self.directory)]
        compacted = read_compacted(self.directory)
        disk = shutil.disk_usage(self.directory)
        counts = view.counts()
        return {
            "directory": str(self.directory),
            "patients": counts[Level.PATIENT],
            "studies": counts[Level.STUDY],
            "series": counts[Level.SERIES],
            "instances": counts[Level.IMAGE],
            "packs": len(packs),
            "pack_bytes": sum(packs),
            "compacted_bytes": compacted.freed_bytes,
            "compacted_at": compacted.completed_at,
            "damaged_records": len(self.damage.marks()),
            "index_tail_records": view.tail_length,
            "disk_free_bytes": disk.free,
            "disk_total_bytes": disk.total,
        }

    # ---------------------------------------------------------------- inner workings

    def _moved(self, location: Location, sop_instance: str) -> Location | None:
        """Where a record is now whose pack was compacted away since it was looked up."""
        if not sop_instance:
            return self.index.moved(location.pack, location.offset)
        entry = self.index.locate(sop_instance)
        return None if entry is None else entry.location

    def _writable(self) -> Log:
        if self._log is None:
            raise ReadOnlyArchive(f"the archive in {self.directory} is open for reading only")
        return self._log


def _read(file: BinaryIO, size: int, path: Path) -> bytes:
    try:
        return file.read(size)
    except OSError as error:  # of a medium that is damaged: nothing in the error says so, the name tells it apart
        error.filename = str(path)
        raise


def _pairs(keys: Mapping[str, str] | None) -> list[str]:
    return [f"{keyword}={value}" for keyword, value in (keys or {}).items()]


def _start_index_writer(directory: Path, resources: ExitStack, commit_seconds: float, mirror: Path | None) -> None:
    """Write the index in a thread, unless another process already does; closing commits what is left."""
    try:
        writer = IndexWriter(directory, commit_seconds=commit_seconds, mirror=mirror)
    except IndexBusy:
        return
    stop = threading.Event()
    thread = threading.Thread(target=writer.run, args=(stop,), name="index-writer")
    thread.start()

    def finish() -> None:
        stop.set()
        thread.join()
        writer.close()

    resources.callback(finish)
