"""Two worker processes, many associations: what was acknowledged is there for everybody, once, at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from bench.encoding import element
from bench.modality import Instance, Modality, Scanner
from bench.peers import image_query, sop_instance_in
from bench.requestor import STUDY_ROOT_FIND, STUDY_ROOT_GET, Context, Response
from tests.peers.conftest import associate
from tests.server.harness import RunningArchive

SCANNER = Scanner(9, small=True)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    folder: Path = tmp_path_factory.mktemp("consistency") / "data"
    with RunningArchive(folder, workers=2) as running:
        yield running


def series(patient: int, count: int) -> list[Instance]:
    study = SCANNER.study(SCANNER.patient(patient), 0, Modality.CT)
    return list(SCANNER.series(study, 1, count))


def test_what_was_acknowledged_is_found_by_the_next_query_of_anybody(archive: RunningArchive) -> None:
    instances = series(1, 60)
    sop_class, study, uid = instances[0].sop_class, instances[0].study.uid, instances[0].series
    # Several open associations land on both workers; each question comes right after an acknowledgement.
    askers = [associate(archive, Context(STUDY_ROOT_FIND)) for _ in range(6)]
    counted = element(0x00080052, "CS", "STUDY") + element(0x0020000D, "UI", study) + element(0x00201208, "IS", "")
    try:
        with associate(archive, Context(sop_class)) as sender:
            for number, one in enumerate(instances, start=1):
                answer = sender.store(sop_class, one.sop_instance, one.transfer_syntax, one.data_set)
                assert answer.status == 0
                asker = askers[number % len(askers)]
                found = [
                    sop_instance_in(each) for each in asker.find(STUDY_ROOT_FIND, image_query(study, uid)).identifiers
                ]
                assert sorted(found) == sorted(each.sop_instance for each in instances[:number])
                (row,) = asker.find(STUDY_ROOT_FIND, counted).identifiers
                assert element(0x00201208, "IS", number) in row
    finally:
        for asker in askers:
            asker.release()


def test_what_was_acknowledged_is_retrieved_by_the_next_request(archive: RunningArchive) -> None:
    for one in series(2, 15):
        with associate(archive, Context(one.sop_class)) as sender:
            assert sender.store(one.sop_class, one.sop_instance, one.transfer_syntax, one.data_set).status == 0
        identifier = (
            element(0x00080018, "UI", one.sop_instance)
            + element(0x00080052, "CS", "IMAGE")
            + element(0x0020000D, "UI", one.study.uid)
            + element(0x0020000E, "UI", one.series)
        )
        with associate(archive, Context(STUDY_ROOT_GET), Context(one.sop_class, scp=True)) as asker:
            _, (retrieved,) = asker.get(STUDY_ROOT_GET, identifier)
        assert retrieved.data_set == one.data_set


def send(archive: RunningArchive, instances: list[Instance]) -> list[Response]:
    """Send over one association."""
    with associate(archive, Context(instances[0].sop_class)) as association:
        return [
            association.store(one.sop_class, one.sop_instance, one.transfer_syntax, one.data_set) for one in instances
        ]


def test_the_same_instances_from_eight_senders_at_once_are_stored_once(archive: RunningArchive) -> None:
    instances = series(3, 20)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: send(archive, instances), range(8)))
    assert {answer.status for each in answers for answer in each} == {0}
    assert_held_once(archive, instances)


def test_different_data_sets_under_one_uid_at_once(archive: RunningArchive) -> None:
    """Each sender has pixels of its own under the same UIDs. Whoever comes first is kept; nobody gets another's
    data set for its own. When two senders are in the same moment both may be answered 0000: one is kept, everywhere
    the same."""
    instances = series(4, 10)
    variants = [
        [replace(one, data_set=one.data_set[:-1] + bytes([number])) for one in instances] for number in range(8)
    ]
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda variant: send(archive, variant), variants))
    statuses = {answer.status for each in answers for answer in each}
    assert 0 in statuses
    assert statuses <= {0, 0xA900}
    for index, one in enumerate(instances):
        acknowledged = [variants[n][index].data_set for n in range(8) if answers[n][index].status == 0]
        assert acknowledged
        kept = {held(archive, one) for _ in range(4)}
        assert len(kept) == 1
        assert kept <= set(acknowledged)
    assert_held_once(archive, instances)


def held(archive: RunningArchive, instance: Instance) -> bytes:
    """The data set that the archive has under the instance's UID, asked for over a new association."""
    identifier = (
        element(0x00080018, "UI", instance.sop_instance)
        + element(0x00080052, "CS", "IMAGE")
        + element(0x0020000D, "UI", instance.study.uid)
        + element(0x0020000E, "UI", instance.series)
    )
    with associate(archive, Context(STUDY_ROOT_GET), Context(instance.sop_class, scp=True)) as association:
        _, (retrieved,) = association.get(STUDY_ROOT_GET, identifier)
    return retrieved.data_set


def assert_held_once(archive: RunningArchive, instances: list[Instance]) -> None:
    """Each is one answer, and the counts of series and study say the same."""
    study, uid = instances[0].study.uid, instances[0].series
    with associate(archive, Context(STUDY_ROOT_FIND)) as association:
        found = [sop_instance_in(one) for one in association.find(STUDY_ROOT_FIND, image_query(study, uid)).identifiers]
        assert sorted(found) == sorted(one.sop_instance for one in instances)
        counted = (
            element(0x00080052, "CS", "STUDY")
            + element(0x0020000D, "UI", study)
            + element(0x00201206, "IS", "")
            + element(0x00201208, "IS", "")
        )
        (row,) = association.find(STUDY_ROOT_FIND, counted).identifiers
    assert element(0x00201206, "IS", 1) in row
    assert element(0x00201208, "IS", len(instances)) in row
