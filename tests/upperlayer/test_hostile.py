"""Peers that are broken, slow, or mean it: they are told to go, and nothing of them stays."""

from __future__ import annotations

import os
import socket
import struct
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from fastarchive import logs
from fastarchive.upperlayer import Association, Command, CommandField, encode_command, frame_message
from fastarchive.upperlayer.messages import Inbox
from fastarchive.upperlayer.negotiation import PresentationContext, ProposedContext, build_request
from fastarchive.upperlayer.pdu import Abort, encode_pdu, frame_command, frame_data_set
from tests.upperlayer.running import (
    CONTEXTS,
    CT_IMAGE_STORAGE,
    EXPLICIT,
    PATIENT,
    STUDY_ROOT_FIND,
    Records,
    Service,
    response_to,
    run,
    running,
    until,
)

RQ = encode_pdu(build_request(calling_ae="HOSTILE", called_ae="CALLED", contexts=CONTEXTS))
STORE = encode_command(
    Command(
        field=CommandField.C_STORE_RQ,
        message_id=7,
        affected_sop_class=CT_IMAGE_STORAGE,
        affected_sop_instance="1.2.3",
        priority=0,
        has_data_set=True,
    )
)
STORE_PDU = frame_command(3, STORE, 1000)
ECHO_PDU = frame_command(1, encode_command(Command(field=CommandField.C_ECHO_RQ, message_id=1)), 1000)
SHORT = replace(PATIENT, artim=0.3, dimse=0.3, write=0.3)


