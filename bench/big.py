"""Very large objects through an archive and back: what they cost in memory, and whether every byte returns.

Multi-frame objects are made and consumed as a stream, so that the client holds no more than a few frames, whatever
their size. Each object is stored with C-STORE, all of them at once, and fetched back with C-GET; the digest of what
returns is compared with the digest of what was sent. The memory of every process is sampled all the while.
"""

from __future__ import annotations

import argparse
import struct
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from bench.anatomy import Noise, grey_image
from bench.encoding import EXPLICIT_LITTLE, element, file_meta
from bench.memory import footprint
from bench.peers import Fastarchive, Peer
from bench.process import processor_seconds, tree
from bench.report import progress, table, write_json
from bench.requestor import (
    C_STORE,
    PENDING,
    STUDY_ROOT_GET,
    Context,
    RequestError,
    Requestor,
    Response,
    decode_command,
    encode_command,
)
from bench.sampling import Sampling

MULTI_FRAME_GRAYSCALE_WORD = "1.2.840.10008.5.1.4.1.1.7.3"
"""Multi-frame Grayscale Word Secondary Capture Image Storage."""
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
ROWS = COLUMNS = 512
FRAME = ROWS * COLUMNS * 2
LONGEST_EXPLICIT = 0xFFFFFFFE
"""The longest value with a length of its own (PS3.5 7.1.1): even, and not the undefined length."""
DISTINCT_FRAMES = 16
SETTLED = 12.0
"""Seconds after which a server has had the time to give memory back."""


@dataclass(frozen=True, slots=True)
class BigObject:
    """A multi-frame object that is never whole in memory. Its bytes are the same each time they are asked for."""

    number: int
    size: int
    """Bytes of pixel data wanted; made a whole number of frames."""
    encapsulated: bool = False
    """Undefined length, one fragment a frame (PS3.5 A.4): the way beyond 4 GiB."""

    @property
    def frames(self) -> int:
        """Frames of 512 KiB it has."""
        most = self.size if self.encapsulated else min(self.size, LONGEST_EXPLICIT)
        return max(1, most // FRAME)

    @property
    def study(self) -> str:
        """Study Instance UID."""
        return f"2.25.4700000000{self.number}"

    @property
    def sop_instance(self) -> str:
        """SOP Instance UID."""
        return f"{self.study}.1.1"

    @property
    def transfer_syntax(self) -> str:
        """What the data set is encoded in."""
        return JPEG_LOSSLESS if self.encapsulated else EXPLICIT_LITTLE

    def header(self) -> bytes:
        """The data set up to Pixel Data's value."""
        rows: list[tuple[int, str, str | int]] = [
            (0x00080016, "UI", MULTI_FRAME_GRAYSCALE_WORD),
            (0x00080018, "UI", self.sop_instance),
            (0x00080020, "DA", "20240131"),
            (0x00080030, "TM", "101500"),
            (0x00080050, "SH", f"BIG{self.number}"),
            (0x00080060, "CS", "OT"),
            (0x00100010, "PN", "Large^Louis"),
            (0x00100020, "LO", f"BIG{self.number}"),
            (0x0020000D, "UI", self.study),
            (0x0020000E, "UI", f"{self.study}.1"),
            (0x00200010, "SH", "1"),
            (0x00200011, "IS", 1),
            (0x00200013, "IS", 1),
            (0x00280002, "US", 1),
            (0x00280004, "CS", "MONOCHROME2"),
            (0x00280008, "IS", self.frames),
            (0x00280010, "US", ROWS),
            (0x00280011, "US", COLUMNS),
            (0x00280100, "US", 16),
            (0x00280101, "US", 12),
            (0x00280102, "US", 11),
            (0x00280103, "US", 0),
        ]
        start = b"".join(element(tag, vr, value) for tag, vr, value in rows)
        if self.encapsulated:
            empty_offset_table = struct.pack("<HHL", 0xFFFE, 0xE000, 0)
            return start + struct.pack("<HH2sxxL", 0x7FE0, 0x0010, b"OB", 0xFFFFFFFF) + empty_offset_table
        return start + struct.pack("<HH2sxxL", 0x7FE0, 0x0010, b"OW", self.frames * FRAME)

    def pieces(self, images: list[bytes]) -> Iterator[bytes]:
        """The data set; `images` are the frames it is made of, each marked with its number."""
        yield self.header()
        for number in range(self.frames):
            if self.encapsulated:
                yield struct.pack("<HHL", 0xFFFE, 0xE000, FRAME)
            image = images[(number + self.number) % len(images)]
            yield struct.pack("<LL", self.number, number)
            yield image[8:]
        if self.encapsulated:
            yield struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)

    def write(self, path: Path, images: list[bytes]) -> None:
        """As a DICOM file."""
        with path.open("wb") as file:
            file.write(file_meta(MULTI_FRAME_GRAYSCALE_WORD, self.sop_instance, self.transfer_syntax))
            file.writelines(self.pieces(images))


