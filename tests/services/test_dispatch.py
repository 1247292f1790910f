"""Messages reach their service; what no service knows is answered, what nobody asked for ends the association."""

from __future__ import annotations

from collections import deque
from typing import Any

import anyio
import pytest

from fastarchive.metrics import Metrics, exposition
from fastarchive.services import dispatch
from fastarchive.services.context import open_context
from fastarchive.upperlayer import Command, CommandField
from tests.services.fakes import (
    CT,
    STUDY_FIND,
    FakeArchive,
    FakeAssociation,
    FakeMessage,
    presentation,
    store_request,
)

VERIFICATION = "1.2.840.10008.1.1"
ECHO = Command(field=CommandField.C_ECHO_RQ, message_id=3, affected_sop_class=VERIFICATION)


def serve(*messages: FakeMessage | None, metrics: Metrics | None = None) -> FakeAssociation:
    association: Any = FakeAssociation(incoming=deque(messages))
    archive: Any = FakeArchive()

    async def main() -> None:
        with open_context(archive, metrics=metrics or Metrics()) as context:
            await dispatch.handle_association(association, context)

    anyio.run(main)
    fake: FakeAssociation = association
    return fake


def test_echo_then_store_then_release() -> None:
    association = serve(FakeMessage(presentation(VERIFICATION), ECHO), store_request(), None)
    assert association.statuses == [0x0000, 0x0000]
    assert [command.field for _, command, _ in association.sent] == [CommandField.C_ECHO_RSP, CommandField.C_STORE_RSP]
    assert association.sent[0][1].responding_to == 3
    assert association.aborted is None


@pytest.mark.parametrize("field", [CommandField.N_GET_RQ, CommandField.N_ACTION_RQ, CommandField.N_CREATE_RQ])
def test_an_operation_the_archive_does_not_have_gets_0211(field: CommandField) -> None:
    command = Command(field=field, message_id=8, requested_sop_class=CT, has_data_set=True)
    message = FakeMessage(presentation(CT), command, [b"left", b"over"])
    association = serve(message, FakeMessage(presentation(VERIFICATION), ECHO), None)
    assert association.statuses == [0x0211, 0x0000]
    assert association.sent[0][1].field == field.response
    assert not message.left


@pytest.mark.parametrize(
    ("field", "abstract_syntax"),
    [
        (CommandField.C_FIND_RQ, CT),
        (CommandField.C_MOVE_RQ, STUDY_FIND),
        (CommandField.C_GET_RQ, STUDY_FIND),
        (CommandField.C_STORE_RQ, STUDY_FIND),
        (CommandField.C_ECHO_RQ, CT),
    ],
)
def test_F9_an_operation_of_another_sop_class_gets_0122(field: CommandField, abstract_syntax: str) -> None:
    command = Command(field=field, message_id=8, affected_sop_class=abstract_syntax, has_data_set=True)
    message = FakeMessage(presentation(abstract_syntax), command, [b"x"])
    assert serve(message, None).statuses == [0x0122]
    assert not message.left


def test_a_response_nobody_asked_for_ends_the_association() -> None:
    command = Command(field=CommandField.C_STORE_RSP, responding_to=1, status=0)
    association = serve(FakeMessage(presentation(CT), command), store_request())
    assert association.aborted == (2, 2)
    assert association.sent == []


def test_an_error_nobody_foresaw_ends_one_association_and_is_logged_without_data(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("SMITH^JOHN")

    entry = dispatch._SERVICES[CommandField.C_ECHO_RQ]
    services = {**dispatch._SERVICES, CommandField.C_ECHO_RQ: (entry[0], broken, entry[2])}
    monkeypatch.setattr(dispatch, "_SERVICES", services)
    metrics = Metrics()
    association = serve(FakeMessage(presentation(VERIFICATION), ECHO), metrics=metrics)
    assert association.aborted == (0, 0)
    assert "RuntimeError" in caplog.text
    assert "SMITH" not in caplog.text
    text = exposition(metrics).decode()
    assert 'fastarchive_unexpected_errors_total{service="C-ECHO"} 1.0' in text
    assert 'fastarchive_associations_open{role="acceptor"} 0.0' in text
