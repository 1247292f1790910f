"""Both sides of an association over the loopback interface."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import pytest

from fastarchive.upperlayer import (
    Association,
    AssociationAborted,
    AssociationRejected,
    AssociationTimeout,
    Command,
    CommandField,
    DataSetTooLarge,
    Drain,
    Limits,
    LocalProtocolError,
    ProposedContext,
    Timeouts,
    UserIdentity,
    connect,
    encode_command,
    serve,
)
from fastarchive.upperlayer.negotiation import build_request
from fastarchive.upperlayer.pdu import encode_pdu
from tests.upperlayer.running import (
    CONTEXTS,
    CT_IMAGE_STORAGE,
    EXPLICIT,
    PATIENT,
    POLICY,
    STUDY_ROOT_FIND,
    VERIFICATION,
    Records,
    Service,
    response_to,
    run,
    running,
    until,
)

ECHO = Command(field=CommandField.C_ECHO_RQ, message_id=1, affected_sop_class=VERIFICATION)
STORE = Command(
    field=CommandField.C_STORE_RQ,
    message_id=7,
    affected_sop_class=CT_IMAGE_STORAGE,
    affected_sop_instance="1.2.3",
    priority=0,
    has_data_set=True,
)
FIND = Command(
    field=CommandField.C_FIND_RQ, message_id=9, affected_sop_class=STUDY_ROOT_FIND, priority=0, has_data_set=True
)

to = partial(connect, "127.0.0.1", calling_ae="CALLING", called_ae="CALLED", contexts=CONTEXTS, timeouts=PATIENT)


async def _echo(association: Association) -> None:
    await association.send(1, ECHO)
    answer = await association.receive()
    assert answer is not None
    assert answer.command.status == 0


def test_echo_and_release() -> None:
    records = Records()

    async def test() -> None:
        async with running(Service(), observer=records) as port:
            async with to(port) as association:
                assert association.is_requestor
                assert list(association.contexts) == [1, 3, 5]
                assert association.peer_maximum_length == 131072
                await _echo(association)
                await _echo(association)
            await until(lambda: bool(records.outcomes))

    run(test)
    assert records.accepted_titles == ["CALLING"]
    assert records.outcomes == ["released"]


@pytest.mark.parametrize("maximum", [0, 16384, 64, 131072])
@pytest.mark.parametrize("size", [0, 1, 100_001, 3_500_000])
def test_A3_data_sets_of_any_size_arrive_whole(maximum: int, size: int) -> None:
    if maximum == 64:
        size //= 10
    service = Service()
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, 70_000):
            yield data[start : start + 70_000]

    async def test() -> None:
        async with running(service, policy=replace(POLICY, maximum_length=maximum)) as port, to(port) as association:
            forms: list[Any] = [data, memoryview(data), pieces(), [data[:5], b"", data[5:]]]
            for form in forms:
                await association.send(3, STORE, form)
                answer = await association.receive()
                assert answer is not None
                assert answer.command.affected_sop_instance == "1.2.3"

    run(test)
    assert [len(found) for found in service.data_sets] == [size] * 4
    assert service.data_sets == [data] * 4


def test_streams_of_answers_are_coalesced_and_whole() -> None:
    pending = Command(field=CommandField.C_FIND_RSP, responding_to=9, status=0xFF00, has_data_set=True)
    pairs = [(encode_command(pending), b"identifier %5d" % number) for number in range(5000)]

    async def answer(association: Association) -> None:
        while (message := await association.receive()) is not None:
            assert await message.data_set(100) == b"key"
            await association.send_many(message.context.id, pairs)
            await association.send(message.context.id, response_to(message))

    async def test() -> None:
        async with running(answer) as port, to(port) as association:
            await association.send(5, FIND, b"key")
            found = []
            while (message := await association.receive()) is not None and message.command.is_pending:
                found.append(await message.data_set(100))
            assert message is not None
            assert message.command.status == 0
            assert found == [identifier for _, identifier in pairs]

    run(test)


def test_F10_cancel_is_seen_while_nobody_receives() -> None:
    seen: list[bool] = []

    async def answer(association: Association) -> None:
        message = await association.receive()
        assert message is not None
        await until(lambda: association.cancelled(9))
        assert not association.cancelled(10)
        await association.send(message.context.id, response_to(message, 0xFE00))
        again = await association.receive()
        assert again is not None
        seen.append(association.cancelled(9))
        await association.send(message.context.id, response_to(again))
        assert await association.receive() is None

    async def test() -> None:
        async with running(answer) as port, to(port) as association:
            await association.send(5, FIND, b"key")
            await association.send(5, Command(field=CommandField.C_CANCEL_RQ, responding_to=9))
            message = await association.receive()
            assert message is not None
            assert message.command.status == 0xFE00
            await association.send(5, Command(field=CommandField.C_CANCEL_RQ, responding_to=9))  # too late: ignored
            await association.send(5, FIND, b"key")
            message = await association.receive()
            assert message is not None
            assert message.command.status == 0

    run(test)
    assert seen == [False]


def test_what_a_service_leaves_unread_is_dropped() -> None:
    async def answer(association: Association) -> None:
        while (message := await association.receive()) is not None:
            await association.send(message.context.id, response_to(message))

    async def test() -> None:
        async with running(answer) as port, to(port) as association:
            for _ in range(3):
                await association.send(3, STORE, bytes(9_000_000))
                assert await association.receive() is not None

    run(test)


def test_a_data_set_longer_than_its_limit() -> None:
    async def answer(association: Association) -> None:
        while (message := await association.receive()) is not None:
            with pytest.raises(DataSetTooLarge):
                await message.data_set(1000)
            await association.send(message.context.id, response_to(message, 0xA700))

    async def test() -> None:
        async with running(answer) as port, to(port) as association:
            await association.send(3, STORE, bytes(6_000_000))
            message = await association.receive()
            assert message is not None
            assert message.command.status == 0xA700

    run(test)


def test_reading_stops_while_the_service_does_not_take_its_data() -> None:
    """Memory stays bounded whatever the peer sends, and the peer is not timed out for our slowness."""
    stored: list[int] = []
    go = anyio.Event()

    async def answer(association: Association) -> None:
        message = await association.receive()
        assert message is not None
        await go.wait()
        stored.append(association._connection.inbox.unconsumed)
        total = 0
        async for chunk in message.chunks():
            total += len(chunk)
        stored.append(total)
        await association.send(message.context.id, response_to(message))
        assert await association.receive() is None

    async def test() -> None:
        short = replace(PATIENT, dimse=0.2)
        async with running(answer, timeouts=short) as port, to(port) as association:
            async with anyio.create_task_group() as group:
                group.start_soon(association.send, 3, STORE, bytes(50_000_000))
                await anyio.sleep(0.6)
                go.set()
            assert await association.receive() is not None

    run(test)
    assert stored[0] < 6 * 1024 * 1024
    assert stored[1] == 50_000_000


def test_A1_rejections_reach_the_requestor() -> None:
    records = Records()

    async def test() -> None:
        policy = replace(POLICY, called_titles={"OTHER"})
        async with running(Service(), policy=policy, observer=records) as port:
            with pytest.raises(AssociationRejected) as caught:
                async with to(port):
                    pass
            assert (caught.value.result, caught.value.source, caught.value.reason) == (1, 1, 7)
            await until(lambda: bool(records.outcomes))

    run(test)
    assert records.rejections == [(1, 1, 7)]
    assert records.outcomes == ["rejected"]


def test_A1_too_many_associations() -> None:
    async def test() -> None:
        async with running(Service(), maximum_associations=1) as port:
            async with to(port) as association:
                with pytest.raises(AssociationRejected) as caught:
                    async with to(port):
                        pass
                assert (caught.value.result, caught.value.source, caught.value.reason) == (2, 3, 2)
                await _echo(association)
            with anyio.fail_after(5):
                while True:
                    try:
                        async with to(port) as association:
                            await _echo(association)
                            return
                    except AssociationRejected:
                        await anyio.sleep(0.01)

    run(test)


def test_extended_negotiation_identity_and_window_arrive() -> None:
    seen: list[Association] = []

    async def answer(association: Association) -> None:
        seen.append(association)
        await association.receive()

    policy = replace(POLICY, extended=lambda sop_class, offered: b"\1\0", operations_window=(2, 3))

    async def test() -> None:
        async with running(answer, policy=policy) as port:
            async with connect(
                "127.0.0.1",
                port,
                calling_ae="CALLING",
                called_ae="CALLED",
                contexts=CONTEXTS,
                extended_negotiation={STUDY_ROOT_FIND: b"\1\1\1"},
                user_identity=UserIdentity(1, b"somebody"),
                operations_window=(9, 9),
                timeouts=PATIENT,
            ) as association:
                assert association.extended_negotiation == {STUDY_ROOT_FIND: b"\1\0"}
                assert association.operations_window == (3, 2)
                assert association.peer_implementation[1].startswith("FASTARCHIVE")
            await until(lambda: bool(seen))

    run(test)
    assert seen[0].extended_negotiation == {STUDY_ROOT_FIND: b"\1\0"}
    assert seen[0].user_identity == UserIdentity(1, b"somebody")
    assert seen[0].operations_window == (2, 3)
    assert (seen[0].calling_ae, seen[0].called_ae) == ("CALLING", "CALLED")


def test_context_for_minds_syntax_and_role() -> None:
    async def test() -> None:
        async with running(Service()) as port, to(port) as association:
            found = association.context_for(CT_IMAGE_STORAGE)
            assert found is not None
            assert found.id == 3
            assert association.context_for(CT_IMAGE_STORAGE, EXPLICIT) is found
            assert association.context_for(CT_IMAGE_STORAGE, "1.2.840.10008.1.2.4.50") is None
            assert association.context_for("1.2.3") is None

    run(test)


def test_our_own_mistakes_send_nothing() -> None:
    async def test() -> None:
        async with running(Service()) as port, to(port) as association:
            with pytest.raises(LocalProtocolError):
                await association.send(99, ECHO)
            with pytest.raises(LocalProtocolError):
                await association.send(3, STORE)
            with pytest.raises(LocalProtocolError):
                await association.send(1, ECHO, b"data")
            await _echo(association)

    run(test)


def test_nothing_is_sent_after_the_end() -> None:
    async def test() -> None:
        async with running(Service()) as port, to(port) as association:
            await association.release()
            assert not association.is_open
            with pytest.raises(AssociationAborted):
                await association.send(1, ECHO)
            with pytest.raises(AssociationAborted):
                await association.receive()
            await association.release()
            await association.abort()

    run(test)


@pytest.mark.parametrize("size", [100, 20_000_000])
def test_the_peers_abort_ends_a_wait_at_once(size: int) -> None:
    """Waiting for a message, within a data set, and while sending to a peer that does not read."""
    ended: list[AssociationAborted] = []

    async def answer(association: Association) -> None:
        try:
            message = await association.receive()
            assert message is not None
            async for _ in message.chunks():
                pass
            await association.send(message.context.id, response_to(message))
            await association.receive()
        except AssociationAborted as error:
            ended.append(error)
            raise

    async def test() -> None:
        records = Records()
        async with running(answer, observer=records) as port:
            async with to(port) as association:
                await association.send(3, STORE, bytes(size))
                await association.abort()
            await until(lambda: bool(records.outcomes))
            assert records.outcomes == ["peer-aborted"]

    run(test)
    assert ended[0].by_peer


def test_leaving_by_an_exception_aborts() -> None:
    records = Records()

    async def test() -> None:
        async with running(Service(), observer=records) as port:
            with pytest.raises(ZeroDivisionError):
                async with to(port):
                    raise ZeroDivisionError
            await until(lambda: bool(records.outcomes))

    run(test)
    assert records.outcomes == ["peer-aborted"]


def test_a_failing_handler_aborts_and_does_not_tell_why(caplog: pytest.LogCaptureFixture) -> None:
    async def answer(association: Association) -> None:
        raise ValueError("Doe^Jane")

    async def test() -> None:
        async with running(answer) as port:
            async with to(port) as association:
                with pytest.raises(AssociationAborted) as caught:
                    await association.receive()
                assert caught.value.by_peer
            async with to(port) as association:
                with pytest.raises(AssociationAborted):
                    await association.receive()

    run(test)
    assert "ValueError" in caplog.text
    assert "Doe" not in caplog.text


def test_an_unfinished_message_aborts() -> None:
    """A5: half a data set can't be taken back."""
    service = Service()

    def pieces() -> Any:
        yield b"abc"
        yield b"def"
        raise OSError("the disk is gone")

    async def test() -> None:
        async with running(service) as port, to(port) as association:
            with pytest.raises(OSError, match="disk"):
                await association.send(3, STORE, pieces())
            with pytest.raises(AssociationAborted):
                await association.send(1, ECHO)

    run(test)
    assert service.data_sets == []


