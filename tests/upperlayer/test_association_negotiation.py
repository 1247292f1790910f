"""An association requested, accepted with what was negotiated, or rejected: both sides over the loopback interface."""

from __future__ import annotations

import socket
from dataclasses import replace

import anyio
import pytest

from fastarchive.upperlayer import (
    Association,
    AssociationRejected,
    ProposedContext,
    UserIdentity,
    connect,
)
from tests.upperlayer.running import (
    CONTEXTS,
    CT_IMAGE_STORAGE,
    EXPLICIT,
    PATIENT,
    POLICY,
    STUDY_ROOT_FIND,
    Records,
    Service,
    echo,
    run,
    running,
    to,
    until,
)


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
                await echo(association)
            with anyio.fail_after(5):
                while True:
                    try:
                        async with to(port) as association:
                            await echo(association)
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


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    async def test() -> None:
        with pytest.raises(OSError, match="Connect call failed"):
            async with to(port):
                pass

    run(test)
