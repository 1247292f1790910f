"""PDUs: round trips, agreement with pynetdicom's, and fragments."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom import pdu as oracle

from fastarchive.upperlayer.errors import LocalProtocolError, RemoteProtocolError
from fastarchive.upperlayer.pdu import (
    PDU,
    PDU_HEADER,
    PDV_HEADER,
    Abort,
    AssociateAccept,
    AssociateReject,
    AssociateRequest,
    ContextProposal,
    ContextResult,
    ReleaseRequest,
    ReleaseResponse,
    decode_pdu,
    encode_pdu,
    fragment_length,
    frame_command,
    frame_data_set,
)
from fastarchive.upperlayer.user_information import (
    CommonExtendedNegotiation,
    RoleSelection,
    UserIdentity,
    UserInformation,
)

uids = st.lists(st.integers(1, 999999), min_size=2, max_size=8).map(lambda arcs: ".".join(map(str, arcs)))
titles = st.text(st.sampled_from("ABCDEF012345_"), min_size=1, max_size=16)
bits = st.booleans()
number = st.integers(0, 0xFFFF)
odd_ids = st.integers(0, 127).map(lambda n: 2 * n + 1)
information = st.builds(
    UserInformation,
    maximum_length=st.integers(0, 0xFFFFFFFF),
    implementation_class_uid=st.just("") | uids,
    implementation_version_name=st.just("") | titles,
    operations_window=st.none() | st.tuples(number, number),
    roles=st.lists(st.builds(RoleSelection, uids, bits, bits), max_size=4).map(tuple),
    extended=st.dictionaries(uids, st.binary(max_size=8), max_size=3),
    common_extended=st.lists(
        st.builds(CommonExtendedNegotiation, uids, uids, st.lists(uids, max_size=3).map(tuple)), max_size=3
    ).map(tuple),
    user_identity=st.none()
    | st.builds(UserIdentity, st.integers(1, 5), st.binary(max_size=40), st.binary(max_size=40), bits),
    server_response=st.none() | st.binary(max_size=20),
)
requests = st.builds(
    AssociateRequest,
    called_ae=titles,
    calling_ae=titles,
    contexts=st.lists(
        st.builds(ContextProposal, odd_ids, uids, st.lists(uids, max_size=4).map(tuple)),
        max_size=6,
        unique_by=lambda context: context.id,
    ).map(tuple),
    user_information=information,
    application_context=uids,
    protocol_version=number,
)
accepts = st.builds(
    AssociateAccept,
    called_ae=titles,
    calling_ae=titles,
    contexts=st.lists(
        st.builds(ContextResult, odd_ids, st.integers(0, 4), uids), max_size=6, unique_by=lambda context: context.id
    ).map(tuple),
    user_information=information,
    application_context=uids,
    protocol_version=number,
)
byte = st.integers(0, 255)
others = (
    st.builds(AssociateReject, byte, byte, byte)
    | st.just(ReleaseRequest())
    | st.just(ReleaseResponse())
    | st.builds(Abort, byte, byte)
)


@given(requests | accepts | others)
def test_round_trip(pdu: PDU) -> None:
    data = encode_pdu(pdu)
    kind, length = PDU_HEADER.unpack_from(data)
    assert length == len(data) - 6
    assert decode_pdu(kind, data[6:]) == pdu


@settings(max_examples=100)
@given(st.integers(1, 7).filter(lambda kind: kind != 4), st.binary(max_size=300))
def test_garbage_raises_nothing_else(kind: int, body: bytes) -> None:
    try:
        decode_pdu(kind, body)
    except RemoteProtocolError as error:
        assert error.source == 2


@given(requests, st.data())
def test_one_changed_byte_raises_nothing_else(request: AssociateRequest, data: st.DataObject) -> None:
    body = bytearray(encode_pdu(request)[6:])
    body[data.draw(st.integers(0, len(body) - 1))] = data.draw(byte)
    with suppress(RemoteProtocolError):
        decode_pdu(1, bytes(body))


EVERYTHING = UserInformation(
    maximum_length=16382,
    implementation_class_uid="1.2.3.4",
    implementation_version_name="TEST_1",
    operations_window=(3, 4),
    roles=(RoleSelection("1.2.840.10008.5.1.4.1.1.2", True, True),),
    extended={"1.2.840.10008.5.1.4.1.2.2.1": b"\1\0\1"},
    common_extended=(CommonExtendedNegotiation("1.2.3.5", "1.2.840.10008.4.2", ("1.2.840.10008.5.1.4.1.1.88.22",)),),
    user_identity=UserIdentity(2, b"name", b"secret", True),
)


def test_pynetdicom_reads_our_request() -> None:
    request = AssociateRequest(
        called_ae="CALLED",
        calling_ae="CALLING",
        contexts=(ContextProposal(1, "1.2.840.10008.1.1", ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")),),
        user_information=EVERYTHING,
    )
    data = encode_pdu(request)
    read = oracle.A_ASSOCIATE_RQ()
    read.decode(data)
    assert read.called_ae_title.strip() == "CALLED"
    assert read.calling_ae_title.strip() == "CALLING"
    assert read.application_context_name == "1.2.840.10008.3.1.1.1"
    assert [str(uid) for uid in read.presentation_context[0].transfer_syntax] == [
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1",
    ]
    user = read.user_information
    assert user.maximum_length == 16382
    assert user.async_ops_window.maximum_number_operations_invoked == 3
    assert user.role_selection["1.2.840.10008.5.1.4.1.1.2"].scp_role == 1
    assert user.ext_neg[0].app_info == b"\1\0\1"
    assert user.common_ext_neg[0].related_general_sop_class_identification == ["1.2.840.10008.5.1.4.1.1.88.22"]
    assert user.user_identity.secondary_field == b"secret"
    # and writes the same again
    rewritten = decode_pdu(1, read.encode()[6:])
    assert rewritten == request


def test_pynetdicom_reads_our_acceptance() -> None:
    accept = AssociateAccept(
        called_ae="CALLED",
        calling_ae="CALLING",
        contexts=(ContextResult(1, 0, "1.2.840.10008.1.2"), ContextResult(3, 3, "1.2.840.10008.1.2")),
        user_information=UserInformation(maximum_length=1, implementation_class_uid="1.2", server_response=b"yes"),
    )
    read = oracle.A_ASSOCIATE_AC()
    read.decode(encode_pdu(accept))
    assert [(context.context_id, context.result) for context in read.presentation_context] == [(1, 0), (3, 3)]
    assert read.user_information.user_identity.server_response == b"yes"
    assert decode_pdu(2, read.encode()[6:]) == accept


def test_secrets_are_not_shown() -> None:
    assert "secret" not in repr(EVERYTHING)


@pytest.mark.parametrize(
    "request_",
    [
        AssociateRequest(
            called_ae="é",
            calling_ae="A",
            contexts=(),
            user_information=UserInformation(),
        ),
        AssociateRequest(
            called_ae="A",
            calling_ae="A",
            contexts=(),
            user_information=UserInformation(user_identity=UserIdentity(3, bytes(70000))),
        ),
    ],
)
def test_what_does_not_fit(request_: AssociateRequest) -> None:
    with pytest.raises(LocalProtocolError):
        encode_pdu(request_)


def test_the_same_context_id_twice() -> None:
    request = AssociateRequest(
        called_ae="A",
        calling_ae="B",
        contexts=(ContextProposal(1, "1.2", ("1.2.840.10008.1.2",)),) * 2,
        user_information=UserInformation(),
    )
    with pytest.raises(RemoteProtocolError):
        decode_pdu(1, encode_pdu(request)[6:])


def _fragments(data: bytes) -> list[tuple[int, int, bytes]]:
    """(context id, control, fragment) of P-DATA-TF PDUs of one PDV each."""
    found = []
    position = 0
    while position < len(data):
        kind, length = PDU_HEADER.unpack_from(data, position)
        inner, context_id, control = PDV_HEADER.unpack_from(data, position + 6)
        assert kind == 4
        assert inner == length - 4
        found.append((context_id, control, data[position + 12 : position + 6 + length]))
        position += 6 + length
    return found


@given(st.binary(max_size=400), st.integers(1, 60), bits)
def test_A3_framed_data_fits_and_is_whole(data: bytes, longest: int, last: bool) -> None:
    fragments = _fragments(b"".join(frame_data_set(5, data, longest, last=last)))
    assert b"".join(fragment for _, _, fragment in fragments) == data
    assert all(len(fragment) <= longest for _, _, fragment in fragments)
    assert [control for _, control, _ in fragments] == [0] * (len(fragments) - 1) + [2 if last else 0]


@given(st.binary(min_size=1, max_size=400), st.integers(1, 60))
def test_A3_framed_commands_fit_and_are_whole(data: bytes, longest: int) -> None:
    fragments = _fragments(frame_command(5, data, longest))
    assert b"".join(fragment for _, _, fragment in fragments) == data
    assert all(len(fragment) <= longest for _, _, fragment in fragments)
    assert [control for _, control, _ in fragments] == [1] * (len(fragments) - 1) + [3]


@pytest.mark.parametrize(
    ("peer", "longest"), [(0, 1048570), (16384, 16378), (16383, 16376), (4, 2), (1, 2), (1 << 31, 1048570)]
)
def test_A3_longest_fragment(peer: int, longest: int) -> None:
    assert fragment_length(peer) == longest
