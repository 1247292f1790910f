"""What a process sees of the archive: the last commit of the index, and what the log holds past it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from fastarchive.dicom.attributes import Level
from fastarchive.index.conditions import Condition
from fastarchive.index.documents import Document
from fastarchive.store.record import Location


class InstanceEntry(NamedTuple):
    """What is known of an instance, enough to answer a C-STORE of it or to read it."""

    location: Location
    digest: bytes
    transfer_syntax: str
    sop_class: str


class View:
    """One moment of the archive; immutable, usable from any thread."""

    tail_length: int
    """Records the log holds past the commit this view is based on."""

    def get(self, level: Level, key: str) -> Document | None:
        """The entity with this key (:attr:`Document.key`). A series may be named by its UID alone."""
        raise NotImplementedError

    def get_many(self, level: Level, keys: Iterable[str]) -> list[Document]:
        """The entities with these keys, each once, in no particular order.

        A series may be named by its key (UID within its study) or by its UID alone, which then gives every series with it.
        """
        raise NotImplementedError

    def tail_documents(self, level: Level) -> list[Document]:
        """Entities the tail touches, as they are now, the index's part included; none of them comes from pages()."""
        raise NotImplementedError

    def pages(
        self, level: Level, condition: Condition, *, first_page: int = 50, page_size: int = 1000
    ) -> Iterator[list[Document]]:
        """Entities of the index that meet `condition`, and perhaps some that don't; without those of tail_documents()."""
        raise NotImplementedError

    def estimate(self, level: Level, condition: Condition) -> int:
        """About how many documents pages() gives, never 0 when there is one; cheap."""
        raise NotImplementedError

    def counts(self) -> dict[Level, int]:
        """How many entities there are of each level."""
        raise NotImplementedError


class Index:
    """The reader of one process; thread-safe."""

    def __init__(self, directory: Path):
        raise NotImplementedError

    def view(self) -> View:
        """The archive as it is now: everything that is durable at the time of the call."""
        raise NotImplementedError

    def locate(self, sop_instance: str) -> InstanceEntry | None:
        """The instance with this UID, if the archive has it now."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of files; views handed out before stay usable."""
        raise NotImplementedError
