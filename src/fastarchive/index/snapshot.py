"""One commit of the index: what it holds, how far into the log it reaches, and pages of answers from it."""

from __future__ import annotations

import struct
from collections.abc import Container, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

import tantivy

from fastarchive.dicom.attributes import Level
from fastarchive.index import schema
from fastarchive.index.conditions import And, Condition, Everything, Grams, Or, Range, Term
from fastarchive.index.documents import KEY_SEPARATOR, Document, Order
from fastarchive.index.paging import MANY, Hits, Paging, all_hits, count
from fastarchive.index.rows import decode_row
from fastarchive.index.sieve import Sieve
from fastarchive.index.stored import Stores, rows
from fastarchive.index.terms import GRAMS, LONG_TEXT, SPANS, short_term
from fastarchive.store.follow import Positions

_CHECKPOINT: Final = struct.Struct("<IQQ")
_TOMBSTONE: Final = struct.Struct("<QQQ")
_EXPECTED: Final = 200
"""Documents that are found in one search, where nothing tells how many there are."""
_SAMPLED_TERMS: Final = 64


class Checkpoint(NamedTuple):
    """What a commit says of itself; replaced with every commit, in the same commit."""

    schema_version: int
    next_rowid: int
    deletions: int
    """Grows whenever a tombstone changes."""
    positions: Positions

    def encode(self) -> bytes:
        """As the row of the checkpoint document."""
        return _CHECKPOINT.pack(self.schema_version, self.next_rowid, self.deletions) + self.positions.encode()

    @classmethod
    def decode(cls, row: bytes) -> Checkpoint:
        """From the row of a checkpoint document; ValueError if it is none of this version."""
        try:
            version, next_rowid, deletions = _CHECKPOINT.unpack_from(row)
        except struct.error as error:
            raise ValueError("not a checkpoint") from error
        if version != schema.SCHEMA_VERSION:
            raise ValueError(f"index of schema version {version}, not {schema.SCHEMA_VERSION}")
        return cls(version, next_rowid, deletions, Positions.decode(row[_CHECKPOINT.size :]))


FRESH: Final = Checkpoint(schema.SCHEMA_VERSION, 1, 0, Positions())
"""The checkpoint of an index that holds nothing yet."""


