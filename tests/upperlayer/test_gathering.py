"""Associations of one kind gathered in some of the processes that accept from one socket."""

from __future__ import annotations

import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import anyio
import pytest

from fastarchive.upperlayer import Association, Drain, Gathering, Neighbours, ProposedContext, connect, gathering, serve
from fastarchive.upperlayer.neighbours import SLOT
from fastarchive.upperlayer.pdu import AssociateRequest, ContextProposal, encode_pdu
from fastarchive.upperlayer.user_information import UserInformation
from tests.upperlayer.running import (
    CT_IMAGE_STORAGE,
    EXPLICIT,
    PATIENT,
    POLICY,
    STUDY_ROOT_FIND,
    VERIFICATION,
    Records,
    Service,
    echo,
    run,
    until,
)

TAKER, OTHER = 0, 1
MOST = 6
to = partial(connect, "127.0.0.1", calling_ae="CALLING", called_ae="CALLED", timeouts=PATIENT)
STORING = [ProposedContext(uid, [EXPLICIT]) for uid in (VERIFICATION, CT_IMAGE_STORAGE)]
ASKING = [ProposedContext(uid, [EXPLICIT]) for uid in (VERIFICATION, STUDY_ROOT_FIND)]


def stores(request: AssociateRequest) -> bool:
    return {context.abstract_syntax for context in request.contexts} == {VERIFICATION, CT_IMAGE_STORAGE}


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is."""
    monkeypatch.setattr(gathering, "_PATIENCE", 10.0)
    monkeypatch.setattr(gathering, "_TRIES", 2000)


@dataclass
class Pair:
    """Two acceptors on one socket, of which one takes what stores and the other whatever it may keep."""

    port: int
    shared: memoryview
    into: socket.socket
    had: Counter[int] = field(default_factory=Counter)
    records: dict[int, Records] = field(default_factory=lambda: {TAKER: Records(), OTHER: Records()})
    drains: dict[int, Drain] = field(default_factory=lambda: {place: Drain(quiet=0.01) for place in (TAKER, OTHER)})


@asynccontextmanager
async def pair(*, taker_runs: bool = True) -> AsyncIterator[Pair]:
    """The taker accepts nothing by itself: all it gets is handed over."""
    out, into = gathering.passage()
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_server(("127.0.0.1", 0)) as unused,
        out,
        into,
    ):
        two = Pair(listener.getsockname()[1], memoryview(bytearray(2 * SLOT)), into)
        async with anyio.create_task_group() as group:
            for place, own in ((TAKER, unused), (OTHER, listener)):
                if place == TAKER and not taker_runs:
                    continue

                async def count(association: Association, place: int = place) -> None:
                    two.had[place] += 1
                    await Service()(association)

                others = Neighbours(two.shared, place)
                inbox = out if place == TAKER else None
                gathered = Gathering(stores, others, passages={TAKER: into}, inbox=inbox, most=MOST)
                serving = partial(serve, policy=POLICY, handler=count, timeouts=PATIENT, neighbours=others)
                await group.start(
                    partial(serving, gathering=gathered, observer=two.records[place], drain=two.drains[place]), own
                )
            yield two
            group.cancel_scope.cancel()


def request(*contexts: str) -> bytes:
    """An A-ASSOCIATE-RQ that proposes them."""
    proposals = tuple(ContextProposal(2 * number + 1, uid, (EXPLICIT,)) for number, uid in enumerate(contexts))
    return encode_pdu(
        AssociateRequest(
            called_ae="CALLED", calling_ae="CALLING", contexts=proposals, user_information=UserInformation()
        )
    )


def test_what_only_stores_is_handed_over_and_all_else_stays() -> None:
    async def test() -> None:
        async with pair() as two, AsyncExitStack() as stack:
            for contexts, place in ((STORING, TAKER), (ASKING, OTHER), (STORING, TAKER), (STORING + ASKING[1:], OTHER)):
                before = two.had[place]
                association = await stack.enter_async_context(to(two.port, contexts=contexts))
                await echo(association)
                assert two.had[place] == before + 1, contexts
            await stack.aclose()
            await until(lambda: all(len(records.outcomes) == 2 for records in two.records.values()))
            assert {outcome for records in two.records.values() for outcome in records.outcomes} == {"released"}

    run(test)


@pytest.mark.parametrize("at", [1, 5, 6, 40, 200])
def test_a_request_that_comes_in_pieces_is_waited_for(at: int) -> None:
    async def test() -> None:
        async with pair() as two, await anyio.connect_tcp("127.0.0.1", two.port) as stream:
            whole = request(VERIFICATION, CT_IMAGE_STORAGE)
            await stream.send(whole[:at])
            await anyio.sleep(0.02)
            await stream.send(whole[at:])
            assert (await stream.receive())[0] == 2
            if at >= 6:  # less is not even a header
                assert two.had == {TAKER: 1}

    run(test)


def test_who_says_nothing_does_not_keep_others_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_PATIENCE", 0.05)

    async def test() -> None:
        async with pair() as two, AsyncExitStack() as stack:
            streams = [
                await stack.enter_async_context(await anyio.connect_tcp("127.0.0.1", two.port)) for _ in range(5)
            ]
            async with to(two.port, contexts=ASKING) as association:
                await echo(association)
            await anyio.sleep(0.1)
            await streams[0].send(request(VERIFICATION, CT_IMAGE_STORAGE))  # too late to go elsewhere, not to be served
            assert (await streams[0].receive())[0] == 2
            assert two.had == {OTHER: 2}

    run(test)


@pytest.mark.parametrize(
    "words",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01",
        bytes(200),
        struct.pack(">BxL", 1, 4) + bytes(4),
        struct.pack(">BxL", 1, 70_000) + bytes(100),
        struct.pack(">BxL", 1, 0xFFFFFFFF),
        struct.pack(">BxL", 5, 4) + bytes(4),
    ],
)
def test_what_is_no_request_is_for_the_one_that_accepted_it(words: bytes) -> None:
    async def test() -> None:
        async with pair() as two:
            async with await anyio.connect_tcp("127.0.0.1", two.port) as stream:
                await stream.send(words)
            await until(lambda: len(two.records[OTHER].outcomes) == 1)
            assert not two.records[TAKER].outcomes

    run(test)


def test_who_is_gone_at_once_leaves_nothing_behind() -> None:
    async def test() -> None:
        async with pair() as two:
            for words in (b"", request(CT_IMAGE_STORAGE, VERIFICATION)):
                with socket.create_connection(("127.0.0.1", two.port)) as sock:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    sock.sendall(words)
            async with to(two.port, contexts=STORING) as association:
                await echo(association)
            numbers = Neighbours(two.shared, OTHER)
            await until(lambda: (numbers.number_of(TAKER), numbers.number_of(OTHER)) == (0, 0))

    run(test)


def test_one_that_takes_no_more_is_given_no_more() -> None:
    async def test() -> None:
        async with pair() as two, AsyncExitStack() as stack:
            for _ in range(MOST + 2):
                await stack.enter_async_context(to(two.port, contexts=STORING))
            assert two.had == {TAKER: MOST, OTHER: 2}

    run(test)


@pytest.mark.parametrize("why", ["left", "stuck"])
def test_nobody_waits_for_one_that_is_gone_or_stuck(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering, "_TRIES", 5)

    async def test() -> None:
        async with pair(taker_runs=False) as two:
            if why == "left":
                Neighbours(two.shared, TAKER).leave()
            else:
                with socket.socket() as something:
                    socket.send_fds(two.into, [b"a"], [something.fileno()])  # and nobody takes it
            async with to(two.port, contexts=STORING) as association:
                await echo(association)
            assert two.had == {OTHER: 1}

    run(test)


def test_what_was_handed_over_waits_for_the_one_that_comes() -> None:
    async def test() -> None:
        out, into = gathering.passage()
        shared = memoryview(bytearray(2 * SLOT))
        with out, into, socket.create_server(("127.0.0.1", 0)) as listener:
            sender = Gathering(stores, Neighbours(shared, OTHER), passages={TAKER: into}, most=MOST)
            with socket.create_connection(listener.getsockname()) as client:
                client.sendall(request(VERIFICATION, CT_IMAGE_STORAGE))
                accepted, _ = listener.accept()
                accepted.setblocking(False)
                assert await sender.hand_over(accepted)
                assert accepted.fileno() == -1
                service = Records()
                async with anyio.create_task_group() as group:
                    others = Neighbours(shared, TAKER)
                    taking = Gathering(stores, others, passages={TAKER: into}, inbox=out, most=MOST)
                    listener.setblocking(False)
                    await group.start(
                        partial(
                            serve,
                            policy=POLICY,
                            handler=Service(),
                            neighbours=others,
                            gathering=taking,
                            observer=service,
                        ),
                        listener,
                    )
                    assert not taking.hands_over
                    await until(lambda: service.accepted_titles == ["CALLING"])
                    group.cancel_scope.cancel()

    run(test)


def test_who_ends_turns_away_what_comes_too_late() -> None:
    async def test() -> None:
        async with pair() as two:
            two.drains[TAKER].start()
            numbers = Neighbours(two.shared, OTHER)
            await until(lambda: numbers.number_of(TAKER) >= MOST)
            async with to(two.port, contexts=STORING) as association:
                await echo(association)
            assert two.had == {OTHER: 1}

        out, into = gathering.passage()
        with out, into:
            taking = Gathering(stores, Neighbours.alone(), passages={}, inbox=out, most=MOST)
            ours, theirs = socket.socketpair()
            with ours:
                with theirs:
                    socket.send_fds(into, [b"a"], [theirs.fileno()])
                taking.close()
                assert ours.recv(1) == b""

    run(test)
