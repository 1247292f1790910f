"""Which associations the archive accepts, and what it agrees to in them (PS3.7 Annex D, PS3.4 B.3 and C.5)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from fastarchive.dicom.attributes import model_of
from fastarchive.dicom.tables import UIDS
from fastarchive.dicom.transfer_syntaxes import (
    ALL_TRANSFER_SYNTAXES,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from fastarchive.dicom.uids import STORAGE_SOP_CLASSES, VERIFICATION, is_valid_uid
from fastarchive.query.options import answer_negotiation
from fastarchive.upperlayer import AcceptorPolicy
from fastarchive.upperlayer.pdu import AssociateRequest

__all__ = ["acceptor_policy", "is_storage", "only_stores"]

_DICOM_ROOT: Final = "1.2.840.10008."
_STANDARD_STORAGE_ARCS: Final = ("1.2.840.10008.5.1.4.1.1.", "1.2.840.10008.5.1.4.34.", "1.2.840.10008.5.1.4.43.")

_OTHER_SOP_CLASSES: Final[frozenset[str]] = frozenset(
    uid
    for uid, (_, kind, *_) in UIDS.items()
    if kind in {"SOP Class", "Meta SOP Class", "Service Class"} and uid not in STORAGE_SOP_CLASSES
)
"""Every SOP class of the standard that is not one of composite storage."""

_IDENTIFIER_TRANSFER_SYNTAXES: Final = (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
)
"""What an identifier may be encoded in: deflating a few hundred bytes helps nobody."""

# PS3.4 Table B.3-1: level 2 (every attribute is kept), reserved, signature level 3 (signatures stay valid because the
# bytes are kept), reserved, no coercion of elements, reserved.
_STORAGE_EXTENSION: Final = bytes((2, 0, 3, 0, 0, 0))


def is_storage(sop_class: str, accept_unknown: bool = True) -> bool:
    """Whether instances of `sop_class` are stored.

    Those of the standard always are. With `accept_unknown` so are private ones and those which a later edition of the
    standard added to its storage classes; whatever is known to be something else is not.
    """
    if sop_class in STORAGE_SOP_CLASSES:
        return True
    if not accept_unknown or sop_class in _OTHER_SOP_CLASSES:
        return False
    if sop_class.startswith(_DICOM_ROOT) and not sop_class.startswith(_STANDARD_STORAGE_ARCS):
        return False
    return is_valid_uid(sop_class)


def only_stores(request: AssociateRequest) -> bool:
    """Whether an association that is proposed like this is for instances to be stored, and for nothing else."""
    proposed = {context.abstract_syntax for context in request.contexts} - {VERIFICATION}
    return bool(proposed) and all(map(is_storage, proposed))


def acceptor_policy(
    *,
    called_titles: Collection[str] | None = None,
    calling_titles: Collection[str] = (),
    accept_unknown_sop_classes: bool = True,
    private_transfer_syntaxes: Sequence[str] = (),
    maximum_length: int = 128 * 1024,
) -> AcceptorPolicy:
    """The archive's policy.

    `called_titles`: the AE titles it may be called by, None for any (A1: others are rejected 1/1/7). `calling_titles`:
    who may call, nobody named means anybody (others 1/1/3). `maximum_length`: the longest P-DATA-TF it takes, bytes.

    `private_transfer_syntaxes` are accepted for storage besides those of the standard.

    Within a context the requestor's first transfer syntax that is known wins: it is the one the requestor has the
    instance in, and everything is stored as received. Only where that is implicit VR or big endian and explicit VR
    little endian was proposed beside it, the latter is taken: it says what private elements are.
    """
    allowed = frozenset(calling_titles)
    storage_transfer_syntaxes = (*ALL_TRANSFER_SYNTAXES, *private_transfer_syntaxes)

    def transfer_syntaxes(abstract_syntax: str) -> Sequence[str] | None:
        if abstract_syntax == VERIFICATION or model_of(abstract_syntax) is not None:
            return _IDENTIFIER_TRANSFER_SYNTAXES
        if is_storage(abstract_syntax, accept_unknown_sop_classes):
            return storage_transfer_syntaxes
        return None

    def calling(calling_ae: str, called_ae: str, host: str) -> bool:
        return not allowed or calling_ae in allowed

    def roles(sop_class: str, scu: bool, scp: bool) -> tuple[bool, bool]:
        # Whoever retrieves by C-GET takes the instances in the role of an SCP of their classes (PS3.4 C.5.3).
        return scu, scp and is_storage(sop_class, accept_unknown_sop_classes)

    def extended(sop_class: str, offered: bytes) -> bytes | None:
        model = model_of(sop_class)
        if model is not None and model[1] == "FIND":
            return answer_negotiation(offered)
        if model is not None:
            # Relational retrieval always works; there is no conversion of enhanced multi-frame images (N2, N3).
            return bytes((offered[0] == 1, 0))[: len(offered)] if offered else b""
        if is_storage(sop_class, accept_unknown_sop_classes):
            return _STORAGE_EXTENSION[: len(offered)]
        return None

    return AcceptorPolicy(
        transfer_syntaxes=transfer_syntaxes,
        called_titles=None if called_titles is None else frozenset(called_titles),
        calling=calling,
        requestor_order=True,
        preferred_over={IMPLICIT_VR_LITTLE_ENDIAN: EXPLICIT_VR_LITTLE_ENDIAN},
        roles=roles,
        extended=extended,
        maximum_length=maximum_length,
    )