class Snapshot:
    """One commit, immutable and usable from any thread; None as searcher: nothing at all.

    sieve: knows the keys of all entities there are, perhaps more; others are not looked for. stores: what rows are read
    from; without them Tantivy reads them one by one.
    Raises ValueError if the index was made by another version.
    """

    def __init__(
        self,
        searcher: tantivy.Searcher | None,
        before: Snapshot | None = None,
        sieve: Sieve | None = None,
        stores: Stores | None = None,
    ) -> None:
        self._searcher = searcher
        self.stores = stores
        self._sieve = sieve
        self.checkpoint = FRESH
        self.tombstones: Mapping[str, Order] = MappingProxyType({})
        self._counts: dict[Level, int] | None = None
        if searcher is None:
            return
        row = self._row(schema.CHECKPOINT)
        if row is None:
            if searcher.num_docs:
                raise ValueError("index without a checkpoint")
            return
        self.checkpoint = Checkpoint.decode(row)
        if before is not None and before.checkpoint.deletions == self.checkpoint.deletions:
            self.tombstones = before.tombstones
        elif self.checkpoint.deletions:
            rows = self._rows(schema.term_query("level", schema.TOMBSTONE))
            self.tombstones = MappingProxyType(dict(map(decode_tombstone, rows)))

    @property
    def positions(self) -> Positions:
        """How far into each pack this commit reaches."""
        return self.checkpoint.positions

    # Entities

    def has(self, level: Level, key: str) -> bool:
        """Whether there may be an entity with this key; False is certain. 1 µs."""
        searcher = self._searcher
        return searcher is not None and searcher.doc_freq("key", schema.key_term(level, key)) > 0

    def get(self, level: Level, key: str) -> Document | None:
        """The entity with this key."""
        if self._sieve is not None and key not in self._sieve:
            return None
        term = schema.key_term(level, key)
        if self._searcher is None or not self._searcher.doc_freq("key", term):
            return None
        row = self._row(term)
        return None if row is None else decode_row(row)

    def with_term(self, term: str) -> list[Document]:
        """All documents with a term of field ``key``: more than one only while parts of an index are made one."""
        return self._documents(schema.term_query("key", term))

    def moved(self, pack: int, offset: int) -> Document | None:
        """The instance whose record was first written at that offset of that pack and was moved since."""
        term = schema.moved_term(pack, offset)
        if self._searcher is None or not self._searcher.doc_freq("key", term):
            return None
        row = self._row(term)
        return None if row is None else decode_row(row)

    def get_many(self, level: Level, keys: Iterable[str]) -> list[Document]:
        """The entities with these keys, each once."""
        wanted = set(keys)
        if len(wanted) == 1:
            only = self.get(level, *wanted)
            return [] if only is None else [only]
        if not wanted:
            return []
        terms = (schema.key_term(level, key) for key in wanted)
        return self._documents(schema.any_of_terms("key", terms), len(wanted))

    def series_with_uids(self, uids: Iterable[str]) -> list[Document]:
        """The series with these UIDs, in whatever study."""
        return self._documents(schema.to_query(Level.SERIES, Term(0x0020000E, tuple(uids))))

    def instances_of(self, study: str) -> list[Document]:
        """The instances of a study."""
        return self._documents(schema.to_query(Level.IMAGE, Term(0x0020000D, (study,))))

    def series_of(self, study: str) -> list[Document]:
        """The series of a study."""
        return self._documents(schema.to_query(Level.SERIES, Term(0x0020000D, (study,))))

    def studies_of(self, patient: str) -> list[Document]:
        """The studies of the patient with this key."""
        found = self._documents(schema.studies_of_patient(patient))
        return [study for study in found if study.patient == patient]

    def shadows(self, instance: str) -> list[Document]:
        """The shadows of an instance."""
        return self._documents(schema.term_query("instance", instance))

    def shadows_of(self, study: str) -> list[Document]:
        """The shadows in a study."""
        query = schema.term_query("study", short_term(study))
        shadow = schema.term_query("level", schema.SHADOW)
        return self._documents(tantivy.Query.boolean_query([(tantivy.Occur.Must, query), (tantivy.Occur.Must, shadow)]))

    def note(self, kind: str, name: str) -> bytes | None:
        """A note by its name (:mod:`fastarchive.index.notes`)."""
        if self._searcher is None or not self._searcher.doc_freq("key", kind + name):
            return None
        row = self._row(kind + name)
        return None if row is None else decode_note(row)[1]

    def notes(self, kind: str) -> dict[str, bytes]:
        """All notes of a kind, by name."""
        return dict(map(decode_note, self._rows(schema.term_query("level", kind))))

    def has_notes(self, kind: str) -> bool:
        """Whether there may be notes of a kind; False is certain."""
        return self._searcher is not None and self._searcher.doc_freq("level", kind) > 0

    def number_of_notes(self, kind: str) -> int:
        """How many notes of a kind there are."""
        return self._count(schema.term_query("level", kind))

    def counts(self) -> dict[Level, int]:
        """Entities of each level."""
        if self._counts is None:
            self._counts = {level: self._count(schema.to_query(level, Everything())) for level in Level}
        return dict(self._counts)

    # Pages

    def pages(
        self, level: Level, condition: Condition, excluded: Container[str], first_page: int, page_size: int
    ) -> Iterator[list[Document]]:
        """Entities that meet `condition` and perhaps more, without those whose key is excluded; no page is empty."""
        searcher = self._searcher
        if searcher is None:
            return
        paging = Paging(
            searcher,
            schema.to_query(level, condition),
            estimate=self._at_most(level, condition),
            buckets=(self.checkpoint.next_rowid >> schema.BUCKET_BITS) + 1,
            first_page=first_page,
            page_size=page_size,
        )
        for hits in paging.pages():
            if documents := _without(self._decoded(hits), excluded):
                yield documents

    def estimate(self, level: Level, condition: Condition, *, counted: bool = True) -> int:
        """An upper bound of the documents that meet `condition`, cheap and seldom far off.

        counted: whether what lies in a range is counted; without that a range narrows nothing.
        """
        if self._searcher is None:
            return 0
        return max(1, min(self._bound(level, condition, counted=counted), self._total(level)))

    def _at_most(self, level: Level, condition: Condition) -> int:
        """:meth:`estimate`, without counting what lies in a range if the other parts leave few enough."""
        bound = self.estimate(level, condition, counted=False)
        return bound if bound <= MANY else self.estimate(level, condition)

    def _total(self, level: Level) -> int:
        return self._searcher.doc_freq("level", schema.LETTERS[level]) if self._searcher is not None else 0

    def _bound(self, level: Level, condition: Condition, *, counted: bool) -> int:
        searcher = self._searcher
        assert searcher is not None
        match condition:
            case And(parts):
                return min([self._bound(level, part, counted=counted) for part in parts], default=self._total(level))
            case Or(parts):
                return sum(self._bound(level, part, counted=counted) for part in parts)
            case Term(tag, values):
                place = schema.term_place(level, tag, values)
                if place is not None:
                    field, terms = place
                    sample = terms[:_SAMPLED_TERMS]
                    found = sum(searcher.doc_freq(field, term) for term in sample)
                    return found if len(sample) == len(terms) else found * len(terms) // len(sample) + len(terms)
                if tag in GRAMS.get(level, ()):
                    return sum(self._bound(level, schema.whole_text(tag, value), counted=counted) for value in values)
            case Range(tag):
                if counted and tag in SPANS.get(level, ()):
                    return self._count(schema.to_query(level, condition))
            case Grams(tag):
                terms = schema.gram_terms(level, condition)
                if terms:
                    field = f"g{tag:08x}"
                    long = searcher.doc_freq(field, LONG_TEXT)
                    return min(searcher.doc_freq(field, term) for term in terms) + long
        return self._total(level)

    # Searching

    def _row(self, key: str) -> bytes | None:
        assert self._searcher is not None
        hits = self._searcher.search(schema.term_query("key", key), 1, count=False).hits
        if not hits:
            return None
        row: bytes = self._searcher.doc(hits[0][1]).get_first("row")  # type: ignore[assignment]  # always stored
        return row

    def _count(self, query: tantivy.Query) -> int:
        return 0 if self._searcher is None else count(self._searcher, query)

    def _rows(self, query: tantivy.Query, expected: int = _EXPECTED) -> list[bytes]:
        searcher = self._searcher
        if searcher is None:
            return []
        return self._rows_at(searcher, all_hits(searcher, query, expected))

    def _rows_at(self, searcher: tantivy.Searcher, hits: Hits) -> list[bytes]:
        return rows(searcher, hits) if self.stores is None else self.stores.rows(searcher, hits)

    def _documents(self, query: tantivy.Query, expected: int = _EXPECTED) -> list[Document]:
        return [decode_row(row) for row in self._rows(query, expected)]

    def _decoded(self, addresses: Hits) -> list[Document]:
        assert self._searcher is not None
        return [decode_row(row) for row in self._rows_at(self._searcher, addresses)]


def _without(documents: list[Document], excluded: Container[str]) -> list[Document]:
    return [document for document in documents if document.key not in excluded] if excluded else documents


def encode_tombstone(name: str, order: Order) -> bytes:
    """A tombstone as the row of its document."""
    return _TOMBSTONE.pack(*order) + name.encode()


def decode_tombstone(row: bytes) -> tuple[str, Order]:
    """Name and order of a tombstone."""
    received, pack, offset = _TOMBSTONE.unpack_from(row)
    return row[_TOMBSTONE.size :].decode(), (received, pack, offset)


def encode_note(name: str, note: bytes) -> bytes:
    """A note as the row of its document."""
    return name.encode() + b"\0" + note


def decode_note(row: bytes) -> tuple[str, bytes]:
    """Name and content of a note."""
    name, _, note = row.partition(b"\0")
    return name.decode(), note


def is_series_key(key: str) -> bool:
    """Whether a series is named by its key rather than by its UID alone."""
    return KEY_SEPARATOR in key
