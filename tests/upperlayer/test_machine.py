"""The protocol with bytes alone: the state table, messages in pieces, and peers that do not keep to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.fsm import ACTIONS, TRANSITION_TABLE

from fastarchive.upperlayer.commands import Command, CommandField, encode_command
from fastarchive.upperlayer.errors import LocalProtocolError, RemoteProtocolError
from fastarchive.upperlayer.events import (
    Aborted,
    AssociationEstablished,
    AssociationRefused,
    AssociationRequested,
    CommandReceived,
    ConnectionLost,
    DataReceived,
    Event,
    Released,
    ReleaseRequested,
)
from fastarchive.upperlayer.machine import (
    Machine,
)
from fastarchive.upperlayer.negotiation import Agreement, build_request, negotiate
from fastarchive.upperlayer.pdu import (
    PDU_HEADER,
    PDV_HEADER,
    Abort,
    AssociateReject,
    ReleaseRequest,
    ReleaseResponse,
    encode_pdu,
    frame_command,
    frame_data_set,
)
from fastarchive.upperlayer.states import NEXT_STATES, TRANSITIONS, State, Trigger
from tests.upperlayer.running import CONTEXTS, CT_IMAGE_STORAGE, POLICY

REQUEST = build_request(calling_ae="A", called_ae="B", contexts=CONTEXTS)
_agreed = negotiate(REQUEST, POLICY)
assert isinstance(_agreed, Agreement)
AGREED = _agreed

RQ, AC = encode_pdu(REQUEST), encode_pdu(AGREED.accept)
RJ = encode_pdu(AssociateReject(1, 1, 7))
RELEASE_RQ, RELEASE_RP = encode_pdu(ReleaseRequest()), encode_pdu(ReleaseResponse())
ABORT = encode_pdu(Abort(0, 0))
ECHO = Command(field=CommandField.C_ECHO_RQ, message_id=1)
STORE = Command(
    field=CommandField.C_STORE_RQ,
    message_id=7,
    affected_sop_class=CT_IMAGE_STORAGE,
    affected_sop_instance="1.2.3",
    priority=0,
    has_data_set=True,
)
ECHO_PDU = frame_command(1, encode_command(ECHO), 1000)
UNKNOWN = b"\x09\0\0\0\0\4abcd"
PDUS = {
    Trigger.ASSOCIATE_AC_PDU: AC,
    Trigger.ASSOCIATE_RJ_PDU: RJ,
    Trigger.ASSOCIATE_RQ_PDU: RQ,
    Trigger.P_DATA_PDU: ECHO_PDU,
    Trigger.RELEASE_RQ_PDU: RELEASE_RQ,
    Trigger.RELEASE_RP_PDU: RELEASE_RP,
    Trigger.ABORT_PDU: ABORT,
    Trigger.INVALID_PDU: UNKNOWN,
}


def feed(machine: Machine, data: bytes) -> list[Event]:
    return list(machine.receive_data(memoryview(data)))


def acceptor(*, established: bool = True) -> Machine:
    machine = Machine(is_requestor=False)
    if established:
        feed(machine, RQ)
        machine.accept(AGREED)
    return machine


def requestor(*, established: bool = True) -> Machine:
    machine = Machine(is_requestor=True)
    machine.request(REQUEST)
    if established:
        feed(machine, AC)
    return machine


def reached(*steps: Callable[[Machine], object], made: Callable[[], Machine] = acceptor) -> Callable[[], Machine]:
    def build() -> Machine:
        machine = made()
        for step in steps:
            step(machine)
        return machine

    return build


def _release(machine: Machine) -> object:
    return machine.release()


def _release_arrives(machine: Machine) -> object:
    return feed(machine, RELEASE_RQ)


STATES: dict[State, Callable[[], Machine]] = {
    State.AWAITING_ASSOCIATE_RQ: lambda: acceptor(established=False),
    State.AWAITING_LOCAL_ANSWER: reached(lambda m: feed(m, RQ), made=lambda: acceptor(established=False)),
    State.AWAITING_ASSOCIATE_AC: lambda: requestor(established=False),
    State.ESTABLISHED: acceptor,
    State.AWAITING_RELEASE_RP: reached(_release),
    State.AWAITING_LOCAL_RELEASE: reached(_release_arrives),
    State.COLLISION_REQUESTOR_AWAITING_LOCAL: reached(_release, _release_arrives, made=requestor),
    State.COLLISION_ACCEPTOR_AWAITING_RELEASE_RP: reached(_release, _release_arrives),
    State.COLLISION_REQUESTOR_AWAITING_RELEASE_RP: reached(
        _release, _release_arrives, lambda m: m.answer_release(), made=requestor
    ),
    State.COLLISION_ACCEPTOR_AWAITING_LOCAL: reached(_release, _release_arrives, lambda m: feed(m, RELEASE_RP)),
    State.AWAITING_CLOSE: reached(_release_arrives, lambda m: m.answer_release()),
}


def test_the_table_is_that_of_an_independent_implementation() -> None:
    ours = {(f"Evt{trigger}", f"Sta{state}"): action for (trigger, state), action in TRANSITIONS.items()}
    assert ours == TRANSITION_TABLE


def test_every_action_leads_somewhere() -> None:
    assert {*TRANSITIONS.values()} - {"AR-8"} == {*NEXT_STATES}
    assert {*TRANSITIONS.values()} == {*ACTIONS}


@pytest.mark.parametrize("state", STATES)
def test_states_are_reached(state: State) -> None:
    assert STATES[state]().state is state


@pytest.mark.parametrize("trigger", PDUS)
@pytest.mark.parametrize("state", STATES)
def test_A2_every_pdu_in_every_state(state: State, trigger: Trigger) -> None:
    """Table 9-10 carried out: what is out of order is answered by the provider's A-ABORT, and nothing more is heard."""
    machine = STATES[state]()
    action = TRANSITIONS[trigger, state]
    if action in ("AA-1", "AA-7", "AA-8"):
        with pytest.raises(RemoteProtocolError) as caught:
            feed(machine, PDUS[trigger])
        reason = 1 if trigger is Trigger.INVALID_PDU else 2
        assert (caught.value.source, caught.value.reason) == (2, reason)
        assert caught.value.reply == encode_pdu(Abort(2, reason))
        assert machine.state is State.AWAITING_CLOSE
        assert feed(machine, PDUS[trigger] + ABORT + UNKNOWN) == []
        return
    events = feed(machine, PDUS[trigger])
    expected = {
        "AE-3": AssociationEstablished,
        "AE-4": AssociationRefused,
        "AE-6": AssociationRequested,
        "DT-2": CommandReceived,
        "AR-6": CommandReceived,
        "AR-2": ReleaseRequested,
        "AR-8": ReleaseRequested,
        "AR-3": Released,
        "AR-10": Released,
        "AA-3": Aborted,
    }
    assert [type(event) for event in events] == ([expected[action]] if action in expected else [])
    if action == "AR-8":
        assert machine.state in (
            State.COLLISION_REQUESTOR_AWAITING_LOCAL,
            State.COLLISION_ACCEPTOR_AWAITING_RELEASE_RP,
        )
    else:
        assert machine.state == NEXT_STATES[action]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    ("trigger", "act"),
    [
        (Trigger.ACCEPT, lambda m: m.accept(AGREED)),
        (Trigger.REJECT, lambda m: m.reject(AssociateReject(1, 1, 1))),
        (Trigger.SEND_DATA, lambda m: m.send_data()),
        (Trigger.RELEASE, lambda m: m.release()),
        (Trigger.RELEASE_ANSWER, lambda m: m.answer_release()),
        (Trigger.TRANSPORT_CONFIRMED, lambda m: m.request(REQUEST)),
    ],
)
def test_what_the_user_may_ask_for_in_every_state(
    state: State, trigger: Trigger, act: Callable[[Machine], object]
) -> None:
    machine = STATES[state]()
    action = TRANSITIONS.get((trigger, state))
    if action is None:
        with pytest.raises(LocalProtocolError):
            act(machine)
        assert machine.state is state
    else:
        act(machine)
        assert machine.state == NEXT_STATES[action]