def test_a_cancelled_send_aborts() -> None:
    async def stuck(association: Association) -> None:
        await anyio.sleep(5)

    async def test() -> None:
        impatient = replace(PATIENT, artim=0.1)
        async with running(stuck) as port, to(port, timeouts=impatient) as association:
            with anyio.move_on_after(0.2) as scope:
                await association.send(3, STORE, bytes(60_000_000))
            assert scope.cancelled_caught
            assert not association.is_open

    run(test)


def test_two_messages_at_once_do_not_mix() -> None:
    service = Service()

    async def test() -> None:
        async with running(service) as port, to(port) as association:
            async with anyio.create_task_group() as group:
                group.start_soon(association.send, 3, STORE, bytes(3_000_000))
                group.start_soon(association.send, 3, replace(STORE, message_id=8), b"x" * 2_000_000)
            assert await association.receive() is not None
            assert await association.receive() is not None

    run(test)
    assert service.data_sets == [bytes(3_000_000), b"x" * 2_000_000]


# -- the peer's silence -----------------------------------------------------------------------------------------------


async def _ends_with(timeouts: Timeouts, handler: Any = None) -> str:
    """The outcome on the acceptor's side, of an association nobody says anything on."""
    records = Records()
    async with running(handler or Service(), timeouts=timeouts, observer=records) as port, to(port) as association:
        with pytest.raises(AssociationAborted):
            await association.receive()
        await until(lambda: bool(records.outcomes))
    return records.outcomes[0]


