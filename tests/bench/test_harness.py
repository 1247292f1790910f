"""The parts of the harness that compute: logs and reports of dcmsend, /proc, tables, questions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pynetdicom.pdu import A_ASSOCIATE_RQ

from bench.__main__ import SCENARIOS, parser
from bench.ingest import Outcome, summary_table
from bench.loads import make_load
from bench.memory import memory_bytes
from bench.meter import Meter
from bench.modality import Scanner
from bench.peers import Elsewhere, image_query, sop_instance_in
from bench.pinning import pinned
from bench.process import parse_stat, percentile, processor_seconds, tree
from bench.questions import Catalogue, folded, identifier, unique_key
from bench.report import figure, ratio, table
from bench.requestor import Context, decode_accept, decode_command, encode_associate, encode_command
from bench.senders import MissingTool, Sent, parse_log, parse_report, parse_storescu_log, timed, tool
from bench.syncs import Syncs, syncs_in

LOG = """\
1795353520.028.727 Requesting Association
1795353520.030.424 Sending C-STORE Request (MsgID 1, CT)
1795353520.074.165 Received C-STORE Response (Success)
1795353520.074.567 Sending C-STORE Request (MsgID 2, CT)
1795353521.118.282 Received C-STORE Response (Refused: OutOfResources)
1795353521.200.000 Sending C-STORE Request (MsgID 3, CT)
"""

REPORT = """\
Communication Peer : 127.0.0.1:21040
Number        : 1
Filename      : /data/a : b.dcm
SOP Instance  : 1.2.3.1
DIMSE Status  : 0x0000 (Success)

Number        : 2
Filename      : /data/2.dcm
SOP Instance  : 1.2.3.2
DIMSE Status  : 0xa700 (Refused: OutOfResources)