async def _talk(port: int, *sent: bytes, read_all: bool = True) -> bytes:
    """Send, then read until the server closes."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        answer = b""
        try:
            for data in sent:
                await stream.send(data)
            while read_all:
                answer += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass
        return answer


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: archive\r\n\r\n", 1),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 1),
        (b"\x01\x00\xff\xff\xff\xff" + bytes(100), 6),
        (b"\x01\x00\x00\x00\x00\x44" + bytes(68), None),
        (b"\x04\x00\x00\x00\x00\x0a" + bytes(10), 2),
        (RQ + RQ, 2),
        (RQ + STORE_PDU + b"\x04\x00\x7f\xff\xff\xff", 6),
        (RQ + STORE_PDU + STORE_PDU, 5),
        (RQ + frame_data_set(3, b"abc", 100, last=True)[0] + b"abc", 5),
        (RQ + frame_command(99, STORE, 1000), 6),
        (RQ + bytes([3, 0, 0, 0, 0, 4, 0, 1, 1, 1]), 2),
    ],
)
def test_A2_is_answered_and_closed(sent: bytes, reason: int | None) -> None:
    """A2: A-ABORT of the provider with its reason, then the close, after ARTIM at the latest."""
    records = Records()

    async def test() -> None:
        async with running(Service(), timeouts=SHORT, observer=records) as port:
            answer = await _talk(port, sent)
            if reason is None:  # well-formed nonsense is rejected
                assert answer[:1] == b"\x03"
            else:
                assert answer.endswith(encode_pdu(Abort(2, reason)))
            await until(lambda: bool(records.outcomes))

    run(test)
    assert records.outcomes == ["rejected" if reason is None else "protocol-error"]


def test_A2_an_abort_before_the_association_closes_at_once() -> None:
    """AA-2: there is nothing to wait for, and nothing to answer."""
    records = Records()

    async def test() -> None:
        async with running(Service(), observer=records) as port:
            with anyio.fail_after(PATIENT.artim / 2):
                assert await _talk(port, encode_pdu(Abort(0, 0))) == b""
                await until(lambda: bool(records.outcomes))

    run(test)
    assert records.outcomes == ["peer-aborted"]


def test_who_got_no_association_is_in_the_log_and_why(caplog: pytest.LogCaptureFixture) -> None:
    """A7: also with AE titles that would like to be a line of their own. A look at the port alone is no event."""
    forged = RQ.replace(b"HOSTILE  ", b"EVIL\nLINE")

    async def test() -> None:
        records = Records()
        async with running(Service(), timeouts=SHORT, observer=records) as port:
            for sent in (forged, b"GET / HTTP/1.1", RQ[:50]):
                await _talk(port, sent)
            with socket.create_connection(("127.0.0.1", port)):
                pass
            await until(lambda: len(records.outcomes) == 4)

    with caplog.at_level("INFO", logger="fastarchive"):
        run(test)
    assert [record.getMessage() for record in caplog.records] == [
        "association rejected: calling AE title not recognized",
        "no association with 127.0.0.1: unrecognized PDU type",
        "no association with 127.0.0.1: artim time limit exceeded",
    ]
    written = logs.TextFormatter("test").format(caplog.records[0])
    assert "\n" not in written
    assert "called=CALLED host=127.0.0.1" in written


def test_what_is_proposed_is_neither_slow_to_judge_nor_kept() -> None:
    """Megabytes of transfer syntaxes, for contexts that need one each."""
    syntaxes = [f"1.2.{number}" for number in range(5_000)]
    proposed = [ProposedContext(CT_IMAGE_STORAGE, syntaxes) for _ in range(15)]
    request = encode_pdu(build_request(calling_ae="HOSTILE", called_ae="CALLED", contexts=[*CONTEXTS, *proposed]))
    kept: list[int] = []

    async def look(association: Association) -> None:
        agreed = association._connection.agreement
        assert agreed is not None
        kept.append(len(agreed.request.contexts))
        assert len(association.contexts) == len(CONTEXTS)

    async def test() -> None:
        async with running(look) as port:
            await _talk(port, request)

    run(test)
    assert kept == [0]


def test_a_flood_of_cancels_is_forgotten() -> None:
    """F10: C-CANCEL for requests that never were."""
    inbox = Inbox(limit=1000, on_consumed=lambda: None)
    context = PresentationContext(1, STUDY_ROOT_FIND, EXPLICIT)
    for number in range(0x10000):
        inbox.add_command(context, Command(field=CommandField.C_CANCEL_RQ, responding_to=number))
        assert number in inbox.cancelled
    assert len(inbox.cancelled) <= 1024


def test_A4_silence_before_the_association() -> None:
    """ARTIM: the half-open, and those that send their request a byte at a time."""
    records = Records()

    async def drip(port: int) -> None:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            try:
                for byte in RQ:
                    await stream.send(bytes([byte]))
                    await anyio.sleep(0.02)
            except anyio.BrokenResourceError:
                pass

    async def test() -> None:
        async with running(Service(), timeouts=SHORT, observer=records) as port:
            async with anyio.create_task_group() as group:
                group.start_soon(_talk, port)
                group.start_soon(drip, port)
            await until(lambda: len(records.outcomes) == 2)

    run(test)
    assert records.outcomes == ["timeout", "timeout"]


WITHIN_A_FRAGMENT = STORE_PDU + b"\x04\x00\x00\x00\x10\x00\x00\x00\x0f\xfc\x03\x00ab"


@pytest.mark.parametrize(
    ("begun", "dripping"),
    [(b"\x04", False), (STORE_PDU, False), (WITHIN_A_FRAGMENT, False), (WITHIN_A_FRAGMENT, True)],
)
def test_A4_a_message_that_does_not_get_on(begun: bytes, dripping: bool) -> None:
    """Stalled or a byte at a time: the service is told, and the peer aborted."""
    records = Records()

    async def slow(port: int) -> bytes:
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(RQ + begun)
            await stream.receive()  # A-ASSOCIATE-AC
            try:
                while dripping:
                    await stream.send(b"\0")
                    with anyio.move_on_after(0.02):
                        return await stream.receive()
                return await stream.receive()
            except (anyio.BrokenResourceError, anyio.EndOfStream):
                return b""

    async def test() -> None:
        async with running(Service(), timeouts=SHORT, observer=records) as port:
            answer = await slow(port)
            assert answer == encode_pdu(Abort(2, 0))
            await until(lambda: bool(records.outcomes))

    run(test)
    assert records.outcomes == ["timeout"]


def test_A4_a_slow_peer_that_gets_on_is_served() -> None:
    service = Service()

    async def test() -> None:
        timeouts = replace(PATIENT, dimse=0.4)
        async with (
            running(service, timeouts=timeouts) as port,
            await anyio.connect_tcp("127.0.0.1", port) as stream,
        ):
            await stream.send(RQ + STORE_PDU)
            for _ in range(10):
                await stream.send(b"".join(frame_data_set(3, bytes(5000), 5000, last=False)))
                await anyio.sleep(0.1)
            await stream.send(b"".join(frame_data_set(3, b"", 5000, last=True)))
            await until(lambda: bool(service.data_sets))

    run(test)
    assert len(service.data_sets[0]) == 50_000


def test_A4_a_peer_that_does_not_read() -> None:
    """The write time limit ends it, though the service is in the middle of sending."""
    records = Records()
    raised: list[str] = []

    async def flood(association: Association) -> None:
        message = await association.receive()
        assert message is not None
        try:
            while True:
                await association.send_framed(frame_message(1, STORE, bytes(100_000), association.longest_fragment))
        except Exception as error:
            raised.append(type(error).__name__)
            raise

    async def test() -> None:
        async with (
            running(flood, timeouts=SHORT, observer=records) as port,
            await anyio.connect_tcp("127.0.0.1", port) as stream,
        ):
            await stream.send(RQ + ECHO_PDU)
            await until(lambda: bool(records.outcomes))

    run(test)
    assert raised == ["AssociationTimeout"]
    assert records.outcomes == ["timeout"]


def test_floods_of_tiny_messages_are_bounded() -> None:
    """A peer that pipelines without waiting for answers fills our 4 MiB, then its own socket."""
    sizes: list[int] = []

    async def slow(association: Association) -> None:
        await until(lambda: association._connection.inbox.unconsumed > 4 * 1024 * 1024)
        await anyio.sleep(0.2)
        sizes.append(association._connection.inbox.unconsumed)

    async def test() -> None:
        records = Records()
        async with running(slow, observer=records) as port:
            await _talk(port, RQ, ECHO_PDU * 100_000, read_all=False)
            await until(lambda: bool(records.outcomes))

    run(test)
    assert sizes[0] < 10 * 1024 * 1024


def test_release_while_we_send_answers() -> None:
    """The peer wants to go; what was asked for is answered, then its release."""

    async def answer(association: Association) -> None:
        first = await association.receive()
        assert first is not None
        await until(lambda: association.release_requested)
        await association.send(1, response_to(first))
        assert await association.receive() is None

    async def test() -> None:
        records = Records()
        async with running(answer, observer=records) as port:
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(RQ + ECHO_PDU + bytes([5, 0, 0, 0, 0, 4, 0, 0, 0, 0]))
                answer_ = b""
                while not answer_.endswith(bytes([6, 0, 0, 0, 0, 4, 0, 0, 0, 0])):
                    answer_ += await stream.receive()
            assert b"\x04\x00\x00" in answer_
            await until(lambda: bool(records.outcomes))
            assert records.outcomes == ["released"]

    run(test)


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs /proc")  # noqa: PTH112 - evaluated at import
def test_A6_no_socket_stays_open() -> None:
    """200 associations ended in every bad way there is leave no file descriptor behind."""
    records = Records()

    async def failing(association: Association) -> None:
        message = await association.receive()
        assert message is not None
        await message.data_set(10)

    async def vanish(port: int) -> None:
        """RST in the middle of a message."""
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(RQ + STORE_PDU)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def bad(port: int) -> None:
        await _talk(port, b"garbage")
        await _talk(port, RQ + encode_pdu(Abort(0, 0)))
        await _talk(port, RQ + ECHO_PDU * 2 + STORE_PDU, read_all=False)
        await _talk(port, RQ + STORE_PDU + b"".join(frame_data_set(3, bytes(100), 200, last=True)))
        await vanish(port)

    async def test() -> None:
        async with running(failing, observer=records, timeouts=SHORT, maximum_associations=50) as port:
            await _talk(port, b"x" * 6)
            await until(lambda: len(records.outcomes) == 1)
            before = _open_files()
            async with anyio.create_task_group() as group:
                for _ in range(40):
                    group.start_soon(bad, port)
            await until(lambda: len(records.outcomes) == 201)
            assert _open_files() <= before

    run(test)
    assert records.rejections == []
