"""An acceptor on the loopback interface for tests, and the contexts they speak in."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import anyio

from fastarchive.upperlayer import (
    AcceptorPolicy,
    Association,
    Command,
    CommandField,
    Message,
    Observer,
    ProposedContext,
    Timeouts,
    connect,
    serve,
)

VERIFICATION = "1.2.840.10008.1.1"
CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
KNOWN = {VERIFICATION, CT_IMAGE_STORAGE, STUDY_ROOT_FIND}
CONTEXTS = [ProposedContext(uid, [EXPLICIT, IMPLICIT]) for uid in (VERIFICATION, CT_IMAGE_STORAGE, STUDY_ROOT_FIND)]

POLICY = AcceptorPolicy(transfer_syntaxes=lambda uid: (EXPLICIT, IMPLICIT) if uid in KNOWN else None)
PATIENT = Timeouts(artim=5, acse=5, dimse=5, idle=5, response=5, write=5)

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


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run an async test on uvloop; none may take longer than 20 seconds."""

    async def limited() -> None:
        with anyio.fail_after(20):
            await test()

    anyio.run(limited, backend_options={"use_uvloop": True})


def response_to(message: Message, status: int = 0) -> Command:
    command = message.command
    return Command(
        field=command.field.response,
        responding_to=command.message_id,
        affected_sop_class=command.affected_sop_class,
        affected_sop_instance=command.affected_sop_instance,
        status=status,
    )


@dataclass
class Records(Observer):
    """What the observer was told."""

    accepted_titles: list[str] = field(default_factory=list)
    rejections: list[tuple[int, int, int]] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)

    def accepted(self, title: str) -> None:
        self.accepted_titles.append(title)

    def rejected(self, title: str, result: int, source: int, reason: int) -> None:
        self.rejections.append((result, source, reason))

    def closed(self, title: str, outcome: str, received: int, sent: int) -> None:
        self.outcomes.append(outcome)


@dataclass
class Service:
    """Answers every request with success and keeps the data sets."""

    data_sets: list[bytes] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)

    async def __call__(self, association: Association) -> None:
        while (message := await association.receive()) is not None:
            self.commands.append(message.command)
            if message.command.has_data_set:
                self.data_sets.append(await message.data_set(1 << 30))
            await association.send(message.context.id, response_to(message))


@asynccontextmanager
async def running(
    handler: Callable[[Association], Awaitable[None]],
    *,
    policy: AcceptorPolicy = POLICY,
    timeouts: Timeouts = PATIENT,
    **options: Any,
) -> AsyncIterator[int]:
    """An acceptor; gives its port."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        async with anyio.create_task_group() as group:
            call = partial(serve, listener, policy=policy, handler=handler, timeouts=timeouts, **options)
            await group.start(call)
            yield listener.getsockname()[1]
            group.cancel_scope.cancel()


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Poll until the condition holds; fails after so many seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await anyio.sleep(0.005)


async def echo(association: Association) -> None:
    """One C-ECHO, answered with success."""
    await association.send(1, ECHO)
    answer = await association.receive()
    assert answer is not None
    assert answer.command.status == 0