Number        : 3
Filename      : /data/3.dcm
SOP Instance  : 1.2.3.3
DIMSE Status  : <not sent>
"""


def test_dcmsend_log_and_report_say_what_was_answered_and_when() -> None:
    first, second, third = timed(parse_report(REPORT), parse_log(LOG))
    assert (first.path, first.sop_instance, first.acknowledged) == ("/data/a : b.dcm", "1.2.3.1", True)
    assert first.end - first.start == pytest.approx(0.043741, abs=1e-5)
    assert (second.status, second.acknowledged) == (0xA700, False)
    assert second.end - second.start == pytest.approx(1.043715, abs=1e-5)
    assert third == Sent("/data/3.dcm", "1.2.3.3", None)


def test_the_log_of_storescu_says_what_was_answered_and_when(tmp_path: Path) -> None:
    (instance,) = Scanner(1, small=True).instances(1)
    file = tmp_path / "a b.dcm"
    file.write_bytes(instance.file())
    answers = ("Success", "Refused: OutOfResources", "Unknown Status: 0x0122", "Failure")
    log = "".join(
        f"1795366088.22{number}.457 Sending file: {file}\n"
        f"1795366088.22{number}.977 Sending Store Request (MsgID {number}, CT)\n"
        f"1795366088.31{number}.977 Received Store Response ({answer})\n"
        for number, answer in enumerate(answers)
    )
    sent = parse_storescu_log(log + f"1795366088.400.000 Sending file: {file}\nno time stamp\n")
    assert [one.status for one in sent] == [0x0000, 0xA700, 0x0122, 0xC000, None]
    assert {(one.path, one.sop_instance) for one in sent} == {(str(file), instance.sop_instance)}
    assert [one.end - one.start for one in sent] == pytest.approx([0.09] * 4 + [0.0], abs=1e-5)


def test_sync_calls_are_counted_in_what_strace_writes() -> None:
    trace = (
        '100 openat(AT_FDCWD, "a", O_RDWR|O_CREAT|O_DSYNC, 0644) = 3\n'
        '100 openat(AT_FDCWD, "O_RDONLY", O_RDONLY) = 4\n'
        "101 fdatasync(3 <unfinished ...>\n"
        "100 fsync(4)                          = 0\n"
        "101 <... fdatasync resumed>)          = 0\n"
        "101 fdatasync(3)                      = 0\n"
        "+++ exited with 0 +++\n"
    )
    assert syncs_in(trace) == ({"fdatasync": 2, "fsync": 1}, 1)
    assert str(Syncs(2, {"fsync": 3}, 0)) == "3 fsync for 2 instances"
    assert Syncs(2, {"fsync": 3}, 0).per_instance == 1.5
    assert str(Syncs(2, {}, 1)) == "no sync call, 1 files opened for synchronous writing for 2 instances"


def test_a_server_can_be_kept_on_fewer_cores() -> None:
    cores = len(os.sched_getaffinity(0))
    done = subprocess.run(
        [*pinned(1), sys.executable, "-c", "import os; print(len(os.sched_getaffinity(0)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"
    with pytest.raises(RuntimeError, match=f"may use {cores}"):
        pinned(cores + 1)


def test_a_missing_program_names_its_package() -> None:
    with pytest.raises(MissingTool, match=r"nosuchtool.*package dcmtk"):
        tool("nosuchtool")


def test_programs_of_pynetdicom_do_not_pass_for_those_of_dcmtk() -> None:
    assert Path(tool("storescp")).parent != Path(sys.executable).parent


def test_stat_of_a_process_with_a_nasty_name() -> None:
    stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 200 0 0 " + "250 50 100 0 20 0 1 0"
    assert parse_stat(stat) == pytest.approx(400 / os.sysconf("SC_CLK_TCK"))


def test_a_tree_of_processes_is_measured_with_its_children() -> None:
    script = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']);"
        "print(child.pid, flush=True); child.wait()"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        child = int(process.stdout.readline())
        try:
            assert {process.pid, child} <= set(tree(process.pid))
            assert processor_seconds(process.pid) >= 0
            with Meter(process.pid, settle=0) as meter:
                pass
            assert meter.peak_memory > 0
            assert memory_bytes(process.pid) > 1_000_000
        finally:
            os.kill(child, 9)


def test_percentiles() -> None:
    values = list(range(1, 101))
    assert percentile(values, 0.5) == 50
    assert percentile(values, 0.99) == 99
    assert percentile([7], 0.99) == 7
    assert percentile([], 0.5) == 0


def test_tables_are_markdown() -> None:
    text = table(["name", "n"], [["a", 1234.5], ["bb", None]])
    assert text.splitlines() == ["| name |     n |", "| :--- | ----: |", "| a    | 1,234 |", "| bb   |     – |"]
    assert figure(0.1234) == "0.12"
    assert ratio(400, 100) == "4.00 ×"
    assert ratio(1, 0) == "–"


def test_medians_and_ratios_of_an_ingest() -> None:
    def outcome(peer: str, rate: float) -> Outcome:
        return Outcome(peer, 4, True, 10, 9, 1, 1.0, rate, 2.0, 100.0, 3.0, 4.0)

    text = summary_table(
        [outcome("fastarchive", rate) for rate in (100, 900, 500)] + [outcome("other", 100)], "fastarchive"
    )
    ours, theirs = text.splitlines()[2:]
    assert [cell.strip() for cell in ours.split("|")][4:6] == ["500", ""]
    assert [cell.strip() for cell in theirs.split("|")][5] == "5.00 ×"
    assert [cell.strip() for cell in ours.split("|")][10:12] == ["3", "3"]


def test_a_load_is_dealt_out_whole(tmp_path: Path) -> None:
    load = make_load(tmp_path, 16, 8, small=True, seed=1)
    assert len(load.instances) == 16
    for associations in (1, 4, 8):
        shares = load.shares(associations)
        assert len(shares) == associations
        assert sorted(path for share in shares for path in share) == sorted(load.folders)


def test_requests_are_what_pynetdicom_reads() -> None:
    request = A_ASSOCIATE_RQ()
    contexts = [Context("1.2.840.10008.1.1"), Context("1.2.3", ("1.2.840.10008.1.2", "1.2.4"), scp=True)]
    request.decode(encode_associate(contexts, calling="ME", called="YOU"))
    assert (request.calling_ae_title.strip(), request.called_ae_title.strip()) == ("ME", "YOU")
    assert [context.abstract_syntax for context in request.presentation_context] == ["1.2.840.10008.1.1", "1.2.3"]
    assert request.presentation_context[1].transfer_syntax == ["1.2.840.10008.1.2", "1.2.4"]
    assert request.user_information.maximum_length == 131072
    assert request.user_information.role_selection["1.2.3"].scp_role == 1


def test_accepts_are_read() -> None:
    item = (
        b"\x21\x00\x00\x0a\x03\x00\x00\x00"
        + b"\x40\x00\x00\x02"
        + b"1."
        + b"\x50\x00\x00\x08\x51\x00\x00\x04\x00\x00\x40\x00"
    )
    assert decode_accept(bytes(68) + item) == ({3: (0, "1.")}, 16384)


def test_command_sets_round_trip() -> None:
    command = decode_command(encode_command({0x0100: 0x0020, 0x0002: "1.2.3", 0x0600: "AET"}))
    assert command[0x0100] == b"\x20\x00"
    assert command[0x0002] == b"1.2.3\0"
    assert command[0x0600] == b"AET "


def test_identifiers_are_what_pydicom_reads() -> None:
    query = dcmread(DicomBytesIO(identifier("STUDY", {0x00100010: "*SMI*"})), force=True)
    assert query.QueryRetrieveLevel == "STUDY"
    assert str(query.PatientName) == "*SMI*"
    assert unique_key(image_query("1.2", "1.2.3"), 0x0020000E) == "1.2.3"
    assert sop_instance_in(b"\x08\x00\x18\x00UI\x06\x001.2.3\x00") == "1.2.3"
    assert sop_instance_in(b"") == ""


def test_questions_know_their_answers() -> None:
    instances = list(Scanner(1, small=True).instances(60, per_series=3))
    catalogue = Catalogue(instances)
    assert catalogue.count == 60
    questions = catalogue.questions(8, seed=2)
    for asked in questions.values():
        assert all(question.expected is not None for question in asked)
    assert all(len(question.expected) == 1 for question in questions["StudyInstanceUID"])
    assert all(len(question.expected) == 3 for question in questions["images of a series"])
    assert all(len(question.expected) == 2 for question in questions["series of a study"])
    assert questions["all studies"][0].expected == frozenset(catalogue.studies)
    assert folded("Müller^ZOË") == "muller^zoe"


def test_addresses_of_servers_elsewhere() -> None:
    peer = Elsewhere("PACS@example.org:104")
    assert (peer.label, peer.host, peer.dicom_port, peer.pid) == ("PACS@example.org:104", "example.org", 104, None)
    for wrong in ("PACS", "@h:1", "P@h", "P@h:x"):
        with pytest.raises(ValueError, match="is not AET@HOST:PORT"):
            Elsewhere(wrong)


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
def test_every_scenario_has_help(scenario: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parser(scenario).parse_args([scenario, "--help"])
    assert ended.value.code == 0
    assert "--seed" in capsys.readouterr().out
