"""The Tantivy schema: which terms a document gets, and how a condition becomes a query over them.

====================  =================================================================================================
field                 holds
====================  =================================================================================================
``key``               level letter and a short stand-in for the unique key: one document each
``level``             ``P`` ``S`` ``E`` ``I`` (patient, study, series, instance), ``X`` shadow, ``T`` tombstone,
                      ``C`` checkpoint, ``Q`` ``D`` ``R`` ``N`` notes (:mod:`fastarchive.index.notes`)
``patient`` …         keys of the entities above (``patient`` on studies and series, ``study`` and ``series`` below, by
                      short stand-ins: :func:`fastarchive.index.terms.short_term`)
``exact``             ``ggggeeee=value`` of attributes matched as a whole
``gggggeeee``         1-, 2- and 3-grams of a text attribute's folded values between start and end marks
``dggggeeee``         a date as yyyymmdd, a time as minutes since midnight; -1 for what is no single one
``bucket``            rowid >> 8, indexed: pages are windows of buckets, so a page never looks at all documents
``rowid``             unique per document, stable over updates
``row``               the document (:mod:`fastarchive.index.rows`)
====================  =================================================================================================

Instances are many: they get keys only, and are found through their series and study. Every term exists to *narrow*; see
:mod:`fastarchive.index.conditions`.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterable, Iterator
from functools import lru_cache
from json.encoder import encode_basestring as quoted
from typing import Final

import tantivy

from fastarchive.dicom.attributes import (
    MODALITIES_IN_STUDY,
    PATIENT_ID,
    SERIES_INSTANCE_UID,
    SOP_CLASSES_IN_STUDY,
    SOP_INSTANCE_UID,
    STUDY_INSTANCE_UID,
    Level,
)
from fastarchive.dicom.dictionary import vr_of
from fastarchive.dicom.values import fold
from fastarchive.index.conditions import And, Condition, Everything, Grams, Or, Range, Term
from fastarchive.index.documents import KEY_SEPARATOR, Document, has_patient_id, patient_key
from fastarchive.index.rows import encode_entity, encode_row
from fastarchive.index.terms import (
    END,
    EXACT,
    GRAMS,
    LONG_TEXT,
    LONGEST_TEXT,
    MINUTE,
    NOT_ONE,
    RECIPES,
    SPANS,
    START,
    exact_term,
    folded_text,
    insignificant_ends,
    patient_ids,
    recent_short_term,
    short_term,
    terms_of,
)
from fastarchive.native import terms as native

SCHEMA_VERSION: Final = 7
"""Raised with every change to fields, terms or rows: an index of another version is built anew from the packs."""

GRAM_TOKENIZER: Final = "grams"
LETTERS: Final = {Level.PATIENT: "P", Level.STUDY: "S", Level.SERIES: "E", Level.IMAGE: "I"}
SHADOW, TOMBSTONE, CHECKPOINT, MOVED = "X", "T", "C", "M"
BUCKET_BITS: Final = 8


def _build() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    for name in ("key", "level", "patient", "study", "series", "instance", "exact"):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    for tag in sorted(frozenset().union(*GRAMS.values())):
        builder.add_text_field(f"g{tag:08x}", tokenizer_name=GRAM_TOKENIZER, index_option="basic")
    for tag in sorted(frozenset().union(*SPANS.values())):
        builder.add_integer_field(f"d{tag:08x}", indexed=True)
    builder.add_integer_field("bucket", indexed=True)
    builder.add_unsigned_field("rowid", fast=True)
    builder.add_bytes_field("row", stored=True)
    return builder.build()


SCHEMA: Final = _build()


def register_tokenizers(index: tantivy.Index) -> None:
    """What an index needs before documents are added."""
    grams = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.ngram(1, 3)).build()
    index.register_tokenizer(GRAM_TOKENIZER, grams)


# Documents to terms


def index_document(document: Document, term: str | None = None) -> str:
    """What Tantivy gets of a document with a rowid, as JSON; `term` is that of its key, if the caller knows it.

    One text costs Tantivy's binding a third of what it costs to hand over term by term.
    """
    level, rowid = document.level, document.rowid
    key = f'"{term or key_term(level, document.key)}"'
    if level is Level.IMAGE and document.origin is not None:
        key = f"[{key},{quoted(moved_term(*document.origin))}]"
    head = f'{{"key":{key},"level":"{LETTERS[level]}","rowid":{rowid},"bucket":{rowid >> BUCKET_BITS}'
    if level is Level.IMAGE:
        study, series = recent_short_term(document.study), recent_short_term(document.series)
        return f'{head},"row":"{_base64(encode_row(document))}","study":"{study}","series":"{series}"}}'
    exact: list[str] = []
    if level is not Level.PATIENT:
        head = f'{head},"patient":[{",".join(map(quoted, patient_ids(document.patient)))}]'
    if level is Level.SERIES:
        study, series = recent_short_term(document.study), recent_short_term(document.series)
        head = f'{head},"study":"{study}","series":"{series}"'
    else:
        exact.extend(map(quoted, _exact_terms(document)))
    row, table = encode_entity(document)
    found = None if native.entity_terms is None else native.entity_terms(row, table, RECIPES)
    if found is None:
        found = native.Found(f'"row":"{_base64(row)}","exact":[', False, list(range(len(document.elements))))
    own = ""
    if found.careful:
        elements = list(document.elements.items())
        for terms in terms_of([elements[number] for number in found.careful]):
            if terms.exact:
                exact.append(terms.exact)
            if terms.own:
                own = f"{own},{terms.own}"
    comma = "," if exact and found.several else ""
    return f"{head},{found.text}{comma}{','.join(exact)}]{own}}}"


def _base64(row: bytes) -> str:
    return b2a_base64(row, newline=False).decode()


def shadow_document(document: Document) -> tantivy.Document:
    """A shadow of an instance; it is in no level."""
    indexed = tantivy.Document()
    _, pack, offset = document.order
    indexed.add_text("key", f"{SHADOW}{document.instance}{KEY_SEPARATOR}{pack}{KEY_SEPARATOR}{offset}")
    indexed.add_text("level", SHADOW)
    indexed.add_text("instance", document.instance)
    indexed.add_text("study", short_term(document.study))
    indexed.add_bytes("row", encode_row(document))
    return indexed


def private_document(letter: str, name: str, row: bytes) -> tantivy.Document:
    """A checkpoint or tombstone."""
    indexed = tantivy.Document()
    indexed.add_text("key", letter + name)
    indexed.add_text("level", letter)
    indexed.add_bytes("row", row)
    return indexed


def key_term(level: Level, key: str) -> str:
    """The term of field ``key``."""
    return LETTERS[level] + short_term(key)


def moved_term(pack: int, offset: int) -> str:
    """The term of field ``key`` of the instance whose record was first written there and is elsewhere now."""
    return f"{MOVED}{pack}{KEY_SEPARATOR}{offset}"


def _exact_terms(document: Document) -> Iterator[str]:
    """Those that come from no single element."""
    level = document.level
    if level is Level.PATIENT:
        if has_patient_id(document.patient):
            for name in patient_ids(document.patient):
                yield exact_term(PATIENT_ID, "LO", name)
    elif level is Level.STUDY:
        for modality in document.modalities:
            yield _recent_exact_term(MODALITIES_IN_STUDY, "CS", modality)
        for sop_class in document.sop_classes:
            yield _recent_exact_term(SOP_CLASSES_IN_STUDY, "UI", sop_class)


_recent_exact_term: Final = lru_cache(1024)(exact_term)


# Conditions to queries


def to_query(level: Level, condition: Condition) -> tantivy.Query:
    """A query for every document of `level` that meets `condition`, and perhaps more."""
    of_level = term_query("level", LETTERS[level])
    narrowed = _query(level, condition)
    return of_level if narrowed is None else _all_of([of_level, narrowed])


def term_query(field: str, value: str) -> tantivy.Query:
    """Documents with a term."""
    return tantivy.Query.term_query(SCHEMA, field, value, index_option="basic")


def studies_of_patient(patient: str) -> tantivy.Query:
    """The studies of the patient with a key, and perhaps more."""
    return _all_of([term_query("level", LETTERS[Level.STUDY]), term_query("patient", patient)])


def any_of_terms(field: str, values: Iterable[str]) -> tantivy.Query:
    """Documents with any of some terms."""
    terms = sorted(set(values))
    return term_query(field, terms[0]) if len(terms) == 1 else tantivy.Query.term_set_query(SCHEMA, field, terms)


def bucket_query(first: int, last: int) -> tantivy.Query:
    """Documents whose bucket lies between two, both included."""
    return tantivy.Query.range_query(SCHEMA, "bucket", tantivy.FieldType.Integer, first, last, use_inverted_index=True)


def _all_of(queries: list[tantivy.Query]) -> tantivy.Query:
    return queries[0] if len(queries) == 1 else tantivy.Query.boolean_query([(tantivy.Occur.Must, q) for q in queries])


def _any_of(queries: list[tantivy.Query]) -> tantivy.Query:
    if not queries:
        return tantivy.Query.empty_query()
    if len(queries) == 1:
        return queries[0]
    return tantivy.Query.boolean_query([(tantivy.Occur.Should, query) for query in queries])


def _query(level: Level, condition: Condition) -> tantivy.Query | None:
    """None: the index can't narrow by it."""
    match condition:
        case Everything():
            return None
        case And(parts):
            known = [query for part in parts if (query := _query(level, part)) is not None]
            return _all_of(known) if known else None
        case Or(parts):
            queries = [_query(level, part) for part in parts]
            narrowing = [query for query in queries if query is not None]
            return _any_of(narrowing) if len(narrowing) == len(queries) else None
        case Term(tag, values):
            place = term_place(level, tag, values)
            if place is not None:
                field, terms = place
                return any_of_terms(field, terms) if terms else tantivy.Query.empty_query()
            if tag in GRAMS.get(level, ()):
                return _query(level, Or(tuple(whole_text(tag, value) for value in values)))
            return None
        case Range(tag, low, high):
            return _range(level, tag, low, high)
        case Grams():
            terms = gram_terms(level, condition)
            if not terms:
                return None
            field = f"g{condition.tag:08x}"
            return _any_of([_all_of([term_query(field, term) for term in terms]), term_query(field, LONG_TEXT)])