@pytest.mark.parametrize("state", STATES)
def test_abort_in_every_state(state: State) -> None:
    machine = STATES[state]()
    sent = machine.abort(0, 0)
    assert sent == (b"" if state in (State.AWAITING_ASSOCIATE_RQ, State.AWAITING_CLOSE) else ABORT)
    assert machine.state in (State.IDLE, State.AWAITING_CLOSE)
    assert feed(machine, ECHO_PDU + RELEASE_RP) == []


@pytest.mark.parametrize("state", STATES)
def test_connection_lost_in_every_state(state: State) -> None:
    machine = STATES[state]()
    silent = state in (State.AWAITING_ASSOCIATE_RQ, State.AWAITING_CLOSE)
    assert list(machine.connection_lost()) == ([] if silent else [ConnectionLost()])
    assert machine.state is State.IDLE


@pytest.mark.parametrize("state", [State.AWAITING_ASSOCIATE_RQ, State.AWAITING_CLOSE])
def test_artim(state: State) -> None:
    machine = STATES[state]()
    machine.artim_expired()
    assert machine.state is State.IDLE


def test_abort_before_the_transport() -> None:
    machine = Machine(is_requestor=True)
    assert machine.abort() == b""
    assert machine.state is State.IDLE


# -- messages ---------------------------------------------------------------------------------------------------------