def test_A4_idle() -> None:
    async def test() -> None:
        assert await _ends_with(replace(PATIENT, idle=0.2)) == "timeout"

    run(test)


def test_A4_a_busy_service_is_not_idle() -> None:
    async def slow(association: Association) -> None:
        while (message := await association.receive()) is not None:
            await anyio.sleep(0.5)
            await association.send(message.context.id, response_to(message))

    async def test() -> None:
        async with running(slow, timeouts=replace(PATIENT, idle=0.2)) as port, to(port) as association:
            await _echo(association)

    run(test)


def test_A4_no_response() -> None:
    async def mute(association: Association) -> None:
        await association.receive()
        await anyio.sleep(3)

    async def test() -> None:
        async with running(mute) as port:
            timeouts = replace(PATIENT, response=0.2)
            async with connect(
                "127.0.0.1", port, calling_ae="A", called_ae="B", contexts=CONTEXTS, timeouts=timeouts
            ) as association:
                await association.send(1, ECHO)
                with pytest.raises(AssociationTimeout) as caught:
                    await association.receive()
                assert caught.value.timer == "idle"

    run(test)


def test_A4_no_answer_to_a_request_or_a_release() -> None:
    async def mute(listener: socket.socket, taken: list[socket.socket]) -> None:
        await anyio.wait_readable(listener)
        taken.append(listener.accept()[0])

    async def test() -> None:
        taken: list[socket.socket] = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with anyio.create_task_group() as group:
                group.start_soon(mute, listener, taken)
                with pytest.raises(AssociationTimeout) as caught:
                    async with connect(
                        "127.0.0.1",
                        listener.getsockname()[1],
                        calling_ae="A",
                        called_ae="B",
                        contexts=CONTEXTS,
                        timeouts=Timeouts(acse=0.2, artim=0.2),
                    ):
                        pass
                assert caught.value.timer == "acse"
            taken[0].close()

    run(test)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    async def test() -> None:
        with pytest.raises(OSError, match="Connect call failed"):
            async with to(port):
                pass

    run(test)


