"""Data sets on their way in: what is taken, what is refused, and how it is cut."""

import errno
import itertools
import os
import struct
import subprocess
import sys
import zlib
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from fastarchive.dicom.elements import walk
from fastarchive.dicom.transfer_syntaxes import EXPLICIT_LITTLE as EXPLICIT_LITTLE_ENCODING
from fastarchive.store.blobs import Blobs
from fastarchive.store.disk import Disk
from fastarchive.store.encoding import EncodedRecord, Spool
from fastarchive.store.filters import Filter
from fastarchive.store.intake import HEADER_LIMIT, SPILL, Intake, IntakeError
from fastarchive.store.log import Log
from fastarchive.store.record import Codec, Location
from tests.store.making import CT_IMAGE_STORAGE, EXPLICIT_LITTLE, ct_pixels, ct_slice, element, header, intake

DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
JPEG_2000 = "1.2.840.10008.1.2.4.90"


def _keep(encoded: EncodedRecord, directory: Path) -> Location:
    with Log(directory) as log:
        return log.append(encoded).result(timeout=30)


def test_a_slice_is_scanned_digested_and_cut(tmp_path: Path) -> None:
    data = ct_slice("1.2.3.4.5")
    record = intake(data, tmp_path).finish().record
    assert record.digest == blake3(data).digest()
    assert record.length == len(data)
    assert (record.sop_class, record.sop_instance) == (CT_IMAGE_STORAGE, "1.2.3.4.5")
    assert (record.study, record.series) == ("1.2.3", "1.2.3.1")
    assert (record.calling_ae, record.called_ae) == ("MODALITY", "ARCHIVE")
    head, pixels = record.blocks
    assert head.raw == data.index(b"\xe0\x7f\x10\x00OW") + 12
    assert pixels.raw == 512 * 512 * 2
    assert (pixels.filter, pixels.width, pixels.distance) == (Filter.ROWS, 2, 128)


def test_attributes_are_the_stored_elements_untouched(tmp_path: Path) -> None:
    name = "Müller^Jürgen".encode("latin-1")
    data = element(0x00080005, "CS", b"ISO_IR 100") + header("1.2.9", patient_name=name)
    attributes = intake(data, tmp_path).finish().record.attributes
    values = {found.tag: found.value for found in walk(attributes, EXPLICIT_LITTLE_ENCODING)}
    assert values[0x00100010].rstrip() == name
    assert values[0x00080005] == b"ISO_IR 100"
    assert values[0x00080018] == b"1.2.9\0"
    assert list(values) == sorted(values)


def test_overlong_values_stay_out_of_the_attributes(tmp_path: Path) -> None:
    extra = [element(0x00081030, "LO", b"x" * 5000)]
    record = intake(header(extra=extra), tmp_path).finish().record
    assert 0x00081030 not in {found.tag for found in walk(record.attributes, EXPLICIT_LITTLE_ENCODING)}


@pytest.mark.parametrize(
    ("data", "kind", "tag"),
    [
        (header(sop_class=""), "missing-uid", 0x00080016),
        (header(""), "missing-uid", 0x00080018),
        (header(study=""), "missing-uid", 0x0020000D),
        (header(series=""), "missing-uid", 0x0020000E),
        (header(study=" \0"), "missing-uid", 0x0020000D),
        (header("1.2.*"), "bad-uid", 0x00080018),
        (header("1.2\\1.3"), "bad-uid", 0x00080018),
        (header("1.2\n3"), "bad-uid", 0x00080018),
        (header("1." + "2" * 63), "bad-uid", 0x00080018),
        (b"", "missing-uid", 0x00080016),
        (b"garbage that is no data set at all", "malformed", None),
        (header()[:-3], "malformed", None),
        (header() + b"\x28\x00", "malformed", None),
    ],
)
def test_what_is_refused_and_why(data: bytes, kind: str, tag: int | None, tmp_path: Path) -> None:
    with pytest.raises(IntakeError) as caught:
        intake(data, tmp_path).finish()
    assert caught.value.kind == kind
    assert tag is None or caught.value.tag == tag
    assert 0 < len(caught.value.comment) <= 64
    assert "Doe" not in caught.value.comment