def pdata(*fragments: tuple[int, int, bytes]) -> bytes:
    """One P-DATA-TF of PDVs (context id, control, fragment)."""
    body = b"".join(PDV_HEADER.pack(len(data) + 2, context, control) + data for context, control, data in fragments)
    return PDU_HEADER.pack(4, len(body)) + body


def normal(events: Iterable[Event]) -> list[Event]:
    """Events with adjacent pieces of a data set joined: how they were cut says nothing."""
    joined: list[Event] = []
    for event in events:
        before = joined[-1] if joined else None
        if isinstance(event, DataReceived) and isinstance(before, DataReceived) and not before.last:
            joined[-1] = DataReceived(before.data + event.data, event.last)
        else:
            joined.append(event)
    return joined


CONTEXT = AGREED.contexts[3]
STORE_BYTES = encode_command(STORE)


def message(data: bytes = b"0123456789") -> list[Event]:
    return [CommandReceived(CONTEXT, STORE), DataReceived(data, True)]


@pytest.mark.parametrize(
    "stream",
    [
        frame_command(3, STORE_BYTES, 1000) + b"".join(frame_data_set(3, b"0123456789", 1000, last=True)),
        frame_command(3, STORE_BYTES, 7) + b"".join(frame_data_set(3, b"0123456789", 3, last=True)),
        pdata((3, 3, STORE_BYTES), (3, 2, b"0123456789")),
        pdata((3, 1, STORE_BYTES[:5]), (3, 3, STORE_BYTES[5:]), (3, 0, b"01234")) + pdata((3, 2, b"56789")),
        pdata((3, 3, STORE_BYTES), (3, 0, b"")) + pdata((3, 0, b"0123456789")) + pdata((3, 2, b"")),
        pdata((3, 1, STORE_BYTES)) + pdata((3, 3, b"")) + pdata() + pdata((3, 2, b"0123456789")),
    ],
)
def test_A3_messages_in_any_fragmentation(stream: bytes) -> None:
    machine = acceptor()
    assert normal(feed(machine, stream)) == message()
    assert not machine.within_message
    assert normal(feed(machine, stream)) == message()


def test_an_empty_data_set() -> None:
    assert feed(acceptor(), pdata((3, 3, STORE_BYTES), (3, 2, b""))) == message(b"")


SESSION = (
    RQ
    + ECHO_PDU
    + frame_command(3, STORE_BYTES, 50)
    + b"".join(frame_data_set(3, bytes(range(256)) * 3, 200, last=True))
    + pdata((3, 3, STORE_BYTES), (3, 0, b"abc"), (3, 2, b""))
    + RELEASE_RQ
)


def events_of(pieces: Iterable[bytes]) -> tuple[list[Event], RemoteProtocolError | None]:
    machine = acceptor(established=False)
    events: list[Event] = []
    for piece in pieces:
        try:
            for event in machine.receive_data(memoryview(piece)):
                events.append(event)
                if isinstance(event, AssociationRequested):
                    machine.accept(AGREED)
        except RemoteProtocolError as error:
            return normal(events), error
    return normal(events), None


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(places), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


@given(st.lists(st.integers(0, len(SESSION)), max_size=40))
def test_any_cutting_of_the_stream_gives_the_same_events(places: list[int]) -> None:
    assert events_of(cut(SESSION, places)) == events_of([SESSION])


def test_byte_by_byte() -> None:
    whole, error = events_of([SESSION])
    assert error is None
    assert [type(event).__name__ for event in whole] == [
        "AssociationRequested",
        "CommandReceived",
        "CommandReceived",
        "DataReceived",
        "CommandReceived",
        "DataReceived",
        "ReleaseRequested",
    ]
    assert events_of(cut(SESSION, list(range(len(SESSION))))) == (whole, None)