# -- the end of a server ----------------------------------------------------------------------------------------------


def test_drain_lets_an_operation_finish() -> None:
    drain = Drain(5, quiet=0.05)
    answered: list[int | None] = []

    async def slow(association: Association) -> None:
        while (message := await association.receive()) is not None:
            drain.start()
            await anyio.sleep(0.4)
            await association.send(message.context.id, response_to(message))

    async def ask(port: int) -> None:
        async with to(port) as association:
            await association.send(1, ECHO)
            message = await association.receive()
            answered.append(message.command.status if message else None)

    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with anyio.create_task_group() as group:
                group.start_soon(ask, listener.getsockname()[1])
                with anyio.fail_after(5):
                    await serve(listener, policy=POLICY, handler=slow, drain=drain, timeouts=PATIENT)

    run(test)
    assert answered == [0]


def test_drain_ends_the_idle_and_after_its_grace_the_stuck() -> None:
    async def stuck(association: Association) -> None:
        await association.receive()
        await anyio.sleep_forever()

    async def test() -> None:
        for handler, outcome in ((Service(), "aborted"), (stuck, "aborted")):
            drain = Drain(0.3, quiet=0.05)
            records = Records()
            with socket.create_server(("127.0.0.1", 0)) as listener:
                async with anyio.create_task_group() as group:
                    call = partial(serve, policy=POLICY, handler=handler, drain=drain, observer=records)
                    await group.start(partial(call, timeouts=PATIENT), listener)
                    async with to(listener.getsockname()[1]) as association:
                        await association.send(1, ECHO)
                        drain.start()
                        with pytest.raises(AssociationAborted):
                            while await association.receive() is not None:
                                pass
            assert records.outcomes == [outcome]

    run(test)


