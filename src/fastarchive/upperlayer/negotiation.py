"""Association negotiation: what was proposed, what is accepted (PS3.8 9.3.2–9.3.4, PS3.7 Annex D)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from fastarchive.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME


@dataclass(frozen=True, slots=True)
class PresentationContext:
    """An accepted context. `as_scu`, `as_scp`: the roles *this* side may take in it."""

    id: int
    abstract_syntax: str
    transfer_syntax: str
    as_scu: bool = False
    as_scp: bool = True


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """A context to propose; `scu`, `scp` are the roles the requestor wants (role selection is sent when scp is set)."""

    abstract_syntax: str
    transfer_syntaxes: Sequence[str]
    scu: bool = True
    scp: bool = False


def _any_calling(calling_ae: str, called_ae: str, host: str) -> bool:
    return True


def _scu_only(sop_class: str, scu: bool, scp: bool) -> tuple[bool, bool]:
    return scu, False


def _no_extension(sop_class: str, offered: bytes) -> bytes | None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptorPolicy:
    """What an acceptor agrees to: plain data and pure functions.

    transfer_syntaxes(abstract syntax) -> acceptable transfer syntaxes in order of preference, None: not supported;
    called_titles None: any; calling(calling AE, called AE, peer's host) -> whether that AE may associate;
    roles(SOP class, scu, scp) -> the roles granted to the requestor out of those it asked for (PS3.7 D.3.3.4);
    extended(SOP class, offered application information) -> the answer, None: no answer item (PS3.7 D.3.3.5).
    """

    transfer_syntaxes: Callable[[str], Sequence[str] | None]
    called_titles: Collection[str] | None = None
    calling: Callable[[str, str, str], bool] = _any_calling
    requestor_order: bool = False
    """Take the requestor's first acceptable transfer syntax instead of the policy's first that was proposed."""
    roles: Callable[[str, bool, bool], tuple[bool, bool]] = _scu_only
    extended: Callable[[str, bytes], bytes | None] = _no_extension
    maximum_length: int = 131072
    """Longest P-DATA-TF variable field we take, bytes; advertised (PS3.8 D.1)."""
    operations_window: tuple[int, int] = (1, 1)
    """Most operations (invoked, performed) by the acceptor agreed to when the requestor proposes a window (PS3.7 D.3.3.3)."""
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID
    implementation_version_name: str = IMPLEMENTATION_VERSION_NAME
