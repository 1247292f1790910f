"""Garbage on the DICOM port: the connection ends, a line is logged, and everybody else is served as before."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.encoding import element
from bench.requestor import (
    C_STORE,
    STUDY_ROOT_FIND,
    VERIFICATION,
    Context,
    RequestError,
    encode_associate,
    encode_command,
)
from tests.peers import dcmtk
from tests.peers.conftest import associate
from tests.server.harness import RunningArchive

CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningArchive]:
    """One worker, so that a crash would be seen by the next connection; short timers, so that silence ends soon."""
    folder = tmp_path_factory.mktemp("hostile") / "data"
    options = {"artim_seconds": 0.5, "acse_seconds": 0.5, "dimse_seconds": 0.5}
    with RunningArchive(folder, workers=1, **options) as running:  # type: ignore[arg-type] # settings of several types
        workers = running.processes("worker")
        yield running
        assert running.processes("worker") == workers, "a worker died:\n" + running.log()
        assert "Traceback" not in running.log()


def talk(archive: RunningArchive, *pieces: bytes, timeout: float = 10.0) -> bytes:
    """Send bytes and read until the archive closes; what it sent. Fails if it never closes."""
    received = b""
    with socket.create_connection((archive.host, archive.dicom_port), timeout) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            while chunk := connection.recv(65536):
                received += chunk
        except (ConnectionResetError, BrokenPipeError):
            return received
    return received


def ask_whether_alive(archive: RunningArchive) -> None:
    with associate(archive, Context(VERIFICATION)) as association:
        assert association.echo().status == 0


def pdu(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxL", kind, len(body)) + body


def value(context: int, control: int, body: bytes) -> bytes:
    return struct.pack(">LBB", len(body) + 2, context, control) + body


ASSOCIATE = encode_associate([Context(VERIFICATION), Context(CT), Context(STUDY_ROOT_FIND)])
GREETED = b"\x02"
ABORTED = b"\x07\x00\x00\x00\x00\x04\x00\x00\x02"

FIRST_WORDS = {
    "nothing": b"",
    "http": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "tls": bytes.fromhex("16030100dc010000d803034f") + bytes(200),
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "half a header": b"\x01\x00\x00",
    "a huge associate": struct.pack(">BxL", 1, 0xFFFFFFFF) + bytes(1000),
    "an empty associate": pdu(1, b""),
    "a truncated associate": ASSOCIATE[:80],
    "an associate cut in its items": pdu(1, ASSOCIATE[6:150]),
    "data before the association": pdu(4, value(1, 3, b"")),
    "a release before the association": pdu(5, bytes(4)),
    "an accept from a requestor": pdu(2, ASSOCIATE[6:]),
    "an unknown PDU": pdu(0x55, b"hello"),
}


@pytest.mark.parametrize("words", list(FIRST_WORDS.values()), ids=list(FIRST_WORDS))
def test_first_words(archive: RunningArchive, words: bytes) -> None:
    talk(archive, words)
    ask_whether_alive(archive)


COMMAND = encode_command({0x0002: CT, 0x0100: C_STORE, 0x0110: 1, 0x0700: 0, 0x0800: 1, 0x1000: "1.2.3"})

WORDS_AFTER = {
    "a second associate": ASSOCIATE,
    "an unknown PDU": pdu(0x99, b""),
    "a huge PDU": struct.pack(">BxL", 4, 0xFFFFFFF0) + bytes(100_000),
    "a value longer than its PDU": pdu(4, struct.pack(">LBB", 1000, 1, 3) + b"x"),
    "a value of length 0": pdu(4, struct.pack(">LBB", 0, 1, 3)),
    "a value of length 1": pdu(4, struct.pack(">LBB", 1, 1, 3)),
    "an unknown context": pdu(4, value(99, 3, COMMAND)),
    "an even context": pdu(4, value(2, 3, COMMAND)),
    "a command of garbage": pdu(4, value(3, 3, b"\xff" * 64)),
    "an empty command": pdu(4, value(3, 3, b"")),
    "a command without its end, then silence": pdu(4, value(3, 1, COMMAND)),
    "data without a command": pdu(4, value(3, 2, b"\x08\x00\x05\x00CS\x00\x00")),
    "a data set that never ends": pdu(4, value(3, 3, COMMAND)) + pdu(4, value(3, 0, bytes(1000))),
    "two commands at once": pdu(4, value(3, 3, COMMAND) + value(3, 3, COMMAND)),
    "a command with a huge element": pdu(4, value(3, 3, struct.pack("<HHL", 0, 0x0100, 0xFFFFFFFF) + b"ab")),
}


@pytest.mark.parametrize("words", list(WORDS_AFTER.values()), ids=list(WORDS_AFTER))
def test_words_on_an_association(archive: RunningArchive, words: bytes) -> None:
    said = talk(archive, ASSOCIATE, words)
    assert said[:1] == GREETED
    ask_whether_alive(archive)


@pytest.mark.parametrize("words", ["an unknown PDU", "a second associate", "a value longer than its PDU"])
def test_protocol_errors_are_answered_by_an_abort_of_the_provider(archive: RunningArchive, words: str) -> None:
    said = talk(archive, ASSOCIATE, WORDS_AFTER[words])
    assert ABORTED in said


BAD_DATA_SETS = {
    "empty": b"",
    "zeros": bytes(100),
    "ones": b"\xff" * 100,
    "text": b"This is not DICOM at all, it is a letter to the archive. " * 20,
    "a truncated header": element(0x00080016, "UI", CT) + b"\x08\x00\x18",
    "an element beyond the end": element(0x00080016, "UI", CT) + b"\x08\x00\x18\x00UI\xff\xff1.2",
    "a value of 4 GB": b"\x08\x00\x05\x00UN\x00\x00\xfe\xff\xff\xff" + bytes(50),
    "an item outside a sequence": struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + bytes(20),
    "a sequence in a sequence, 5000 deep": b"".join(
        b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" for _ in range(5000)
    ),
    "no UIDs": element(0x00100010, "PN", "A^B"),
    "UIDs of garbage": element(0x00080016, "UI", b"\xff\xfe\x00\x01")
    + element(0x00080018, "UI", b"'; DROP TABLE")
    + element(0x0020000D, "UI", b"../../etc/passwd")
    + element(0x0020000E, "UI", b"\0\0\0\0"),
}


@pytest.mark.parametrize("data_set", list(BAD_DATA_SETS.values()), ids=list(BAD_DATA_SETS))
def test_bad_data_sets_get_a_status(archive: RunningArchive, data_set: bytes) -> None:
    with associate(archive, Context(CT), Context(VERIFICATION)) as association:
        answer = association.store(CT, "1.2.3.4", "1.2.840.10008.1.2.1", data_set)
        assert answer.status >> 8 in {0xA9, 0xC0}, hex(answer.status)
        assert answer.comment
        assert association.echo().status == 0


BAD_IDENTIFIERS = {
    "empty": b"",
    "garbage": b"\xff" * 40,
    "no level": element(0x00100010, "PN", "A*"),
    "an unknown level": element(0x00080052, "CS", "HOSPITAL"),
    "a level of another model": element(0x00080052, "CS", "PATIENT"),
    "truncated": element(0x00080052, "CS", "STUDY") + b"\x10\x00\x10\x00PN\x40\x00A",
    "a date that is none": element(0x00080020, "DA", b"not a date") + element(0x00080052, "CS", "STUDY"),
}


@pytest.mark.parametrize("identifier", list(BAD_IDENTIFIERS.values()), ids=list(BAD_IDENTIFIERS))
def test_bad_identifiers_get_a_status(archive: RunningArchive, identifier: bytes) -> None:
    with associate(archive, Context(STUDY_ROOT_FIND), Context(VERIFICATION)) as association:
        answers = association.find(STUDY_ROOT_FIND, identifier)
        assert answers.response.status >> 8 in {0xA9, 0xC0}, hex(answers.response.status)
        assert not answers.identifiers
        assert association.echo().status == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(min_size=1, max_size=200), start=st.integers(0, 2))
def test_noise(archive: RunningArchive, noise: bytes, start: int) -> None:
    """Random bytes at the start, after the association, and inside a message; the peer closes after them."""
    before = [b"", ASSOCIATE, ASSOCIATE + pdu(4, value(3, 3, COMMAND))][start]
    with socket.create_connection((archive.host, archive.dicom_port), 10) as connection:
        connection.sendall(before + noise)
    ask_whether_alive(archive)


def test_flipped_bits_in_an_association(archive: RunningArchive) -> None:
    chance = random.Random(1)
    for _ in range(60):
        request = bytearray(ASSOCIATE)
        request[chance.randrange(len(request))] ^= 1 << chance.randrange(8)
        with socket.create_connection((archive.host, archive.dicom_port), 10) as connection:
            connection.sendall(request)
            connection.shutdown(socket.SHUT_WR)
            try:
                while connection.recv(4096):
                    pass
            except ConnectionResetError:
                continue
    ask_whether_alive(archive)


def test_many_connections_that_say_nothing(archive: RunningArchive) -> None:
    idle = [socket.create_connection((archive.host, archive.dicom_port), 5) for _ in range(100)]
    ask_whether_alive(archive)
    for connection in idle:
        connection.settimeout(10)
        try:
            assert connection.recv(1) == b""
        except ConnectionResetError:
            continue
        finally:
            connection.close()


def test_a_sender_that_breaks_off_leaves_nothing_behind(archive: RunningArchive) -> None:
    for _ in range(5):
        said = b""
        with socket.create_connection((archive.host, archive.dicom_port), 5) as connection:
            connection.sendall(ASSOCIATE)
            said = connection.recv(4096)
            connection.sendall(pdu(4, value(3, 3, COMMAND)) + pdu(4, value(3, 0, bytes(60_000))))
        assert said[:1] == GREETED
    with associate(archive, Context(STUDY_ROOT_FIND)) as association:
        query = element(0x00080052, "CS", "STUDY") + element(0x0020000D, "UI", "")
        assert not association.find(STUDY_ROOT_FIND, query).identifiers
    assert not list((archive.data / "spool").glob("*"))


def test_dcmtk_is_served_after_all_that(archive: RunningArchive) -> None:
    assert dcmtk.run("echoscu", *dcmtk.address(archive)).returncode == 0


def test_an_unknown_sop_class_in_a_message_is_a_status_or_an_abort(archive: RunningArchive) -> None:
    with associate(archive, Context(VERIFICATION)) as association:
        command = encode_command({0x0002: "1.2.3", 0x0100: 0x7777, 0x0110: 1, 0x0800: 0x0101})
        association._send(1, command)
        with contextlib.suppress(RequestError):  # an abort is as good
            assert association._response()[0].status != 0
    ask_whether_alive(archive)
