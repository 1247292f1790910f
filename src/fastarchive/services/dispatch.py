"""From a message to the service that handles it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from fastarchive.dicom.attributes import model_of
from fastarchive.dicom.uids import VERIFICATION
from fastarchive.services import find, retrieve, status, storage, verification
from fastarchive.services.context import ServiceContext
from fastarchive.services.faults import log_unexpected
from fastarchive.services.policy import is_storage
from fastarchive.services.prompt import PromptStores, answer_promptly
from fastarchive.services.responses import caller_of, refuse
from fastarchive.upperlayer import Association, AssociationAborted, AssociationError, CommandField, Message

__all__ = ["handle_association"]

_log: Final = logging.getLogger(__name__)

Service = Callable[[Association, Message, ServiceContext], Awaitable[None]]

_UNEXPECTED_PDU: Final = (2, 2)
"""A-ABORT by the service provider: unexpected PDU (PS3.8 Table 9-26); the nearest there is to an unasked response."""


def _is_verification(abstract_syntax: str) -> bool:
    return abstract_syntax == VERIFICATION


def _is_model(operation: str) -> Callable[[str], bool]:
    def check(abstract_syntax: str) -> bool:
        model = model_of(abstract_syntax)
        return model is not None and model[1] == operation

    return check


# Command field -> whether the service has an abstract syntax, the service, the name its errors are counted under.
_SERVICES: Final[Mapping[CommandField, tuple[Callable[[str], bool], Service, str]]] = {
    CommandField.C_ECHO_RQ: (_is_verification, verification.handle, "C-ECHO"),
    CommandField.C_STORE_RQ: (is_storage, storage.handle, "C-STORE"),
    CommandField.C_FIND_RQ: (_is_model("FIND"), find.handle, "C-FIND"),
    CommandField.C_MOVE_RQ: (_is_model("MOVE"), retrieve.handle_move, "C-MOVE"),
    CommandField.C_GET_RQ: (_is_model("GET"), retrieve.handle_get, "C-GET"),
}


async def handle_association(
    association: Association, context: ServiceContext, stores: PromptStores | None = None
) -> None:
    """Serve one accepted association until the peer releases it or it is aborted; raises only cancellation.

    A request no service here knows is answered 0211H, one for another SOP class than its context's 0122H (PS3.7
    Annex C). A response nobody asked for ends the association. Plain instances go through `stores` where that is given.
    """
    metrics = context.metrics
    metrics.associations.labels(calling_ae=metrics.ae_label(association.calling_ae)).inc()
    metrics.accepted_open.inc()
    prompt = None if stores is None else answer_promptly(association, stores)
    try:
        while (message := await association.receive()) is not None:
            if prompt is not None:
                prompt.forget()
            await _handle_message(association, message, context)
    except AssociationAborted as ended:
        _log.info("association with %s ended: %s", caller_of(association), ended)
    except AssociationError as ended:
        _log.info("association with %s failed: %s", caller_of(association), type(ended).__name__)
    finally:
        if prompt is not None:
            prompt.forget()
        metrics.accepted_open.dec()


async def _handle_message(association: Association, message: Message, context: ServiceContext) -> None:
    field = message.command.field
    if not message.command.is_request:
        _log.warning("%s from %s without a request", field.name, caller_of(association))
        await association.abort(*_UNEXPECTED_PDU)
        return
    service = _SERVICES.get(field)
    if service is None:
        await refuse(association, message, status.UNRECOGNIZED_OPERATION, "the archive has no such operation")
        return
    supports, handle, name = service
    if not supports(message.context.abstract_syntax):
        await refuse(association, message, status.SOP_CLASS_NOT_SUPPORTED, "not an operation of this SOP class")
        return
    try:
        await handle(association, message, context)
    except AssociationError:
        raise
    except Exception as error:  # one association ends, the others and the server go on
        log_unexpected(_log, name, error)
        context.metrics.unexpected_errors.labels(service=name).inc()
        await association.abort()