@given(st.data())
def test_damaged_streams_raise_nothing_else_however_they_are_cut(data: st.DataObject) -> None:
    stream = bytearray(SESSION)
    for _ in range(data.draw(st.integers(1, 4))):
        stream[data.draw(st.integers(0, len(stream) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(stream)
    try:
        events, error = events_of([damaged])
        again, same = events_of(cut(damaged, data.draw(st.lists(st.integers(0, len(damaged)), max_size=10))))
    except LocalProtocolError:
        return  # a second A-ASSOCIATE-RQ cannot be accepted; the test's fault, not the machine's
    assert again == events
    assert (error and error.reply) == (same and same.reply)
    one_by_one, too = events_of(cut(damaged, list(range(len(damaged)))))  # nothing of it is read the short way
    assert one_by_one == events
    assert (error and error.reply) == (too and too.reply)


@given(st.binary(max_size=400), st.booleans())
def test_garbage_raises_nothing_else(data: bytes, established: bool) -> None:
    machine = acceptor(established=established)
    try:
        feed(machine, data)
    except RemoteProtocolError as error:
        assert error.reply[:1] == b"\x07"
        assert machine.state is State.AWAITING_CLOSE


BAD_DATA = {
    "unknown context": (pdata((9, 3, STORE_BYTES)), 6),
    "data set first": (pdata((3, 2, b"abc")), 5),
    "data set in the middle of a command": (pdata((3, 1, STORE_BYTES[:9]), (3, 2, b"abc")), 5),
    "command before the data set": (pdata((3, 3, STORE_BYTES), (3, 3, STORE_BYTES)), 5),
    "data set of another context": (pdata((3, 3, STORE_BYTES), (1, 2, b"abc")), 5),
    "command continued in another context": (pdata((3, 1, STORE_BYTES[:9]), (1, 3, STORE_BYTES[9:])), 5),
    "release within a data set": (pdata((3, 3, STORE_BYTES)) + RELEASE_RQ, 2),
    "command that cannot be read": (pdata((3, 3, b"\x08\0\0\0\0\0\0\0")), 6),
    "fragment longer than its PDU": (PDU_HEADER.pack(4, 10) + PDV_HEADER.pack(100, 3, 3) + bytes(90), 6),
    "fragment without a header": (PDU_HEADER.pack(4, 6) + PDV_HEADER.pack(1, 3, 3), 6),
    "bytes after the fragments": (
        PDU_HEADER.pack(4, 8 + len(ECHO_PDU) - 12) + PDV_HEADER.pack(len(ECHO_PDU) - 10, 1, 3) + ECHO_PDU[12:] + b"??",
        6,
    ),
    "longer than our maximum": (PDU_HEADER.pack(4, 131073) + PDV_HEADER.pack(131069, 3, 3), 6),
    "command too long": (b"".join(pdata((3, 1, bytes(30000))) for _ in range(3)), 6),
    "release of a wrong length": (PDU_HEADER.pack(5, 8) + bytes(8), 6),
    "association of a monstrous length": (PDU_HEADER.pack(1, 0xFFFFFFFF), 6),
    "unknown PDU": (UNKNOWN, 1),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_A2_bad_data(name: str) -> None:
    stream, reason = BAD_DATA[name]
    machine = acceptor()
    with pytest.raises(RemoteProtocolError) as caught:
        feed(machine, stream)
    assert caught.value.reply == encode_pdu(Abort(2, reason))
    assert machine.state is State.AWAITING_CLOSE


def test_an_abort_within_a_data_set() -> None:
    assert feed(acceptor(), pdata((3, 3, STORE_BYTES), (3, 0, b"abc")) + ABORT)[-1] == Aborted(0, 0)


def test_a_PDU_as_long_as_our_maximum() -> None:
    machine = acceptor()
    events = feed(machine, pdata((3, 3, STORE_BYTES)) + pdata((3, 2, bytes(131066))))
    assert normal(events) == message(bytes(131066))


def test_no_maximum() -> None:
    machine = Machine(is_requestor=False, maximum_length=0)
    feed(machine, RQ)
    machine.accept(AGREED)
    assert normal(feed(machine, pdata((3, 3, STORE_BYTES)) + pdata((3, 2, bytes(3_000_000))))) == message(
        bytes(3000000)
    )


def test_data_is_ignored_after_the_end() -> None:
    """AA-6: what the peer had on its way is skipped, and its A-ABORT is still understood."""
    machine = STATES[State.AWAITING_CLOSE]()
    assert feed(machine, ECHO_PDU + pdata((3, 2, bytes(1000))) + RELEASE_RP) == []
    assert feed(machine, ABORT) == []
    assert machine.state is State.IDLE


def test_data_still_arrives_while_our_release_is_under_way() -> None:
    machine = acceptor()
    machine.release()
    assert feed(machine, ECHO_PDU) == [CommandReceived(AGREED.contexts[1], ECHO)]
    assert feed(machine, RELEASE_RP) == [Released()]


def test_data_may_be_sent_while_the_peer_waits_for_our_release() -> None:
    machine = acceptor()
    feed(machine, RELEASE_RQ)
    machine.send_data()
    assert machine.state is State.AWAITING_LOCAL_RELEASE


def test_release_collision() -> None:
    """PS3.8 7.2.2.8, figure 7-3."""
    ours, theirs = requestor(), acceptor()
    to_acceptor, to_requestor = ours.release(), theirs.release()
    assert feed(ours, to_requestor) == [ReleaseRequested(collision=True)]
    assert feed(theirs, to_acceptor) == [ReleaseRequested(collision=True)]
    assert feed(theirs, ours.answer_release()) == [Released()]
    assert feed(ours, theirs.answer_release()) == [Released()]
    assert (ours.state, theirs.state) == (State.IDLE, State.AWAITING_CLOSE)
