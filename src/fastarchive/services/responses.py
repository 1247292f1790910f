"""Responses as commands, and the refusal of a request with its data set read to the end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastarchive.services.faults import comment_of
from fastarchive.upperlayer.commands import Command

if TYPE_CHECKING:
    from fastarchive.upperlayer.association import Association, Message

__all__ = ["caller_of", "drain", "refuse", "response_to"]


def caller_of(association: Association) -> str:
    """Who is at the other end, for the log: AE title and host."""
    return f"{comment_of(association.calling_ae)}@{association.peer[0]}"


def response_to(
    request: Command, status: int, *, comment: str = "", offending_elements: tuple[int, ...] = ()
) -> Command:
    """The response to `request` without a data set; Error Comment is cut to what it may hold."""
    return Command(
        field=request.field.response,
        responding_to=request.message_id,
        affected_sop_class=_echoed(request.affected_sop_class or request.requested_sop_class),
        affected_sop_instance=_echoed(request.affected_sop_instance or request.requested_sop_instance),
        status=status,
        offending_elements=offending_elements,
        error_comment=comment_of(comment),
    )


def _echoed(uid: str) -> str:
    """A UID of a request as a response may carry it: nothing that is not even text of the default repertoire."""
    return uid if uid.isascii() else ""


async def drain(message: Message) -> int:
    """Read what is left of the data set of `message` and drop it, so that the next message can be read.

    Returns the number of bytes dropped.
    """
    dropped = 0
    async for chunk in message.chunks():
        dropped += len(chunk)
    return dropped


async def refuse(
    association: Association,
    message: Message,
    status: int,
    comment: str,
    *,
    offending_elements: tuple[int, ...] = (),
) -> None:
    """Answer the request `message` with a failure `status` once its data set, if any, has been read to the end."""
    if message.command.has_data_set:
        await drain(message)
    response = response_to(message.command, status, comment=comment, offending_elements=offending_elements)
    await association.send(message.context.id, response)