@pytest.mark.parametrize("uid", ["1.2.3\0", "1.2.3 ", "1.02.3", "2.25.1-a", "1" * 64])
def test_uids_of_the_wild_are_taken_stripped(uid: str, tmp_path: Path) -> None:
    assert intake(header(uid), tmp_path).finish().record.sop_instance == uid.strip(" \0")


@pytest.mark.parametrize(("name", "tag"), [("sop_class", 0x00080016), ("sop_instance", 0x00080018)])
def test_a_data_set_that_is_not_the_announced_one_is_refused(name: str, tag: int, tmp_path: Path) -> None:
    item = Intake(transfer_syntax=EXPLICIT_LITTLE, spool_directory=tmp_path, **{name: "1.9.9"})  # type: ignore[arg-type]
    item.write(header())
    with pytest.raises(IntakeError) as caught:
        item.finish()
    assert (caught.value.kind, caught.value.tag) == ("mismatch", tag)


def test_announced_uids_are_compared_without_padding(tmp_path: Path) -> None:
    item = Intake(
        transfer_syntax=EXPLICIT_LITTLE,
        spool_directory=tmp_path,
        sop_class=CT_IMAGE_STORAGE + "\0",
        sop_instance="1.2.3.4 ",
    )
    item.write(memoryview(header()))
    assert item.finish().record.sop_instance == "1.2.3.4"


def test_deflated_data_sets_are_stored_deflated(tmp_path: Path) -> None:
    plain = ct_slice("1.2.3.7")
    compressor = zlib.compressobj(wbits=-15)
    data = compressor.compress(plain) + compressor.flush()
    encoded = intake(data, tmp_path, DEFLATED).finish()
    assert encoded.record.sop_instance == "1.2.3.7"
    assert encoded.record.blocks[0].codec == Codec.RAW
    assert Blobs(tmp_path).open(_keep(encoded, tmp_path)).read() == data


def test_what_cannot_be_inflated_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntakeError) as caught:
        intake(b"\xff" * 100, tmp_path, DEFLATED).finish()
    assert caught.value.kind == "malformed"


def test_a_deflated_bomb_is_inflated_only_as_far_as_the_header_goes(tmp_path: Path) -> None:
    compressor = zlib.compressobj(9, wbits=-15)
    bomb = compressor.compress(header() + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OW", 0, 1 << 30) + bytes(1 << 26))
    record = intake(bomb + compressor.flush(), tmp_path, DEFLATED).finish().record
    assert record.sop_instance == "1.2.3.4"


def test_big_endian_pixels_are_kept_in_their_order(tmp_path: Path) -> None:
    swapped = bytes(memoryview(ct_pixels(64, 64)).cast("H").tobytes()[::-1])
    data = header(rows=64, columns=64, order=">") + element(0x7FE00010, "OW", swapped, ">")
    encoded = intake(data, tmp_path, BIG_ENDIAN).finish()
    assert encoded.record.blocks[1].filter == Filter.PLANES
    assert Blobs(tmp_path).open(_keep(encoded, tmp_path)).read() == data


def test_encapsulated_pixels_are_stored_as_they_are(tmp_path: Path) -> None:
    fragments = struct.pack("<HHL", 0xFFFE, 0xE000, 0) + struct.pack("<HHL", 0xFFFE, 0xE000, 5000) + bytes(5000)
    fragments += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    data = header(rows=64, columns=64) + element(0x7FE00010, "OB", fragments, length=0xFFFFFFFF)
    encoded = intake(data, tmp_path, JPEG_2000).finish()
    assert [block.codec for block in encoded.record.blocks[1:]] == [Codec.RAW]
    assert Blobs(tmp_path).open(_keep(encoded, tmp_path)).read() == data


@pytest.mark.parametrize("trailing", [b"", element(0xFFFCFFFC, "OB", bytes(20)), b"\0"])
@pytest.mark.parametrize("missing", [0, 1, 101])
def test_what_follows_the_pixels_and_what_is_missing_of_them_is_kept(
    trailing: bytes, missing: int, tmp_path: Path
) -> None:
    pixels = element(0x7FE00010, "OW", ct_pixels(16, 17))
    data = header(rows=16, columns=17) + pixels[: len(pixels) - missing] + trailing
    encoded = intake(data, tmp_path).finish()
    assert Blobs(tmp_path).open(_keep(encoded, tmp_path)).read() == data


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=3000), st.integers(1, 700), st.sampled_from([8, 16, 32, 12]), st.integers(0, 40))
def test_any_content_in_any_pieces_comes_back(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, chunk: int, bits: int, columns: int
) -> None:
    directory = tmp_path_factory.mktemp("any")
    data = header(rows=1, columns=columns, bits=bits) + element(0x7FE00010, "OW", content)
    item = intake(data, directory, chunk=chunk)
    assert Blobs(directory).open(_keep(item.finish(), directory)).read() == data


