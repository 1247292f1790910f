"""C-GET, and what it has in common with C-MOVE: identifiers, counters, statuses, damage, cancels."""

from __future__ import annotations

import pytest

from fastarchive.metrics import Metrics, exposition
from fastarchive.query.identifier import IdentifierError
from fastarchive.services.context import Limits
from fastarchive.upperlayer import AssociationAborted, Command, CommandField
from tests.services.fakes import STUDY_GET, FakeAssociation, FakeMessage, presentation
from tests.services.retrieving import (
    ACCEPTS,
    DAMAGED,
    GET,
    LATE,
    MOVE,
    Destination,
    answering,
    counts,
    failed_uids,
    getting,
    instance,
    responses,
    run,
    study,
)


def test_R2_an_identifier_that_names_nothing_gets_A900(monkeypatch: pytest.MonkeyPatch) -> None:
    error = IdentifierError("StudyInstanceUID is required", 0x0020000D)
    for request in (MOVE, GET):
        association = run(monkeypatch, request, error, destination=Destination())
        ((_, response, _),) = association.sent
        assert (response.status, response.offending_elements) == (0xA900, (0x0020000D,))


def test_R3_no_match_is_success_with_zero_counters(monkeypatch: pytest.MonkeyPatch) -> None:
    destination = Destination()
    for request in (MOVE, GET):
        association = run(monkeypatch, request, [], association=getting(), destination=destination)
        (response,) = responses(association)
        assert response.status == 0x0000
        assert counts(response) == (None, 0, 0, 0)
    assert destination.arguments == []


def test_R4_pending_and_final_counters_of_a_get(monkeypatch: pytest.MonkeyPatch) -> None:
    metrics = Metrics()
    association = run(monkeypatch, GET, study(3), association=getting(), metrics=metrics)
    *pending, final = responses(association)
    assert [counts(response) for response in pending] == [(2, 1, 0, 0), (1, 2, 0, 0)]
    assert all(response.status == 0xFF00 and not response.has_data_set for response in pending)
    assert (final.status, counts(final)) == (0x0000, (None, 3, 0, 0))
    stores = [command for _, command, _ in association.sent if command.field is CommandField.C_STORE_RQ]
    assert all(command.move_originator == "" for command in stores)
    text = exposition(metrics).decode()
    assert 'fastarchive_retrieve_suboperations_total{outcome="completed",service="C-GET"} 3.0' in text
    assert 'fastarchive_retrieve_sent_bytes_total{service="C-GET"} 24.0' in text


def test_R5_R6_some_failures_are_B000_with_the_failed_list(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = {"1.2.3.1": 0x0000, "1.2.3.2": 0xA700, "1.2.3.3": 0xB007, "1.2.3.4": 0x0122}
    peer = getting(answering(lambda command: codes[command.affected_sop_instance]))
    association = run(monkeypatch, GET, study(4), association=peer)
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xB000, (None, 1, 2, 1))
    assert failed_uids(association) == ["1.2.3.2", "1.2.3.4"]


def test_R5_a_warning_without_failures_has_no_failed_list(monkeypatch: pytest.MonkeyPatch) -> None:
    association = run(monkeypatch, GET, study(2), association=getting(answering(lambda command: 0xB000)))
    final = responses(association)[-1]
    assert (final.status, counts(final), final.has_data_set) == (0xB000, (None, 0, 0, 2), False)


def test_a_damaged_instance_fails_and_the_others_are_sent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    instances = [instance("1.2.3.1"), instance(DAMAGED), instance("1.2.3.2")]
    metrics = Metrics()
    association = run(monkeypatch, GET, instances, association=getting(), metrics=metrics)
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xB000, (None, 2, 1, 0))
    assert failed_uids(association) == [DAMAGED]
    assert "fastarchive_damaged_instances_total 1.0" in exposition(metrics).decode()
    assert DAMAGED in caplog.text


def test_a_large_damaged_instance_is_found_out_before_its_first_byte_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    instances = [instance("1.2.3.1", length=100), instance(DAMAGED, length=100), instance("1.2.3.2", length=100)]
    association = run(
        monkeypatch, GET, instances, association=getting(), limits=Limits(read_ahead=50, pending_interval=0.0)
    )
    assert responses(association)[-1].status == 0xB000
    assert failed_uids(association) == [DAMAGED]
    stores = {c.affected_sop_instance: data for _, c, data in association.sent if c.field is CommandField.C_STORE_RQ}
    assert stores == {"1.2.3.1": b"1.2.3.1\0", "1.2.3.2": b"1.2.3.2\0"}


def test_damage_that_shows_half_way_ends_the_association_rather_than_send_wrong_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peer = getting()
    with pytest.raises(AssociationAborted):
        run(
            monkeypatch,
            GET,
            [instance("1.2.3.1"), instance(LATE, length=100)],
            association=peer,
            limits=Limits(read_ahead=50),
        )
    assert peer.aborted is not None
    assert all(c.affected_sop_instance != LATE for _, c, _ in peer.sent)


def test_R10_a_cancel_ends_with_FE00_and_remaining(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer_and_cancel(association: FakeAssociation, number: int, command: Command, data: bytes | None) -> None:
        ACCEPTS(association, number, command, data)
        if command.affected_sop_instance == "1.2.3.3":
            association.cancels.add(21)

    association = run(monkeypatch, GET, study(10), association=getting(answer_and_cancel))
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xFE00, (7, 3, 0, 0))
    assert not final.has_data_set


@pytest.mark.parametrize("request_", [MOVE, GET])
def test_R10_a_cancel_that_comes_at_once(monkeypatch: pytest.MonkeyPatch, request_: Command) -> None:
    peer = getting()
    peer.cancels.add(21)
    destination = Destination()
    association = run(monkeypatch, request_, study(10), association=peer, destination=destination)
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xFE00, (10, 0, 0, 0))
    assert destination.received == []


def test_R11_without_role_selection_every_sub_operation_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    association = run(monkeypatch, GET, study(2), association=getting(roles=False))
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xA702, (None, 0, 2, 0))
    assert failed_uids(association) == ["1.2.3.1", "1.2.3.2"]
    assert [command.field for _, command, _ in association.sent if not command.is_response] == []


def test_R11_something_else_in_place_of_a_response_ends_the_association(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask_again(association: FakeAssociation, number: int, command: Command, data: bytes | None) -> None:
        association.incoming.append(FakeMessage(presentation(STUDY_GET), GET, [b"x"]))

    peer = getting(ask_again)
    with pytest.raises(AssociationAborted):
        run(monkeypatch, GET, study(2), association=peer)
    assert peer.aborted == (2, 2)
