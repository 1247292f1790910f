"""What is accepted of what was proposed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastarchive.upperlayer.errors import LocalProtocolError
from fastarchive.upperlayer.negotiation import (
    AcceptorPolicy,
    Agreement,
    PresentationContext,
    ProposedContext,
    agreement,
    build_request,
    is_valid_title,
    negotiate,
)
from fastarchive.upperlayer.pdu import AssociateReject, AssociateRequest, ContextResult
from fastarchive.upperlayer.user_information import RoleSelection, UserIdentity
from tests.upperlayer.running import CT_IMAGE_STORAGE, EXPLICIT, IMPLICIT, POLICY, STUDY_ROOT_FIND, VERIFICATION


def request(*contexts: ProposedContext, calling: str = "CALLING", called: str = "CALLED") -> AssociateRequest:
    return build_request(
        calling_ae=calling, called_ae=called, contexts=contexts or [ProposedContext(VERIFICATION, [IMPLICIT])]
    )


def accepted(asked: AssociateRequest, policy: AcceptorPolicy = POLICY) -> Agreement:
    answer = negotiate(asked, policy)
    assert isinstance(answer, Agreement)
    return answer


def test_results_0_3_4() -> None:
    agreed = accepted(
        request(
            ProposedContext(VERIFICATION, [IMPLICIT, EXPLICIT]),
            ProposedContext("1.2.3.4", [IMPLICIT]),
            ProposedContext(VERIFICATION, ["1.2.3.5"]),
        )
    )
    assert agreed.accept.contexts == (
        ContextResult(1, 0, EXPLICIT),
        ContextResult(3, 3, IMPLICIT),
        ContextResult(5, 4, "1.2.3.5"),
    )
    assert agreed.contexts == {1: PresentationContext(1, VERIFICATION, EXPLICIT, as_scu=False, as_scp=True)}


def test_the_requestors_order_if_wanted() -> None:
    asked = request(ProposedContext(VERIFICATION, ["1.2.3", IMPLICIT, EXPLICIT]))
    assert accepted(asked).contexts[1].transfer_syntax == EXPLICIT
    assert accepted(asked, replace(POLICY, requestor_order=True)).contexts[1].transfer_syntax == IMPLICIT


def test_a_transfer_syntax_preferred_over_the_one_that_would_be_taken() -> None:
    policy = replace(POLICY, requestor_order=True, preferred_over={IMPLICIT: EXPLICIT})
    both = request(ProposedContext(VERIFICATION, [IMPLICIT, EXPLICIT]))
    assert accepted(both, policy).contexts[1].transfer_syntax == EXPLICIT
    only = request(ProposedContext(VERIFICATION, [IMPLICIT]))
    assert accepted(only, policy).contexts[1].transfer_syntax == IMPLICIT


def test_128_contexts() -> None:
    agreed = accepted(request(*[ProposedContext(VERIFICATION, [IMPLICIT])] * 128))
    assert sorted(agreed.contexts) == list(range(1, 256, 2))
    with pytest.raises(LocalProtocolError):
        request(*[ProposedContext(VERIFICATION, [IMPLICIT])] * 129)


def test_no_acceptable_context_is_still_an_association() -> None:
    assert accepted(request(ProposedContext("1.2.3", [IMPLICIT]))).contexts == {}


@pytest.mark.parametrize(
    ("change", "reject"),
    [
        ({"called_ae": "ELSE"}, AssociateReject(1, 1, 7)),
        ({"called_ae": ""}, AssociateReject(1, 1, 7)),
        ({"calling_ae": "STRANGER"}, AssociateReject(1, 1, 3)),
        ({"calling_ae": "A\\B"}, AssociateReject(1, 1, 3)),
        ({"application_context": "1.2.3"}, AssociateReject(1, 1, 2)),
        ({"protocol_version": 2}, AssociateReject(1, 2, 2)),
    ],
)
def test_A1_rejections(change: dict[str, str], reject: AssociateReject) -> None:
    policy = replace(POLICY, called_titles={"CALLED"}, calling=lambda calling, called, host: calling == "CALLING")
    assert negotiate(replace(request(), **change), policy) == reject  # type: ignore[arg-type]  # values of mixed types


def test_the_calling_check_sees_the_host() -> None:
    seen: list[tuple[str, str, str]] = []

    def check(*arguments: str) -> bool:
        seen.append((arguments[0], arguments[1], arguments[2]))
        return True

    negotiate(request(), replace(POLICY, calling=check), "10.0.0.1")
    assert seen == [("CALLING", "CALLED", "10.0.0.1")]


def test_a_later_protocol_version_that_includes_ours() -> None:
    accepted(replace(request(), protocol_version=3))


@pytest.mark.parametrize("title", ["A", "A B", "X" * 16, "CT-1_3"])
def test_A7_titles(title: str) -> None:
    assert is_valid_title(title)


@pytest.mark.parametrize("title", ["", "  ", "A\\B", "A\tB", "A\0B", "X" * 17, "Ä"])
def test_A7_impossible_titles(title: str) -> None:
    assert not is_valid_title(title)


def test_R11_role_selection() -> None:
    """PS3.7 D.3.3.4: the requestor of a C-GET takes the SCP role for what it wants to be sent."""
    policy = replace(POLICY, roles=lambda sop_class, scu, scp: (scu, scp and sop_class == CT_IMAGE_STORAGE))
    asked = request(
        ProposedContext(CT_IMAGE_STORAGE, [EXPLICIT], scu=False, scp=True),
        ProposedContext(STUDY_ROOT_FIND, [EXPLICIT], scu=True, scp=True),
        ProposedContext(VERIFICATION, [EXPLICIT]),
    )
    ours = accepted(asked, policy)
    assert ours.accept.user_information.roles == (
        RoleSelection(CT_IMAGE_STORAGE, False, True),
        RoleSelection(STUDY_ROOT_FIND, True, False),
    )
    assert [(context.as_scu, context.as_scp) for context in ours.contexts.values()] == [
        (True, False),
        (False, True),
        (False, True),
    ]
    theirs = agreement(asked, ours.accept, is_requestor=True)
    assert [(context.as_scu, context.as_scp) for context in theirs.contexts.values()] == [
        (False, True),
        (True, False),
        (True, False),
    ]


def test_role_selection_not_answered_means_the_default() -> None:
    asked = request(ProposedContext(CT_IMAGE_STORAGE, [EXPLICIT], scu=True, scp=True))
    agreed = accepted(asked)
    silent = replace(agreed.accept, user_information=replace(agreed.accept.user_information, roles=()))
    context = agreement(asked, silent, is_requestor=True).contexts[1]
    assert (context.as_scu, context.as_scp) == (True, False)


def test_contexts_that_were_not_proposed_do_not_exist() -> None:
    asked = request()
    accept = replace(accepted(asked).accept, contexts=(ContextResult(1, 0, IMPLICIT), ContextResult(7, 0, IMPLICIT)))
    assert list(agreement(asked, accept, is_requestor=True).contexts) == [1]


def offering(extended: dict[str, bytes]) -> AssociateRequest:
    return build_request(
        calling_ae="A", called_ae="B", contexts=[ProposedContext(STUDY_ROOT_FIND, [EXPLICIT])], extended=extended
    )


def test_N1_no_item_offered_none_returned() -> None:
    policy = replace(POLICY, extended=lambda sop_class, offered: b"\1\1\1")
    assert accepted(request(), policy).extended == {}


def test_N2_the_answer_is_never_longer_than_the_offer() -> None:
    policy = replace(POLICY, extended=lambda sop_class, offered: b"\1\1\1\1\1")
    assert accepted(offering({STUDY_ROOT_FIND: b"\1\0"}), policy).extended == {STUDY_ROOT_FIND: b"\1\1"}


def test_N6_an_item_not_answered() -> None:
    agreed = accepted(offering({STUDY_ROOT_FIND: b"\1"}))
    assert agreed.extended == {}
    assert agreed.request.user_information.extended == {STUDY_ROOT_FIND: b"\1"}


@pytest.mark.parametrize(
    ("proposed", "ours", "answer"),
    [((4, 4), (1, 1), (1, 1)), ((4, 2), (0, 3), (3, 2)), ((0, 0), (5, 6), (6, 5)), ((0, 0), (0, 0), (0, 0))],
)
def test_asynchronous_operations_window(
    proposed: tuple[int, int], ours: tuple[int, int], answer: tuple[int, int]
) -> None:
    asked = build_request(
        calling_ae="A",
        called_ae="B",
        contexts=[ProposedContext(VERIFICATION, [IMPLICIT])],
        operations_window=proposed,
    )
    agreed = accepted(asked, replace(POLICY, operations_window=ours))
    assert agreed.accept.user_information.operations_window == answer
    assert agreed.operations_window == (answer[1], answer[0])
    assert agreement(asked, agreed.accept, is_requestor=True).operations_window == answer


def test_no_window_asked_is_synchronous() -> None:
    agreed = accepted(request(), replace(POLICY, operations_window=(0, 0)))
    assert agreed.accept.user_information.operations_window is None
    assert agreed.operations_window == (1, 1)


def test_the_users_identity_is_handed_on() -> None:
    identity = UserIdentity(2, b"name", b"word")
    asked = build_request(
        calling_ae="A",
        called_ae="B",
        contexts=[ProposedContext(VERIFICATION, [IMPLICIT])],
        user_identity=identity,
    )
    assert accepted(asked).request.user_information.user_identity == identity


@pytest.mark.parametrize(("calling", "called"), [("", "B"), ("A", "B\\C"), ("X" * 17, "B")])
def test_a_request_nobody_could_accept(calling: str, called: str) -> None:
    with pytest.raises(LocalProtocolError):
        request(calling=calling, called=called)