@cache
def _a_slice() -> bytes:
    return ct_slice("1.2.3")


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["whole", "short", "trailing", "noise", "drawing", "8-bit", "encapsulated", "no pixels"]),
    st.lists(st.sampled_from([900, 5000, 16_372, 100_000]), min_size=1, max_size=3),
    st.booleans(),
)
def test_pieces_of_any_sizes_make_the_same_record(
    tmp_path_factory: pytest.TempPathFactory, kind: str, sizes: list[int], drained: bool
) -> None:
    folder = tmp_path_factory.getbasetemp() / "pieces"
    image = _a_slice()
    slice_start = image[: -2 * 512 * 512]
    data = {
        "whole": image,
        "short": image[:-77_777],
        "trailing": image + element(0xFFFCFFFC, "OB", bytes(50_000)),
        "noise": slice_start + os.urandom(2 * 512 * 512),
        "drawing": slice_start + (bytes(1000) + bytes(range(100)) * 20) * 170 + bytes(2 * 512 * 512 - 510_000),
        "8-bit": header("1.2.3") + element(0x7FE00010, "OB", os.urandom(300_000)),
        "encapsulated": header("1.2.3") + b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff" + os.urandom(300_000),
        "no pixels": header("1.2.3", extra=[element(0x00420011, "OB", bytes(300_000))]),
    }[kind]
    with closing(intake(data, folder)) as plain, closing(intake(b"", folder)) as pieces:
        at = 0
        for turn, size in enumerate(itertools.cycle(sizes)):
            if at >= len(data):
                break
            pieces.write(data[at : at + size])
            at += size
            if drained and turn == 12:
                pieces.drain()
            assert pieces.held <= len(data) + 1000
        usual, encoded = plain.finish(), pieces.finish()
        assert b"".join(encoded.content()) == data
        assert encoded.record.digest == blake3(data).digest() == usual.record.digest
        assert encoded.record.attributes == usual.record.attributes
        if kind != "encapsulated" and not drained:
            assert encoded.record.blocks == usual.record.blocks


def test_a_large_object_goes_through_the_spool(tmp_path: Path) -> None:
    frame = ct_pixels()
    frames = 40
    data = header(rows=512, columns=512, extra=[element(0x00280008, "IS", b"40")])
    data += element(0x7FE00010, "OW", frame * frames) + element(0xFFFCFFFC, "OB", bytes(8))
    item = intake(data, tmp_path)
    encoded = item.finish()
    assert encoded.spool is not None
    assert not encoded.buffers
    assert list((tmp_path / "spool").iterdir()) == []
    assert len(encoded.record.blocks) == 1 + frames // 2 + 1
    location = _keep(encoded, tmp_path)
    item.close()
    item.close()
    reader = Blobs(tmp_path).open(location)
    assert reader.header() == data[: len(reader.header())]
    assert len(reader.header()) == data.index(b"\xe0\x7f\x10\x00OW") + 12
    assert blake3(reader.read()).digest() == blake3(data).digest() == encoded.record.digest


