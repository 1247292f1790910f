"""Association negotiation: what was proposed, what is accepted (PS3.8 9.3.2–9.3.4, PS3.7 Annex D). Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from fastarchive.dicom.uids import APPLICATION_CONTEXT, IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from fastarchive.upperlayer.errors import LocalProtocolError
from fastarchive.upperlayer.pdu import (
    ABSTRACT_SYNTAX_NOT_SUPPORTED,
    ACCEPTED,
    TRANSFER_SYNTAXES_NOT_SUPPORTED,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    ContextProposal,
    ContextResult,
)
from fastarchive.upperlayer.user_information import RoleSelection, UserIdentity, UserInformation

MAXIMUM_CONTEXTS = 128
"""Ids are the odd numbers of one byte (PS3.8 9.3.2.2)."""

# Reasons for A-ASSOCIATE-RJ (PS3.8 Table 9-21) as (result, source, reason).
APPLICATION_CONTEXT_NOT_SUPPORTED = AssociateReject(1, 1, 2)
CALLING_TITLE_NOT_RECOGNIZED = AssociateReject(1, 1, 3)
CALLED_TITLE_NOT_RECOGNIZED = AssociateReject(1, 1, 7)
PROTOCOL_VERSION_NOT_SUPPORTED = AssociateReject(1, 2, 2)
TEMPORARY_CONGESTION = AssociateReject(2, 3, 1)
LOCAL_LIMIT_EXCEEDED = AssociateReject(2, 3, 2)

REJECTIONS: Mapping[AssociateReject, str] = {
    APPLICATION_CONTEXT_NOT_SUPPORTED: "application context not supported",
    CALLING_TITLE_NOT_RECOGNIZED: "calling AE title not recognized",
    CALLED_TITLE_NOT_RECOGNIZED: "called AE title not recognized",
    PROTOCOL_VERSION_NOT_SUPPORTED: "protocol version not supported",
    TEMPORARY_CONGESTION: "temporary congestion",
    LOCAL_LIMIT_EXCEEDED: "local limit exceeded",
}
"""What each of them means, for people."""


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
    """What an acceptor agrees to: plain data and pure functions."""

    transfer_syntaxes: Callable[[str], Sequence[str] | None]
    """Abstract syntax -> acceptable transfer syntaxes in order of preference; None: abstract syntax not supported."""
    called_titles: Collection[str] | None = None
    """Titles we answer to; None: any."""
    calling: Callable[[str, str, str], bool] = _any_calling
    """(calling AE title, called AE title, peer's host) -> whether that AE may associate."""
    requestor_order: bool = False
    """Take the requestor's first acceptable transfer syntax instead of the policy's first that was proposed."""
    preferred_over: Mapping[str, str] = field(default_factory=dict)
    """Transfer syntax that would be taken -> the one to take instead where that was proposed in the same context."""
    roles: Callable[[str, bool, bool], tuple[bool, bool]] = _scu_only
    """(SOP class, SCU asked, SCP asked) -> roles the requestor gets; more than asked for is cut (PS3.7 D.3.3.4)."""
    extended: Callable[[str, bytes], bytes | None] = _no_extension
    """(SOP class, offered application information) -> the answer; None: no answer item (PS3.7 D.3.3.5)."""
    maximum_length: int = 131072
    """Longest P-DATA-TF variable field we take, bytes; advertised (PS3.8 D.1). 0: no limit."""
    operations_window: tuple[int, int] = (1, 1)
    """Most operations (invoked, performed by us) agreed to when a window is proposed (PS3.7 D.3.3.3); 0: no limit."""
    implementation_class_uid: str = IMPLEMENTATION_CLASS_UID
    implementation_version_name: str = IMPLEMENTATION_VERSION_NAME


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both sides know once an association is accepted; `request` and `accept` as they went over the wire."""

    request: AssociateRequest
    accept: AssociateAccept
    contexts: Mapping[int, PresentationContext]
    """Accepted contexts by id, roles as seen from this side."""
    extended: Mapping[str, bytes]
    """Application information the acceptor returned, by SOP class; what was not answered is absent (N6)."""
    operations_window: tuple[int, int]
    """Operations (invoked, performed) at once by *this* side; 0: no limit."""
    peer_maximum_length: int


def is_valid_title(title: str) -> bool:
    """A7: an AE title is 1 to 16 characters of the default repertoire, not all spaces, no backslash, no control
    character (PS3.5 6.2, VR AE)."""
    return len(title.strip(" ")) > 0 and len(title) <= 16 and all(" " <= c <= "~" and c != "\\" for c in title)


def negotiate(request: AssociateRequest, policy: AcceptorPolicy, host: str = "") -> Agreement | AssociateReject:
    """Answer a request: the agreement seen from the acceptor, or the rejection to send.

    An association none of whose contexts was acceptable is still accepted; the requestor decides (PS3.8 7.1.1.13).
    """
    if not request.protocol_version & 1:  # bit 0 is version 1, the only one (PS3.8 9.3.2)
        return PROTOCOL_VERSION_NOT_SUPPORTED
    if request.application_context != APPLICATION_CONTEXT:
        return APPLICATION_CONTEXT_NOT_SUPPORTED
    if not is_valid_title(request.called_ae) or not (
        policy.called_titles is None or request.called_ae in policy.called_titles
    ):
        return CALLED_TITLE_NOT_RECOGNIZED
    if not is_valid_title(request.calling_ae) or not policy.calling(request.calling_ae, request.called_ae, host):
        return CALLING_TITLE_NOT_RECOGNIZED
    offered = request.user_information
    roles = []
    for role in offered.roles:
        scu, scp = policy.roles(role.sop_class, role.scu, role.scp)
        roles.append(RoleSelection(role.sop_class, role.scu and scu, role.scp and scp))
    extended: dict[str, bytes] = {}
    for sop_class, application in offered.extended.items():
        answer = policy.extended(sop_class, application)
        if answer is not None:
            extended[sop_class] = answer[: len(application)]  # N2: never longer than the offer
    information = UserInformation(
        maximum_length=policy.maximum_length,
        implementation_class_uid=policy.implementation_class_uid,
        implementation_version_name=policy.implementation_version_name,
        operations_window=_agree_window(offered.operations_window, policy.operations_window),
        roles=tuple(roles),
        extended=extended,
    )
    accept = AssociateAccept(
        called_ae=request.called_ae,
        calling_ae=request.calling_ae,
        contexts=tuple(_choose(proposal, policy) for proposal in request.contexts),
        user_information=information,
    )
    return agreement(request, accept, is_requestor=False)


def _choose(proposal: ContextProposal, policy: AcceptorPolicy) -> ContextResult:
    # A rejected context carries a transfer syntax that means nothing (PS3.8 9.3.3.2); peers want the item all the same.
    proposed = proposal.transfer_syntaxes
    acceptable = policy.transfer_syntaxes(proposal.abstract_syntax)
    if acceptable is None:
        return ContextResult(proposal.id, ABSTRACT_SYNTAX_NOT_SUPPORTED, proposed[0] if proposed else "")
    both = frozenset(proposed).intersection(acceptable)
    for syntax in proposed if policy.requestor_order else acceptable:
        if syntax in both:
            better = policy.preferred_over.get(syntax, syntax)
            return ContextResult(proposal.id, ACCEPTED, better if better in both else syntax)
    return ContextResult(proposal.id, TRANSFER_SYNTAXES_NOT_SUPPORTED, proposed[0] if proposed else "")


def _agree_window(proposed: tuple[int, int] | None, ours: tuple[int, int]) -> tuple[int, int] | None:
    """The requestor's (invoked, performed) bound by what the acceptor performs and invokes (PS3.7 D.3.3.3.2)."""
    if proposed is None:
        return None
    return _lesser(proposed[0], ours[1]), _lesser(proposed[1], ours[0])


def _lesser(one: int, other: int) -> int:
    return min(one, other) if one and other else one or other


def agreement(request: AssociateRequest, accept: AssociateAccept, *, is_requestor: bool) -> Agreement:
    """Put a request and its acceptance together. Contexts that were not proposed are left out, and so are roles that
    were not asked for."""
    asked = {role.sop_class: role for role in request.user_information.roles}
    granted = {role.sop_class: role for role in accept.user_information.roles}
    abstract_syntaxes = {proposal.id: proposal.abstract_syntax for proposal in request.contexts}
    contexts: dict[int, PresentationContext] = {}
    for result in accept.contexts:
        abstract_syntax = abstract_syntaxes.get(result.id)
        if result.result != ACCEPTED or abstract_syntax is None:
            continue
        scu, scp = True, False  # the requestor's default roles (PS3.7 D.3.3.4)
        if abstract_syntax in asked and abstract_syntax in granted:
            scu = asked[abstract_syntax].scu and granted[abstract_syntax].scu
            scp = asked[abstract_syntax].scp and granted[abstract_syntax].scp
        ours = (scu, scp) if is_requestor else (scp, scu)
        contexts[result.id] = PresentationContext(result.id, abstract_syntax, result.transfer_syntax, *ours)
    window = accept.user_information.operations_window or (1, 1)
    peer = accept if is_requestor else request
    return Agreement(
        request=request,
        accept=accept,
        contexts=contexts,
        extended=accept.user_information.extended,
        operations_window=window if is_requestor else (window[1], window[0]),
        peer_maximum_length=peer.user_information.maximum_length,
    )


def build_request(
    *,
    calling_ae: str,
    called_ae: str,
    contexts: Sequence[ProposedContext],
    extended: Mapping[str, bytes] | None = None,
    user_identity: UserIdentity | None = None,
    operations_window: tuple[int, int] = (1, 1),
    maximum_length: int = 131072,
) -> AssociateRequest:
    """The A-ASSOCIATE-RQ for these wishes; context ids 1, 3, 5 … in the order given.

    Raises LocalProtocolError for more than 128 contexts, none, or an impossible AE title.
    """
    if not 0 < len(contexts) <= MAXIMUM_CONTEXTS:
        raise LocalProtocolError(f"{len(contexts)} presentation contexts; an association has 1 to {MAXIMUM_CONTEXTS}")
    if not (is_valid_title(calling_ae) and is_valid_title(called_ae)):
        raise LocalProtocolError("an AE title is 1 to 16 characters without backslash and control characters")
    roles: dict[str, RoleSelection] = {}
    for context in contexts:
        if context.scp:
            roles[context.abstract_syntax] = RoleSelection(context.abstract_syntax, context.scu, True)
    information = UserInformation(
        maximum_length=maximum_length,
        implementation_class_uid=IMPLEMENTATION_CLASS_UID,
        implementation_version_name=IMPLEMENTATION_VERSION_NAME,
        operations_window=None if operations_window == (1, 1) else operations_window,
        roles=tuple(roles.values()),
        extended=dict(extended or {}),
        user_identity=user_identity,
    )
    proposals = tuple(
        ContextProposal(2 * number + 1, context.abstract_syntax, tuple(context.transfer_syntaxes))
        for number, context in enumerate(contexts)
    )
    return AssociateRequest(
        called_ae=called_ae.strip(" "),
        calling_ae=calling_ae.strip(" "),
        contexts=proposals,
        user_information=information,
    )