def test_drain_does_not_wait_for_a_peer_that_never_closes() -> None:
    """What was aborted, or has released, has ARTIM to close its side; the end of a drain is sooner."""
    drain = Drain(0.3, quiet=0.05)
    records = Records()
    request = encode_pdu(build_request(calling_ae="CALLING", called_ae="CALLED", contexts=CONTEXTS))

    async def test() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            async with anyio.create_task_group() as group:
                call = partial(serve, policy=POLICY, handler=Service(), drain=drain, observer=records)
                with anyio.fail_after(PATIENT.artim / 2):
                    await group.start(partial(call, timeouts=PATIENT), listener)
                    async with await anyio.connect_tcp(*listener.getsockname()) as stream:
                        await stream.send(request)
                        await stream.receive()
                        drain.start()
                        assert (await stream.receive())[:1] == b"\x07"
                        await until(lambda: bool(records.outcomes))

    run(test)
    assert records.outcomes == ["aborted"]


def test_limits_can_be_chosen() -> None:
    async def test() -> None:
        async with running(Service(), limits=Limits(command=40)) as port, to(port) as association:
            await association.send(1, ECHO)
            with pytest.raises(AssociationAborted) as caught:
                await association.receive()
            assert (caught.value.source, caught.value.reason) == (2, 6)

    run(test)


def test_an_association_without_contexts_can_be_released() -> None:
    async def test() -> None:
        async with (
            running(Service()) as port,
            connect(
                "127.0.0.1",
                port,
                calling_ae="A",
                called_ae="B",
                contexts=[ProposedContext("1.2.3", [EXPLICIT])],
                timeouts=PATIENT,
            ) as association,
        ):
            assert association.contexts == {}

    run(test)