def make_images(seed: int) -> list[bytes]:
    """Frames as a scanner has them: 12 bits of anatomy and noise."""
    noise = Noise.seeded(seed)
    return [
        grey_image(noise, ROWS, COLUMNS, position=number, number=number * 977).astype("<u2", copy=False).tobytes()
        for number in range(DISTINCT_FRAMES)
    ]


class Server(Protocol):
    """Where to find an archive."""

    host: str
    ae_title: str

    @property
    def dicom_port(self) -> int:
        """Its DICOM port."""


class StreamingRequestor(Requestor):
    """Sends data sets out of an iterator and receives them piece by piece."""

    def store_pieces(
        self, sop_class: str, sop_instance: str, transfer_syntax: str, pieces: Iterator[bytes]
    ) -> Response:
        """C-STORE of a data set whose bytes come one piece after another."""
        context = self.context_of(sop_class, transfer_syntax)
        command: dict[int, int | str] = {0x0002: sop_class, 0x0100: C_STORE, 0x0700: 0, 0x1000: sop_instance}
        self._message_id = self._message_id % 0xFFFF + 1
        self._send(context, encode_command({0x0110: self._message_id, 0x0800: 1, **command}))
        pending = b""
        for piece in pieces:
            self._send_fragments(context, pending, last=False)
            pending = piece
        self._send_fragments(context, pending, last=True)
        return self._response()[0]

    def _send_fragments(self, context: int, data: bytes, *, last: bool) -> None:
        view = memoryview(data)
        for offset in range(0, len(view), self._fragment):
            piece = view[offset : offset + self._fragment]
            control = 2 if last and offset + len(piece) == len(view) else 0
            self._socket.sendall(struct.pack(">BxLLBB", 4, len(piece) + 6, len(piece) + 2, context, control))
            self._socket.sendall(piece)

    def get_digests(self, model: str, identifier: bytes) -> tuple[Response, dict[str, bytes]]:
        """C-GET; the final response and the digest of each data set by SOP Instance UID."""
        self._request(self.context_of(model), {0x0002: model, 0x0100: 0x0010, 0x0700: 0}, identifier)
        digests: dict[str, bytes] = {}
        while True:
            context, command = self._command()
            if struct.unpack("<H", command[0x0100])[0] != C_STORE:
                status = struct.unpack("<H", command[0x0900])[0]
                if command[0x0800] != b"\x01\x01":
                    self._digest_of_data_set()  # the list of what failed
                if status not in PENDING:
                    return Response(status, command.get(0x0902, b"").decode("ascii", "replace"), command), digests
                continue
            sop_instance = command[0x1000].decode("ascii").rstrip("\0 ")
            digests[sop_instance] = self._digest_of_data_set()
            answer: dict[int, int | str] = {
                0x0002: command[0x0002].decode("ascii").rstrip("\0 "),
                0x0100: 0x8001,
                0x0120: struct.unpack("<H", command[0x0110])[0],
                0x0800: 0x0101,
                0x0900: 0,
                0x1000: sop_instance,
            }
            self._send(context, encode_command(answer))

    def _command(self) -> tuple[int, dict[int, bytes]]:
        parts = []
        while True:
            context, control, fragment = self._fragment_received()
            if not control & 1:
                raise RequestError("data where a command was due")
            parts.append(fragment)
            if control & 2:
                return context, decode_command(b"".join(parts))

    def _digest_of_data_set(self) -> bytes:
        hasher = blake2b(digest_size=32)
        while True:
            _, control, fragment = self._fragment_received()
            hasher.update(fragment)
            if control & 2:
                return hasher.digest()