def term_place(level: Level, tag: int, values: Iterable[str]) -> tuple[str, list[str]] | None:
    """The field and the terms that tell by which documents have one of `values`; None if no field does."""
    if tag == PATIENT_ID:
        if level is Level.PATIENT:
            return "exact", [exact_term(tag, "LO", patient_key(value.encode())) for value in values]
        return None if level is Level.IMAGE else ("patient", [patient_key(value.encode()) for value in values])
    if tag == STUDY_INSTANCE_UID:
        if level is Level.STUDY:
            return "key", [key_term(level, value) for value in values]
        return None if level is Level.PATIENT else ("study", [short_term(value) for value in values])
    if tag == SERIES_INSTANCE_UID:
        if level in {Level.SERIES, Level.IMAGE}:
            return "series", [short_term(value) for value in values]
        return None
    if tag == SOP_INSTANCE_UID:
        return ("key", [key_term(level, value) for value in values]) if level is Level.IMAGE else None
    computed = level is Level.STUDY and tag in {MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY}
    if computed or tag in EXACT.get(level, ()):
        vr = vr_of(tag)
        return "exact", [exact_term(tag, vr, value) for value in values]
    return None


def whole_text(tag: int, value: str) -> Grams:
    """The condition that a text, folded, is `value` as a whole."""
    return Grams(tag, (fold(value),), anchored_start=True, anchored_end=True)


