"""pynetdicom as the side that asks."""

from __future__ import annotations

from typing import Any

from pynetdicom import AE


def request_association(entity: AE, host: str, port: int, **options: Any) -> Any:
    """An association of which only the methods that send take messages off the queue.

    The thread that pynetdicom runs beside them, for what the other side might ask, can take
    a response that comes at once, log it as unexpected and leave the sender waiting for it.
    """
    association = entity.associate(host, port, **options)
    take = association.dimse.get_msg

    def take_for_sender(block: bool = False) -> Any:
        return take(block=True) if block else (None, None)

    association.dimse.get_msg = take_for_sender
    return association
