"""Counting sub-operations, and the contexts they are sent in."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastarchive.dicom.elements import walk
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE, IMPLICIT_LITTLE
from fastarchive.services.suboperations import (
    Instance,
    Outcome,
    Tally,
    choose_context,
    failed_list,
    plan_voyages,
    why_declined,
)
from fastarchive.store.record import Location
from fastarchive.upperlayer import Command, CommandField, PresentationContext

CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"
IMPLICIT, EXPLICIT, BIG, DEFLATED = (
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
)
JPEG, J2K = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
REQUEST = Command(field=CommandField.C_MOVE_RQ, message_id=7, affected_sop_class="1.2.840.10008.5.1.4.1.2.2.2")


def instance(number: int = 1, sop_class: str = CT, transfer_syntax: str = EXPLICIT) -> Instance:
    return Instance(sop_class, f"1.2.3.{number}", transfer_syntax, 1000, Location(1, number, 10))


def context(sop_class: str, transfer_syntax: str, *, as_scu: bool = True) -> PresentationContext:
    return PresentationContext(1, sop_class, transfer_syntax, as_scu=as_scu, as_scp=False)


@given(st.lists(st.sampled_from(Outcome), max_size=20), st.integers(0, 5))
def test_R4_the_counts_always_add_up(outcomes: list[Outcome], left: int) -> None:
    tally = Tally(len(outcomes) + left)
    for number, outcome in enumerate(outcomes):
        tally.count(instance(number), outcome)
        pending = tally.response(REQUEST, 0xFF00)
        assert pending.remaining is not None
        assert pending.completed is not None
        assert pending.failed is not None
        assert pending.warning is not None
        assert pending.remaining + pending.completed + pending.failed + pending.warning == tally.total
    assert tally.remaining == left
    assert len(tally.failed_instances) == tally.failed


def test_R4_remaining_only_in_pending_and_cancel() -> None:
    tally = Tally(3)
    assert tally.response(REQUEST, 0xFF00).remaining == 3
    assert tally.response(REQUEST, 0xFE00).remaining == 3
    for final in (0x0000, 0xB000, 0xA702):
        assert tally.response(REQUEST, final).remaining is None


def test_R4_counts_are_clamped_to_16_bits() -> None:
    tally = Tally(100_000)
    assert tally.response(REQUEST, 0xFF00).remaining == 0xFFFF
    tally.completed = 70_000
    assert tally.response(REQUEST, 0xFF00).completed == 0xFFFF


def test_R3_no_match_is_success() -> None:
    response = Tally(0).response(REQUEST, Tally(0).final_status())
    assert (response.status, response.completed, response.failed, response.warning) == (0, 0, 0, 0)


def test_R6_some_failed_or_warned_is_a_warning_and_all_failed_a_refusal() -> None:
    def final(*outcomes: Outcome) -> int:
        tally = Tally(len(outcomes))
        for number, outcome in enumerate(outcomes):
            tally.count(instance(number), outcome)
        return tally.final_status()

    completed, warning, failed = Outcome.COMPLETED, Outcome.WARNING, Outcome.FAILED
    assert final(completed, completed) == 0x0000
    assert final(completed, warning) == 0xB000
    assert final(completed, failed) == 0xB000
    assert final(warning, failed) == 0xB000
    assert final(failed, failed) == 0xA702


def test_R12_warning_statuses_of_the_destination_are_no_failures() -> None:
    for status in (0xB000, 0xB006, 0xB007):
        assert Outcome.of(status) is Outcome.WARNING
    assert Outcome.of(0x0000) is Outcome.COMPLETED
    for failure in (0xA700, 0xA900, 0xC001, 0x0110, 0x0122, None):
        assert Outcome.of(failure) is Outcome.FAILED


def test_R5_the_failed_list_is_one_ui_element_and_fits_explicit_vr() -> None:
    for encoding in (EXPLICIT_LITTLE, IMPLICIT_LITTLE):
        (element,) = walk(failed_list(["1.2.3", "1.2.4"], encoding), encoding)
        assert (element.tag, element.vr, element.value.rstrip(b"\0")) == (0x00080058, "UI", b"1.2.3\\1.2.4")
    many = [f"1.2.840.113619.2.55.3.{number:040d}" for number in range(3000)]
    (element,) = walk(failed_list(many, EXPLICIT_LITTLE), EXPLICIT_LITTLE)
    listed = element.value.rstrip(b"\0").decode().split("\\")
    assert element.vr == "UI"
    assert listed == many[: len(listed)]
    assert len(listed) > 900


def test_R8_each_stored_syntax_has_a_context_of_its_own() -> None:
    (voyage,) = plan_voyages([instance(1, CT, JPEG), instance(2, CT, J2K), instance(3, CT, JPEG)])
    assert [tuple(context.transfer_syntaxes) for context in voyage.contexts] == [(JPEG,), (J2K,)]
    assert {context.abstract_syntax for context in voyage.contexts} == {CT}
    assert len(voyage.instances) == 3


def test_R8_uncompressed_instances_also_propose_what_they_can_be_rewritten_to() -> None:
    (voyage,) = plan_voyages([instance(1, CT, EXPLICIT)])
    assert [tuple(context.transfer_syntaxes) for context in voyage.contexts] == [(EXPLICIT,), (IMPLICIT,)]
    (voyage,) = plan_voyages([instance(1, CT, DEFLATED), instance(2, CT, JPEG)])
    proposed = [tuple(context.transfer_syntaxes) for context in voyage.contexts]
    assert proposed == [(DEFLATED,), (JPEG,), (EXPLICIT,), (IMPLICIT,)]


@given(st.lists(st.tuples(st.integers(0, 200), st.sampled_from([EXPLICIT, IMPLICIT, JPEG, J2K, BIG])), max_size=300))
def test_R8_more_than_128_contexts_are_spread_over_several_associations(pairs: list[tuple[int, str]]) -> None:
    instances = [
        instance(number, f"1.2.840.10008.5.1.4.1.1.{kind}", syntax) for number, (kind, syntax) in enumerate(pairs)
    ]
    voyages = plan_voyages(instances)
    assert sorted(one for voyage in voyages for one in voyage.instances) == sorted(instances)
    for voyage in voyages:
        assert 0 < len(voyage.contexts) <= 128
        proposed = {
            (context.abstract_syntax, syntax) for context in voyage.contexts for syntax in context.transfer_syntaxes
        }
        assert {(one.sop_class, one.transfer_syntax) for one in voyage.instances} <= proposed


def test_R8_an_instance_is_sent_as_stored_if_that_was_accepted() -> None:
    contexts = [context(CT, IMPLICIT), context(CT, JPEG), context(MR, EXPLICIT)]
    assert choose_context(contexts, instance(transfer_syntax=JPEG)) is contexts[1]
    assert choose_context(contexts, instance(transfer_syntax=EXPLICIT)) is contexts[0]
    assert choose_context(contexts, instance(transfer_syntax=DEFLATED)) is contexts[0]
    assert choose_context(contexts, instance(transfer_syntax=J2K)) is None
    assert choose_context(contexts, instance(sop_class=MR, transfer_syntax=JPEG)) is None


def test_R11_without_the_role_of_an_scu_nothing_is_sent() -> None:
    assert choose_context([context(CT, EXPLICIT, as_scu=False)], instance()) is None


def test_R11_why_nothing_is_sent_is_told_apart() -> None:
    assert "no context was accepted" in why_declined([context(MR, EXPLICIT)], instance())
    assert "did not select the SCP role" in why_declined([context(CT, EXPLICIT, as_scu=False)], instance())
    assert f"neither in {JPEG}" in why_declined([context(CT, EXPLICIT)], instance(transfer_syntax=JPEG))
    assert f"neither in {JPEG}" in why_declined([context(CT, EXPLICIT, as_scu=False)], instance(transfer_syntax=JPEG))
