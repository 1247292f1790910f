"""What the archive agrees to when an association is negotiated."""

from __future__ import annotations

import pytest

from fastarchive.dicom.transfer_syntaxes import ALL_TRANSFER_SYNTAXES, DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN
from fastarchive.dicom.uids import (
    FIND_SOP_CLASSES,
    GET_SOP_CLASSES,
    MODALITY_WORKLIST_FIND,
    MOVE_SOP_CLASSES,
    STORAGE_COMMITMENT_PUSH_MODEL,
    STORAGE_SOP_CLASSES,
    STUDY_ROOT_FIND,
    STUDY_ROOT_GET,
    VERIFICATION,
)
from fastarchive.services.policy import acceptor_policy, is_storage, only_stores
from fastarchive.upperlayer.pdu import AssociateRequest, ContextProposal
from fastarchive.upperlayer.user_information import UserInformation

CT = "1.2.840.10008.5.1.4.1.1.2"


def test_every_storage_class_of_the_standard_is_accepted_in_every_transfer_syntax() -> None:
    policy = acceptor_policy(accept_unknown_sop_classes=False)
    for sop_class in STORAGE_SOP_CLASSES:
        assert policy.transfer_syntaxes(sop_class) == ALL_TRANSFER_SYNTAXES
    assert policy.requestor_order


def test_R8_explicit_is_taken_over_implicit_when_both_are_proposed_in_one_context() -> None:
    preferred = acceptor_policy().preferred_over
    assert preferred == {"1.2.840.10008.1.2": "1.2.840.10008.1.2.1"}


def test_query_retrieve_and_verification_take_plain_encodings_only() -> None:
    policy = acceptor_policy()
    for sop_class in {VERIFICATION} | FIND_SOP_CLASSES | MOVE_SOP_CLASSES | GET_SOP_CLASSES:
        accepted = policy.transfer_syntaxes(sop_class)
        assert accepted is not None
        assert len(accepted) == 3
        assert DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN not in accepted


@pytest.mark.parametrize(
    ("sop_class", "with_setting"),
    [
        ("1.3.12.2.1107.5.9.1", True),  # private: CSA Non-Image
        ("1.2.840.10008.5.1.4.1.1.999.1", True),  # of a later edition
        ("1.2.840.10008.5.1.4.34.99", True),
        (MODALITY_WORKLIST_FIND, False),
        (STORAGE_COMMITMENT_PUSH_MODEL, False),
        ("1.2.840.10008.1.3.10", False),  # Media Storage Directory
        ("1.2.840.10008.5.1.1.9", False),  # Basic Grayscale Print Management
        ("1.2.840.10008.77.1", False),  # of the standard, but no storage
        ("1.2.3.04", False),  # no UID at all
        ("", False),
    ],
)
def test_unknown_and_private_classes_are_stored_if_the_setting_allows(sop_class: str, with_setting: bool) -> None:
    assert is_storage(sop_class, True) is with_setting
    assert is_storage(sop_class, False) is False
    strict = acceptor_policy(accept_unknown_sop_classes=False)
    assert strict.transfer_syntaxes(sop_class) is None


@pytest.mark.parametrize(
    ("proposed", "does"),
    [
        ([CT], True),
        ([VERIFICATION, CT, "1.3.12.2.1107.5.9.1"], True),
        (sorted(STORAGE_SOP_CLASSES), True),
        ([VERIFICATION], False),
        ([], False),
        ([CT, STUDY_ROOT_FIND], False),
        ([CT, STUDY_ROOT_GET], False),  # takes the instances it asks for in the role of an SCP
        ([CT, STORAGE_COMMITMENT_PUSH_MODEL], False),
        ([STUDY_ROOT_FIND], False),
    ],
)
def test_what_an_association_is_for_is_told_by_all_that_is_proposed(proposed: list[str], does: bool) -> None:
    request = AssociateRequest(
        called_ae="FASTARCHIVE",
        calling_ae="ANY",
        contexts=tuple(ContextProposal(2 * number + 1, uid, ()) for number, uid in enumerate(proposed)),
        user_information=UserInformation(),
    )
    assert only_stores(request) is does


def test_R11_a_requestor_may_be_scp_of_storage_classes_and_of_nothing_else() -> None:
    roles = acceptor_policy().roles
    assert roles(CT, True, True) == (True, True)
    assert roles(CT, False, True) == (False, True)
    assert roles(CT, True, False) == (True, False)
    assert roles(STUDY_ROOT_FIND, True, True) == (True, False)


def test_N2_N3_extended_negotiation_is_never_longer_than_the_offer() -> None:
    extended = acceptor_policy().extended
    for length in range(9):
        for sop_class in (STUDY_ROOT_FIND, STUDY_ROOT_GET, CT):
            answer = extended(sop_class, b"\x01" * length)
            assert answer is not None
            assert len(answer) <= length
    find = extended(STUDY_ROOT_FIND, bytes(7))
    assert find == bytes(7)
    assert extended(STUDY_ROOT_GET, b"\x01\x01") == b"\x01\x00"
    assert extended(STUDY_ROOT_GET, b"\x00\x01") == b"\x00\x00"


def test_storage_negotiates_level_2_and_untouched_signatures() -> None:
    assert acceptor_policy().extended(CT, bytes(6)) == bytes((2, 0, 3, 0, 0, 0))
    assert acceptor_policy().extended(VERIFICATION, b"\x01") is None


def test_A1_titles() -> None:
    anybody = acceptor_policy()
    assert anybody.called_titles is None
    assert anybody.calling("WHOEVER", "WHATEVER", "10.0.0.1")
    named = acceptor_policy(called_titles=["ARCHIVE"], calling_titles=["CT1", "CT2"])
    assert named.called_titles == {"ARCHIVE"}
    assert named.calling("CT1", "ARCHIVE", "10.0.0.1")
    assert not named.calling("CT3", "ARCHIVE", "10.0.0.1")


def test_private_transfer_syntaxes_are_taken_for_storage_when_they_are_named() -> None:
    private = "1.2.840.113619.5.2"
    policy = acceptor_policy(private_transfer_syntaxes=(private,))
    assert policy.transfer_syntaxes(CT) == (*ALL_TRANSFER_SYNTAXES, private)
    assert private not in (policy.transfer_syntaxes(STUDY_ROOT_FIND) or ())
    assert private not in (acceptor_policy().transfer_syntaxes(CT) or ())
