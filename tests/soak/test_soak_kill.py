"""SIGKILL under eight associations, again and again, and in the middle of compactions; one archive for all rounds.

`FASTARCHIVE_KILL_ROUNDS` says how many. In every third round a study of an earlier one is deleted, and the archive is
compacted by a process of its own, which is killed with the others or alone.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.modality import Instance
from bench.senders import DcmSend
from fastarchive.archive import Archive
from fastarchive.store.scrub import Scrub
from tests.peers.test_kill import ASSOCIATIONS, PER_ASSOCIATION, VICTIMS, check_found, check_retrieved, generate, kill
from tests.server.harness import RunningArchive, eventually

ROUNDS = int(os.environ.get("FASTARCHIVE_KILL_ROUNDS", "200"))
FIRST = int(os.environ.get("FASTARCHIVE_FIRST_SEED", "0"))
SAMPLE = 200


class Kept:
    """What was acknowledged in all rounds so far and not deleted since."""

    def __init__(self) -> None:
        self.instances: dict[str, Instance] = {}
        self.deleted: set[str] = set()
        self.compactions = 0
        self.compactions_killed = 0

    def delete_a_study(self, archive: RunningArchive, chance: random.Random) -> None:
        study = chance.choice(list(self.instances.values())).study.uid
        command(archive, "delete", "study", study, "--reason", "soak", "--yes", "--json").check_returncode()
        gone = {uid for uid, one in self.instances.items() if one.study.uid == study}
        self.deleted |= gone
        for uid in gone:
            del self.instances[uid]


ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("FASTARCHIVE_")}


def arguments(archive: RunningArchive, *words: str) -> list[str]:
    return [sys.executable, "-m", "fastarchive", *words, "--data", str(archive.data)]


def command(archive: RunningArchive, *words: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(arguments(archive, *words), capture_output=True, check=False, env=ENVIRON)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    running = RunningArchive(tmp_path_factory.mktemp("kill") / "data", workers=2)
    running.start()
    yield running
    if running.running:
        assert running.stop() == 0, running.log()


@pytest.fixture(scope="module")
def kept() -> Kept:
    return Kept()


@pytest.mark.parametrize("number", range(FIRST, FIRST + ROUNDS))
def test_nothing_acknowledged_is_lost(archive: RunningArchive, kept: Kept, tmp_path: Path, number: int) -> None:
    chance = random.Random(number)
    instances, folders = generate(tmp_path, number)
    compacting = None
    if number % 3 == 2 and kept.instances:
        kept.delete_a_study(archive, chance)
        rate = chance.choice(["1", "5", "1000"])
        compacting = subprocess.Popen(
            arguments(archive, "compact", "--dead", "1", "--rate", rate), stdout=subprocess.DEVNULL, env=ENVIRON
        )
        kept.compactions += 1
    sending = DcmSend(archive.host, archive.dicom_port, [[folder] for folder in folders], called=archive.ae_title)
    after = chance.randrange(20, ASSOCIATIONS * PER_ASSOCIATION // 2)
    eventually("some answers", lambda: sending.progress() >= after or not sending.running, 120)
    if compacting is not None and chance.random() < 0.7:
        kept.compactions_killed += compacting.poll() is None
        compacting.kill()
        compacting.wait()
    kill(archive, VICTIMS[number % len(VICTIMS)])
    sent = sending.result(120)
    if compacting is not None:
        kept.compactions_killed += compacting.poll() is None
        compacting.kill()  # by now the archive it worked beside has died and may have come back
        compacting.wait()
    new = {one.sop_instance: instances[one.sop_instance] for one in sent if one.acknowledged}
    assert len(new) >= after
    kept.instances |= new

    if not archive.running:
        archive.start()
    else:
        eventually("service again", lambda: archive.get("/readyz")[0] == 200, 60)
    old = chance.sample(list(kept.instances.values()), min(SAMPLE, len(kept.instances)))
    check_found(archive, [*new.values(), *old])
    # Not every old instance each time: this round's, and a sample of the others.
    check_retrieved(archive, [*new.values(), *old[:20]])
    with Archive.open(archive.data, read_only=True) as read:
        assert not any(read.index.locate(uid) for uid in kept.deleted)


def test_all_of_it_at_the_end(archive: RunningArchive, kept: Kept) -> None:
    print(
        f"\n{len(kept.instances)} kept, {len(kept.deleted)} deleted, {kept.compactions} compactions begun,"
        f" {kept.compactions_killed} of them killed under way"
    )
    assert archive.stop() == 0, archive.log()
    done = command(archive, "compact", "--dead", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    archive.start()
    check_found(archive, kept.instances.values())
    check_retrieved(archive, kept.instances.values())
    report = Scrub(archive.data, deep=True).run()
    assert report.complete
    assert not report.findings
    with Archive.open(archive.data, read_only=True) as read:
        # What was on its way when a process was killed may be there or not.
        assert read.status()["instances"] >= len(kept.instances)
        assert not any(read.index.locate(uid) for uid in kept.deleted)