class ProcessMemory:
    """The memory of every process of a tree while a `with` block runs: idle before, and the peak."""

    def __init__(self, root: int, interval: float = 0.05) -> None:
        self._root = root
        self._sampling = Sampling(self._look, interval)
        self.idle: dict[int, int] = {}
        self.peak: dict[int, int] = {}

    def __enter__(self) -> Self:
        self.idle = self.now()
        self.peak = dict(self.idle)
        self._sampling.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sampling.stop()

    def now(self) -> dict[int, int]:
        """{process id: proportional set size in bytes}."""
        found = {pid: footprint((pid,)).size for pid in tree(self._root)}
        return {pid: size for pid, size in found.items() if size}

    def _look(self) -> None:
        for pid, size in self.now().items():
            self.peak[pid] = max(self.peak.get(pid, 0), size)

    def growth(self) -> list[float]:
        """How much each process grew at most, MiB, the largest first."""
        return sorted(((size - self.idle.get(pid, 0)) / 2**20 for pid, size in self.peak.items()), reverse=True)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of the run."""

    what: str
    objects: int
    gigabytes: float
    seconds: float
    processor_seconds: float
    growth_mb: list[float]
    """Growth of the processes, the largest first."""
    after_mb: float
    """What the tree holds afterwards, above idle."""
    right: int
    """Objects acknowledged, or returned with the right digest."""


def store_all(peer: Server, objects: list[BigObject], images: list[bytes]) -> dict[str, bytes]:
    """Send all at once, one association each; {SOP Instance UID: digest} of those acknowledged with 0000."""

    def send(one: BigObject) -> tuple[str, bytes, Response]:
        hasher = blake2b(digest_size=32)

        def hashed() -> Iterator[bytes]:
            for piece in one.pieces(images):
                hasher.update(piece)
                yield piece

        context = Context(MULTI_FRAME_GRAYSCALE_WORD, (one.transfer_syntax,))
        with StreamingRequestor(peer.host, peer.dicom_port, (context,), called=peer.ae_title, timeout=900) as client:
            answer = client.store_pieces(MULTI_FRAME_GRAYSCALE_WORD, one.sop_instance, one.transfer_syntax, hashed())
        return one.sop_instance, hasher.digest(), answer

    with ThreadPoolExecutor(len(objects)) as pool:
        answers = list(pool.map(send, objects))
    for sop_instance, _, answer in answers:
        if answer.status:
            progress(f"{sop_instance}: {answer.status:04X} {answer.comment}")
    return {sop_instance: digest for sop_instance, digest, answer in answers if answer.status == 0}


def fetch_all(peer: Server, objects: list[BigObject]) -> dict[str, bytes]:
    """Fetch all at once with C-GET; {SOP Instance UID: digest}."""

    def fetch(one: BigObject) -> dict[str, bytes]:
        contexts = (
            Context(STUDY_ROOT_GET),
            Context(MULTI_FRAME_GRAYSCALE_WORD, (one.transfer_syntax,), scp=True),
        )
        with StreamingRequestor(peer.host, peer.dicom_port, contexts, called=peer.ae_title, timeout=900) as client:
            keys = element(0x00080052, "CS", "STUDY") + element(0x0020000D, "UI", one.study)
            return client.get_digests(STUDY_ROOT_GET, keys)[1]

    with ThreadPoolExecutor(len(objects)) as pool:
        return {name: digest for found in pool.map(fetch, objects) for name, digest in found.items()}


def measure(peer: Peer, objects: list[BigObject], images: list[bytes]) -> list[Step]:
    """Store and fetch back; two steps."""
    assert peer.pid is not None
    size = sum(one.frames for one in objects) * FRAME / 1e9
    steps = []
    digests: dict[str, bytes] = {}
    for what in ("C-STORE", "C-GET"):
        before, started = processor_seconds(peer.pid), time.perf_counter()
        with ProcessMemory(peer.pid) as memory:
            if what == "C-STORE":
                digests = store_all(peer, objects, images)
                right = len(digests)
            else:
                returned = fetch_all(peer, objects)
                right = sum(returned.get(name) == digest for name, digest in digests.items())
        seconds, cost = time.perf_counter() - started, processor_seconds(peer.pid) - before
        time.sleep(SETTLED)
        after = (sum(memory.now().values()) - sum(memory.idle.values())) / 2**20
        steps.append(Step(what, len(objects), size, seconds, cost, memory.growth(), after, right))
        progress(f"{what}: {right} of {len(objects)} in {seconds:.0f} s, grew by {memory.growth()[0]:.0f} MiB at most")
    return steps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m bench big`."""
    parser.add_argument("--objects", type=int, default=1, help="how many at once")
    parser.add_argument("--size", type=float, default=4.295, help="pixel data of each, GB (10^9 bytes)")
    parser.add_argument("--encapsulated", action="store_true", help="undefined length, as beyond 4.29 GB")
    parser.add_argument("--workers", type=int, help="worker processes (default: as the archive decides)")
    parser.add_argument("--keep-warm", action="store_true", help="one small object first, so that idle means warm")


def run(options: argparse.Namespace) -> int:
    """Measure and print; 1 when an object was not acknowledged or came back different."""
    images = make_images(options.seed)
    objects = [
        BigObject(number, int(options.size * 1e9), options.encapsulated) for number in range(1, options.objects + 1)
    ]
    with (
        tempfile.TemporaryDirectory(prefix="bench-big-", dir=options.directory) as place,
        Fastarchive(Path(place) / "data", workers=options.workers) as peer,
    ):
        if options.keep_warm:
            warm = [replace(one, number=one.number + 1000, size=FRAME) for one in objects]
            store_all(peer, warm, images)
            fetch_all(peer, warm)
        time.sleep(2)
        steps = measure(peer, objects, images)
    rows: list[list[object]] = [
        [
            step.what,
            f"{step.right}/{step.objects}",
            step.gigabytes,
            step.seconds,
            step.gigabytes * 1000 / step.seconds,
            step.processor_seconds,
            " ".join(f"{growth:.0f}" for growth in step.growth_mb),
            step.after_mb,
        ]
        for step in steps
    ]
    header = ["step", "right", "GB", "seconds", "MB/s", "CPU s", "growth of the processes, MiB", "kept, MiB"]
    print(table(header, rows))
    if options.json:
        plain: dict[str, Any] = {name: value for name, value in vars(options).items() if not callable(value)}
        write_json(options.json, "big", plain, [asdict(step) for step in steps])
    return 1 if any(step.right != step.objects for step in steps) else 0
