"""SIGKILL in the middle of eight parallel associations: what was acknowledged is there after the restart."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

import pytest

from bench.encoding import element
from bench.modality import Instance, Modality, Scanner, write_files
from bench.peers import image_query, sop_instance_in
from bench.requestor import STUDY_ROOT_FIND, STUDY_ROOT_GET, Context
from bench.senders import DcmSend
from tests.peers.conftest import associate
from tests.server.harness import RunningArchive, eventually

ROUNDS = 10
ASSOCIATIONS = 8
PER_ASSOCIATION = 60

VICTIMS = ("everything", "worker", "indexer", "supervisor", "everything") * 2
assert len(VICTIMS) == ROUNDS


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    """One archive for all rounds: each finds what the ones before left."""
    running = RunningArchive(tmp_path_factory.mktemp("kill") / "data", workers=2)
    running.start()
    yield running
    if running.running:
        assert running.stop() == 0, running.log()


@pytest.fixture(scope="module")
def acknowledged() -> dict[str, Instance]:
    """Everything that got 0000 in any round so far."""
    return {}


@pytest.mark.parametrize("number", range(ROUNDS))
def test_nothing_acknowledged_is_lost(
    archive: RunningArchive, acknowledged: dict[str, Instance], tmp_path: Path, number: int
) -> None:
    chance = random.Random(number)
    instances, folders = generate(tmp_path, number)
    sending = DcmSend(archive.host, archive.dicom_port, [[folder] for folder in folders], called=archive.ae_title)
    after = chance.randrange(20, ASSOCIATIONS * PER_ASSOCIATION // 2)
    eventually("some answers", lambda: sending.progress() >= after or not sending.running)
    kill(archive, VICTIMS[number])
    sent = sending.result(60)
    new = {one.sop_instance: instances[one.sop_instance] for one in sent if one.acknowledged}
    assert len(new) >= after
    acknowledged |= new

    if not archive.running:
        archive.start()
    else:
        eventually("service again", lambda: archive.get("/readyz")[0] == 200)
    check_found(archive, acknowledged.values())
    # Not every old instance each time: this round's, and a sample of the others.
    check_retrieved(archive, [*new.values(), *chance.sample(list(acknowledged.values()), 20)])


def test_all_of_it_at_the_end(archive: RunningArchive, acknowledged: dict[str, Instance]) -> None:
    assert archive.stop() == 0, archive.log()
    archive.start()
    check_found(archive, acknowledged.values())
    check_retrieved(archive, acknowledged.values())


def generate(place: Path, number: int) -> tuple[dict[str, Instance], list[Path]]:
    """Eight folders with a series each, and the instances by UID."""
    scanner = Scanner(1000 + number, small=True)
    instances: dict[str, Instance] = {}
    folders = []
    for stream in range(ASSOCIATIONS):
        study = scanner.study(scanner.patient(stream), 0, Modality.CT)
        made = list(scanner.series(study, 1, PER_ASSOCIATION))
        instances |= {one.sop_instance: one for one in made}
        folders.append(place / str(stream))
        write_files(iter(made), folders[-1])
    return instances, folders


def kill(archive: RunningArchive, victim: str) -> None:
    """SIGKILL to one process, or to all at once."""
    if victim == "everything":
        archive.kill()
        return
    if victim == "supervisor":
        children = archive.children()
        archive.kill_process(archive.pid)
        eventually("the supervisor to be gone", lambda: not archive.running)
        # Nobody watches over the others now: they have to end by themselves, or a second start would meet them.
        from tests.server.harness import alive

        eventually("its children to end", lambda: not any(map(alive, children)))
        archive.kill()
        return
    pids = archive.processes(victim)
    assert pids, f"no {victim} runs"
    archive.kill_process(pids[0])


def check_found(archive: RunningArchive, wanted: Iterable[Instance]) -> None:
    """Each is an answer to C-FIND at IMAGE level, once."""
    with associate(archive, Context(STUDY_ROOT_FIND)) as association:
        for (study, series), group in _by_series(wanted):
            answers = association.find(STUDY_ROOT_FIND, image_query(study, series))
            found = [sop_instance_in(one) for one in answers.identifiers]
            assert answers.response.status == 0
            assert len(found) == len(set(found)), "an instance twice"
            missing = {one.sop_instance for one in group} - set(found)
            assert not missing, f"{len(missing)} acknowledged and not found"


def check_retrieved(archive: RunningArchive, wanted: Iterable[Instance]) -> None:
    """Each comes back by C-GET with the elements that were sent."""
    wanted = list(wanted)
    contexts = [Context(STUDY_ROOT_GET), Context(wanted[0].sop_class, scp=True)]
    with associate(archive, *contexts) as association:
        for (study, series), group in _by_series(wanted):
            expected = {one.sop_instance: one for one in group}
            identifier = (
                element(0x00080018, "UI", "\\".join(expected))
                + element(0x00080052, "CS", "IMAGE")
                + element(0x0020000D, "UI", study)
                + element(0x0020000E, "UI", series)
            )
            response, retrieved = association.get(STUDY_ROOT_GET, identifier)
            assert response.status == 0, response
            assert {one.sop_instance for one in retrieved} == set(expected)
            for one in retrieved:
                # dcmsend writes sequences with undefined length; the pixels and everything behind them are the same.
                assert one.data_set[-7200:] == expected[one.sop_instance].data_set[-7200:]


def _by_series(wanted: Iterable[Instance]) -> Iterator[tuple[tuple[str, str], list[Instance]]]:
    ordered = sorted(wanted, key=lambda one: (one.study.uid, one.series))
    for key, group in groupby(ordered, key=lambda one: (one.study.uid, one.series)):
        yield key, list({one.sop_instance: one for one in group}.values())