def gram_terms(level: Level, condition: Grams) -> list[str]:
    """Grams every text with these pieces has; [] when there are none, or the index has no grams of the attribute."""
    tag = condition.tag
    if tag not in GRAMS.get(level, ()) or not condition.pieces:
        return []
    pieces = [folded_text(tag, piece) for piece in condition.pieces]
    ends, terms = insignificant_ends(tag), dict[str, None]()
    last = len(pieces) - 1
    for number, piece in enumerate(pieces):
        groups = piece.split("=") if vr_of(tag) == "PN" else [piece]
        for place, group in enumerate(groups):
            starts = place > 0 or (number == 0 and condition.anchored_start)
            finishes = place < len(groups) - 1 or (number == last and condition.anchored_end)
            # What is insignificant at an end may stand on either side of it.
            text = group.lstrip(ends)
            starts = starts and len(text) == len(group)
            text = text.rstrip(ends)
            if not text:
                continue
            marked = f"{START if starts else ''}{text}{END if finishes else ''}"[:LONGEST_TEXT]
            size = min(3, len(marked))
            terms.update(dict.fromkeys(marked[at : at + size] for at in range(len(marked) - size + 1)))
    return list(terms)


def _range(level: Level, tag: int, low: int | None, high: int | None) -> tantivy.Query | None:
    if tag not in SPANS.get(level, ()):
        return None
    if vr_of(tag) == "TM":
        low, high = (None if low is None else low // MINUTE), (None if high is None else high // MINUTE)
    field = f"d{tag:08x}"
    first, last = max(0, low or 0), 99_999_999 if high is None else high
    if first > last:
        return tantivy.Query.empty_query()
    between = tantivy.Query.range_query(SCHEMA, field, tantivy.FieldType.Integer, first, last, use_inverted_index=True)
    unknown = tantivy.Query.term_query(SCHEMA, field, NOT_ONE, index_option="basic")
    return _any_of([between, unknown])
