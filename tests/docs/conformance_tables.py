"""The tables of docs/conformance.md, made from the code's own.

python -m tests.docs.conformance_tables        write them into the page, between ``<!-- table: NAME -->`` and
                                               ``<!-- end -->``
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from pydicom.uid import UID_dictionary

from fastarchive.dicom import attributes, codesets, uids
from fastarchive.dicom.attributes import ANSWERED_AT_EVERY_LEVEL, COMPUTED, InformationModel
from fastarchive.dicom.charsets import CharacterSet
from fastarchive.dicom.dictionary import keyword_of, vr_of
from fastarchive.dicom.matching import Matching, MatchingError, compile_matcher
from fastarchive.dicom.transfer_syntaxes import ALL_TRANSFER_SYNTAXES
from fastarchive.query.options import NEGOTIABLE
from fastarchive.query.zones import DATE_OF_TIME, TIME_OF_DATE
from fastarchive.services import status
from fastarchive.services.policy import acceptor_policy
from tests.docs.examples import DOCS

PAGE: Final = DOCS / "conformance.md"
_REGION: Final = re.compile(r"(<!-- table: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_SAMPLES: Final = ("A", "1", "A*", "1.2\\1.3", "20240101", "20240101-20240102", "10", "10-11")

_ASKED: Final = (uids.VERIFICATION, uids.PATIENT_ROOT_FIND, uids.STUDY_ROOT_FIND)
"""What the command line is a user of."""

BYTES: Final = {
    "relational": "relational queries",
    "combined_datetime": "combined date-time matching",
    "fuzzy": "fuzzy semantic matching of person names",
    "timezone": "timezone query adjustment",
    "enhanced_multiframe_conversion": "enhanced multi-frame image conversion",
    "empty_value": "empty value matching",
    "multiple_value": "multiple value matching",
}

SERVICES: Final[dict[str, dict[str, str]]] = {
    "C-ECHO": {"SUCCESS": "always"},
    "C-STORE": {
        "SUCCESS": "the instance is on stable storage, or the same instance was there already; with an Error Comment: "
        "it took the place of another content (`conflict_policy` replace)",
        "COERCION": "the SOP Instance UID is stored with other content; this one is in quarantine "
        "(`conflict_policy` quarantine); or the patient is not its study's (`other_patient_policy` quarantine)",
        "OUT_OF_RESOURCES": "no space above the reserve, no files, or for `store_seconds` no room in memory "
        "(`maximum_in_flight`): nothing was stored; or the disk did not answer for so long: send it again",
        "DATA_SET_DOES_NOT_MATCH": "a UID is missing, malformed, or not the command's; or the SOP Instance UID is "
        "stored with other content and the first is kept (`conflict_policy` keep-first, or a study on hold); or a "
        "rejection note rejects the instance",
        "CANNOT_UNDERSTAND": "no data set, or one that can't be read",
        "PROCESSING_FAILURE": "writing failed, or an internal error; nothing was stored",
        "INVALID_SOP_INSTANCE": "Affected SOP Instance UID is missing",
        "SOP_CLASS_NOT_SUPPORTED": "Affected SOP Class UID is not that of the presentation context",
    },
    "C-FIND": {
        "PENDING": "a match; every key was supported",
        "PENDING_WITH_UNSUPPORTED_KEYS": "a match; at least one key was ignored",
        "SUCCESS": "the search is complete",
        "CANCELLED": "ended by C-CANCEL",
        "OUT_OF_RESOURCES": "more than `maximum_matches`, `maximum_find_seconds`, `maximum_headers`, "
        "`maximum_scanned`, `maximum_queries` or `maximum_identifier` allow; Error Comment says which",
        "IDENTIFIER_DOES_NOT_MATCH": "the identifier is wrong; Offending Element and Error Comment say where and why",
        "UNABLE_TO_PROCESS": "internal error",
        "SOP_CLASS_NOT_SUPPORTED": "Affected SOP Class UID is not that of the presentation context",
    },
    "C-MOVE, C-GET": {
        "PENDING": "sub-operations are continuing",
        "SUCCESS": "all sub-operations completed, or there was nothing to send",
        "SUBOPERATIONS_COMPLETE_WITH_FAILURES": "some failed or had warnings",
        "UNABLE_TO_COUNT_MATCHES": "the identifier is too long, or an internal error",
        "UNABLE_TO_PERFORM_SUBOPERATIONS": "all sub-operations failed; Error Comment says why where it is known",
        "MOVE_DESTINATION_UNKNOWN": "C-MOVE: the Move Destination is not a configured peer",
        "CANCELLED": "ended by C-CANCEL before all was sent",
        "IDENTIFIER_DOES_NOT_MATCH": "the identifier is wrong, or names nothing at its level",
        "SOP_CLASS_NOT_SUPPORTED": "Affected SOP Class UID is not that of the presentation context",
    },
    "any other request": {
        "SOP_CLASS_NOT_SUPPORTED": "not an operation of the SOP class of the presentation context",
        "UNRECOGNIZED_OPERATION": "no operation of this archive",
    },
}
"""Service → the name of each status it answers with → when."""

_CODES: Final = {**vars(status), "PENDING_WITH_UNSUPPORTED_KEYS": 0xFF01}


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def sop_classes() -> str:
    """The SOP classes that are not of storage."""
    known = [uids.VERIFICATION, *(uid for uid in sorted(UID_dictionary) if attributes.model_of(uid))]
    return table(("SOP class", "UID", "SCU", "SCP"), ((_name(uid), uid, _yes(uid in _ASKED), "yes") for uid in known))


def storage_sop_classes() -> str:
    """Every storage SOP class of the standard that is accepted."""
    policy = acceptor_policy()
    names = {uid: _name(uid) for uid in uids.STORAGE_SOP_CLASSES if policy.transfer_syntaxes(uid)}
    return table(("SOP class", "UID"), ((name, uid) for uid, name in sorted(names.items(), key=lambda one: one[1])))


def transfer_syntaxes() -> str:
    """The transfer syntaxes, and what each is accepted for."""
    accept = acceptor_policy().transfer_syntaxes
    columns = ("transfer syntax", "UID", "instances", "C-ECHO, C-FIND, C-MOVE, C-GET")
    storage, find = accept("1.2.840.10008.5.1.4.1.1.2") or (), accept(uids.STUDY_ROOT_FIND) or ()
    return table(columns, ((_name(uid), uid, _yes(uid in storage), _yes(uid in find)) for uid in ALL_TRANSFER_SYNTAXES))


def extended_negotiation() -> str:
    """The bytes of the SOP Class Extended Negotiation, and what an offer of all is answered with."""
    extended = acceptor_policy().extended
    rows = []
    find = extended(uids.STUDY_ROOT_FIND, b"\1" * 16) or b""
    rows += [("C-FIND", str(n + 1), BYTES[name], str(find[n])) for n, (name, _) in enumerate(NEGOTIABLE)]
    move = extended(uids.STUDY_ROOT_MOVE, b"\1" * 16) or b""
    names = ("relational retrieval", "enhanced multi-frame image conversion")
    rows += [("C-MOVE, C-GET", str(n + 1), name, str(move[n])) for n, name in enumerate(names)]
    storage = extended("1.2.840.10008.5.1.4.1.1.2", b"\1" * 16) or b""
    elements = ("level of support", "reserved", "digital signature support", "reserved", "element coercion", "reserved")
    rows += [("C-STORE", str(n + 1), name, str(storage[n])) for n, name in enumerate(elements)]
    return table(("service", "byte", "meaning", "answered when offered"), rows)


def keys(model: InformationModel) -> str:
    """The keys of a model, level by level, with the matching each allows."""
    rows = []
    for level in model.levels:
        for tag in model.keys_of(level):
            kind = model.kind_of(tag, level)
            assert kind is not None
            if tag in ANSWERED_AT_EVERY_LEVEL or tag == attributes.TIMEZONE_OFFSET_FROM_UTC:
                continue
            group = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
            rows.append((level.value, keyword_of(tag), group, vr_of(tag), kind.value, matching_of(tag)))
    return table(("level", "attribute", "tag", "VR", "kind", "matching"), rows)


def matching_of(tag: int) -> str:
    """The kinds of matching the code has for an attribute, without any negotiation."""
    vr = vr_of(tag)
    kinds = {Matching.UNIVERSAL}
    for sample in _SAMPLES:
        try:
            kinds.add(compile_matcher(tag, vr, sample).matching)
        except MatchingError:
            continue
    kinds.discard(Matching.MULTIPLE)
    names = [kind.value for kind in Matching if kind in kinds]
    if tag in COMPUTED:
        names.append("computed")
    if tag in TIME_OF_DATE or tag in DATE_OF_TIME:
        names.append("combined")
    return ", ".join(names)


def character_sets() -> str:
    """The defined terms that are read and written."""
    terms = [f"ISO_IR {n}" for n in codesets.BY_TERM if n not in codesets.EXTENSION_ONLY]
    terms += [f"ISO 2022 IR {n}" for n in codesets.BY_TERM if n != 192]
    terms += ["GB18030", "GBK"]
    rows = []
    for term in terms:
        alone = term.startswith("ISO_IR") or term.startswith("GB")
        value = term if alone else f"\\{term}"
        parsed = CharacterSet.parse(value.encode())
        assert not parsed.unknown_terms, term
        rows.append((f"`{term}`", "alone" if alone else "with code extensions"))
    return table(("defined term", "used"), rows)


def statuses() -> str:
    """What each service answers with."""
    return table(
        ("service", "status", "meaning", "when"),
        (
            (service, f"{_CODES[name]:04X}", name.replace("_", " ").capitalize(), when)
            for service, names in SERVICES.items()
            for name, when in names.items()
        ),
    )


TABLES: Final[dict[str, Callable[[], str]]] = {
    "sop-classes": sop_classes,
    "storage-sop-classes": storage_sop_classes,
    "transfer-syntaxes": transfer_syntaxes,
    "extended-negotiation": extended_negotiation,
    "keys-patient-root": lambda: keys(InformationModel.PATIENT_ROOT),
    "keys-study-root": lambda: keys(InformationModel.STUDY_ROOT),
    "keys-patient-study-only": lambda: keys(InformationModel.PATIENT_STUDY_ONLY),
    "character-sets": character_sets,
    "statuses": statuses,
}


def current(text: str) -> str:
    """The page with every table as the code has it."""
    return _REGION.sub(lambda region: f"{region[1]}{TABLES[region[2]]()}{region[3]}", text)


def regions(text: str) -> list[str]:
    """The names of the tables in a page."""
    return [region[2] for region in _REGION.finditer(text)]


# Younger than the dictionary, and what makers of devices use.
_OTHER_NAMES: Final = {
    "1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage",
    "1.2.840.10008.5.1.4.1.1.66.8": "Height Map Segmentation Storage",
    "1.2.840.10008.1.2.4.110": "JPEG XL Lossless",
    "1.2.840.10008.1.2.4.111": "JPEG XL JPEG Recompression",
    "1.2.840.10008.1.2.4.112": "JPEG XL",
    "1.2.840.10008.1.2.8.1": "Deflated Image Frame Compression",
}


def _name(uid: str) -> str:
    known = UID_dictionary.get(uid)
    if known is None:
        return _OTHER_NAMES[uid]
    name = str(known[0]).removesuffix(" (Retired)")
    return f"{name} (retired)" if known[3] else name


def _yes(condition: bool) -> str:
    return "yes" if condition else "no"


if __name__ == "__main__":
    PAGE.write_text(current(PAGE.read_text()))
