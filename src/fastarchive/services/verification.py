"""Verification SOP class: C-ECHO (PS3.4 Annex A)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastarchive.services import status
from fastarchive.services.responses import response_to

if TYPE_CHECKING:
    from fastarchive.services.context import ServiceContext
    from fastarchive.upperlayer.association import Association, Message

__all__ = ["handle"]


async def handle(association: Association, message: Message, context: ServiceContext) -> None:
    """Answer C-ECHO-RQ with Success."""
    await association.send(message.context.id, response_to(message.command, status.SUCCESS))