@pytest.mark.parametrize("size", [SPILL + 5, 20 << 20])
def test_large_headers_are_taken_too(size: int, tmp_path: Path) -> None:
    data = header() + element(0x00420011, "OB", os.urandom(1024) * (size // 1024))
    encoded = intake(data, tmp_path).finish()
    assert Blobs(tmp_path).open(_keep(encoded, tmp_path)).read() == data


def test_a_large_object_without_uids_is_refused(tmp_path: Path) -> None:
    data = header(study="") + element(0x00420011, "OB", bytes(20 << 20))
    item = intake(data, tmp_path)
    with pytest.raises(IntakeError):
        item.finish()
    item.close()


_BIG = """
import resource, sys
from pathlib import Path
from fastarchive.store.blobs import Blobs
from fastarchive.store.intake import HEADER_LIMIT, SPILL, Intake
from fastarchive.store.log import Log
from tests.store.making import ct_pixels, header
directory = Path(sys.argv[1])
frame = ct_pixels()
with Log(directory) as log:
    def take(frames):
        item = Intake(transfer_syntax="1.2.840.10008.1.2.1", spool_directory=directory / "spool")
        item.write(header(rows=512, columns=512))
        item.write(bytes.fromhex("e07f10004f570000") + (len(frame) * frames).to_bytes(4, "little"))
        for _ in range(frames):
            for start in range(0, len(frame), 1 << 16):
                item.write(frame[start : start + (1 << 16)])
            if item.pending >= SPILL:
                item.drain()
        location = log.append(item.finish()).result()
        item.close()
        return location
    take(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    location = take(600)
    total = sum(len(chunk) for chunk in Blobs(directory).open(location).chunks())
    assert total > 300_000_000
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_300_megabyte_object_takes_little_memory(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", _BIG, str(tmp_path)], cwd=root, capture_output=True, text=True, check=True, timeout=60
    )
    assert int(result.stdout) < 64 * 1024


def test_a_spool_leaves_the_reserve_free_and_room_for_the_copy_into_the_pack(tmp_path: Path) -> None:
    class Filling(Disk):
        left = 40 << 20

        def free(self, fd: int) -> int:
            return self.left - os.fstat(fd).st_size

    spool = Spool(tmp_path, Filling(), reserve=10 << 20)
    with pytest.raises(OSError, match="reserve") as failure:
        while True:
            spool.append((bytes(1 << 20),))
    assert failure.value.errno == errno.ENOSPC
    assert spool.length == 15 << 20  # as much again goes into the pack
    spool.close()


@pytest.mark.parametrize("transfer_syntax", [EXPLICIT_LITTLE, DEFLATED])
def test_with_more_than_16_MiB_before_the_pixels_it_is_taken_in_bounded_memory(
    tmp_path: Path, transfer_syntax: str
) -> None:
    deflated = transfer_syntax == DEFLATED
    private = element(0x00091010, "OB", os.urandom(1 << 20) * 20)
    data = header("1.2.3.4.5") + private + element(0x7FE00010, "OW", ct_pixels())
    if deflated:
        compressor = zlib.compressobj(1, wbits=-zlib.MAX_WBITS)
        data = compressor.compress(data) + compressor.flush()
    taken = Intake(transfer_syntax=transfer_syntax, spool_directory=tmp_path / "spool")
    most = 0
    for start in range(0, len(data), 1 << 18):
        taken.write(data[start : start + (1 << 18)])
        if taken.pending >= SPILL:
            taken.drain()
        most = max(most, taken.held)
    assert most <= HEADER_LIMIT + SPILL  # in steps of SPILL until it is clear that the header is longer
    encoded = taken.finish()
    location = _keep(encoded, tmp_path)
    assert b"".join(Blobs(tmp_path).open(location).chunks()) == data
    assert encoded.record.sop_instance == "1.2.3.4.5"
    taken.close()


def test_a_deflated_header_of_more_than_16_MiB_that_is_small_deflated_is_taken(tmp_path: Path) -> None:
    compressor = zlib.compressobj(9, wbits=-zlib.MAX_WBITS)
    data = compressor.compress(header("1.2.3.4.5") + element(0x00091010, "OB", bytes(20 << 20))) + compressor.flush()
    assert intake(data, tmp_path, transfer_syntax=DEFLATED).finish().record.sop_instance == "1.2.3.4.5"
