"""C-MOVE: destinations that fail in every way, counters, cancels."""

from __future__ import annotations

import pytest

from fastarchive.services import retrieve
from fastarchive.upperlayer import AssociationAborted, AssociationRejected, Command, CommandField
from tests.services.fakes import CT, EXPLICIT, STUDY_MOVE, FakeAssociation
from tests.services.retrieving import (
    JPEG,
    MOVE,
    MR,
    NEVER,
    Destination,
    counts,
    failed_uids,
    instance,
    responses,
    run,
    study,
)


def test_R1_an_unknown_destination_gets_A801_and_nothing_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    destination = Destination()
    for name in ("NOBODY", "", "workstation"):
        request = Command(
            field=CommandField.C_MOVE_RQ,
            message_id=1,
            affected_sop_class=STUDY_MOVE,
            has_data_set=True,
            move_destination=name,
        )
        ((_, response, identifier),) = run(monkeypatch, request, study(2), destination=destination).sent
        assert (response.status, identifier) == (0xA801, None)
    assert destination.arguments == []


def test_a_search_that_breaks_gets_A701(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    association = run(monkeypatch, MOVE, RuntimeError("SMITH^JOHN"), destination=Destination())
    assert association.statuses == [0xA701]
    assert "SMITH" not in caplog.text


def test_R7_sub_operations_name_who_asked_for_the_move(monkeypatch: pytest.MonkeyPatch) -> None:
    destination = Destination()
    association = run(monkeypatch, MOVE, study(3), destination=destination)
    assert association.statuses[-1] == 0x0000
    assert [(c.affected_sop_instance, data) for c, data in destination.received] == [
        (f"1.2.3.{number}", b"1.2.3.%d\0" % number) for number in (1, 2, 3)
    ]
    for command, _ in destination.received:
        assert (command.move_originator, command.move_originator_message_id) == ("VIEWER", 21)
    assert len({command.message_id for command, _ in destination.received}) == 3
    (arguments,) = destination.arguments
    assert (arguments["host"], arguments["port"]) == ("127.0.0.1", 104)
    assert (arguments["calling_ae"], arguments["called_ae"]) == ("FASTARCHIVE", "WORKSTATION")


def test_R6_everything_failed_is_A702(monkeypatch: pytest.MonkeyPatch) -> None:
    association = run(monkeypatch, MOVE, study(2), destination=Destination(lambda command: 0xA700))
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xA702, (None, 0, 2, 0))
    assert failed_uids(association) == ["1.2.3.1", "1.2.3.2"]


@pytest.mark.parametrize(
    ("failure", "comment"),
    [
        (ConnectionRefusedError(), "not reachable"),
        (TimeoutError(), "not reachable"),
        (AssociationRejected(1, 1, 7), "refused the association (1/1/7)"),
        (AssociationAborted("hung up"), "lost"),
    ],
)
def test_R6_an_unreachable_destination_is_A702(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, comment: str
) -> None:
    destination = Destination(failures=[failure] * 10)
    association = run(monkeypatch, MOVE, study(3), destination=destination)
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xA702, (None, 0, 3, 0))
    assert comment in final.error_comment
    assert failed_uids(association) == ["1.2.3.1", "1.2.3.2", "1.2.3.3"]
    assert len(destination.arguments) == 1


def test_a_destination_that_hangs_up_costs_one_instance_and_is_called_again(monkeypatch: pytest.MonkeyPatch) -> None:
    destination = Destination(lambda command: None if command.affected_sop_instance == "1.2.3.2" else 0)
    association = run(monkeypatch, MOVE, study(4), destination=destination)
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xB000, (None, 3, 1, 0))
    assert failed_uids(association) == ["1.2.3.2"]
    assert len(destination.associations) == 2


def test_a_destination_that_always_hangs_up_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    destination = Destination(lambda command: None)
    association = run(monkeypatch, MOVE, study(50), destination=destination)
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xA702, (None, 0, 50, 0))
    assert len(destination.associations) == 1


def test_R8_what_the_destination_does_not_take_fails_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    instances = [instance("1.2.3.1"), instance("1.2.3.2", CT, JPEG), instance("1.2.3.3", MR)]
    destination = Destination(accepts=lambda context: context.transfer_syntaxes[0] == EXPLICIT)
    association = run(monkeypatch, MOVE, instances, destination=destination)
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xB000, (None, 2, 1, 0))
    assert failed_uids(association) == ["1.2.3.2"]
    assert destination.associations[0].contexts


def test_R8_many_sop_classes_take_several_associations(monkeypatch: pytest.MonkeyPatch) -> None:
    instances = [instance(f"1.2.3.{n}", f"1.2.840.10008.5.1.4.1.1.{n}", JPEG) for n in range(300)]
    destination = Destination()
    association = run(monkeypatch, MOVE, instances, destination=destination)
    assert responses(association)[-1].status == 0x0000
    assert [len(a.contexts) for a in destination.associations] == [128, 128, 44]
    assert len(destination.received) == 300


def test_R10_a_cancel_in_the_middle_of_a_move(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = FakeAssociation(calling_ae="VIEWER")

    def cancel_at_five(command: Command) -> int:
        if command.affected_sop_instance == "1.2.3.5":
            peer.cancels.add(21)
        return 0

    association = run(monkeypatch, MOVE, study(10), association=peer, destination=Destination(cancel_at_five))
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xFE00, (5, 5, 0, 0))


def test_R10_a_cancel_while_the_destination_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = FakeAssociation(calling_ae="VIEWER")
    monkeypatch.setattr(retrieve, "_PATIENCE", 0.05)

    def answer_one(command: Command) -> int:
        if command.affected_sop_instance == "1.2.3.1":
            return 0
        peer.cancels.add(21)
        return NEVER

    destination = Destination(answer_one, stalls=True)
    association = run(monkeypatch, MOVE, study(5), association=peer, destination=destination)
    final = responses(association)[-1]
    assert (final.status, counts(final)) == (0xFE00, (4, 1, 0, 0))


def test_a_move_stops_when_the_association_it_came_on_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    peer = FakeAssociation(calling_ae="VIEWER")

    def hang_up(command: Command) -> int:
        peer.aborted = (0, 0)
        return 0

    destination = Destination(hang_up)
    with pytest.raises(AssociationAborted):
        run(monkeypatch, MOVE, study(2000), association=peer, destination=destination)
    assert len(destination.received) < 2000
