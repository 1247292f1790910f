"""Instances read on the event loop lie in memory that is used again, but never while the network still needs it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest

from fastarchive.native.outgoing import Space
from fastarchive.services.context import open_context
from fastarchive.services.reading import ReadAhead
from fastarchive.services.suboperations import Instance
from fastarchive.store.blobs import Blobs
from fastarchive.store.log import Log
from fastarchive.upperlayer import frame_data_set
from tests.services.fakes import CT, EXPLICIT, FakeAssociation, presentation
from tests.store.making import encoded


class Archive:
    """Nothing but the instances."""

    def __init__(self, blobs: Blobs) -> None:
        self.blobs = blobs


def stored(directory: Path, count: int) -> tuple[Blobs, list[Instance], list[bytes]]:
    random = Random(4)
    contents = [random.randbytes(20_000 + 2 * number) for number in range(count)]
    with Log(directory) as log:
        places = [log.append(encoded(number, content)).result(30) for number, content in enumerate(contents)]
    blobs = Blobs(directory)
    blobs.open(places[0])
    instances = [
        Instance(CT, f"1.2.3.{number}", EXPLICIT, len(content), place)
        for number, (content, place) in enumerate(zip(contents, places, strict=True))
    ]
    return blobs, instances, contents


@pytest.mark.parametrize("is_slow", [False, True])
def test_memory_is_used_again_when_the_network_has_taken_what_is_in_it(tmp_path: Path, *, is_slow: bool) -> None:
    blobs, instances, contents = stored(tmp_path, 6)

    async def main() -> tuple[list[int], list[bytes]]:
        carrier = FakeAssociation(contexts={1: replace(presentation(CT), as_scu=True)})
        archive: Any = Archive(blobs)
        peer: Any = carrier
        spaces: list[Space] = []
        messages: list[memoryview] = []
        sent: list[bytes] = []
        with open_context(archive) as context:
            ahead = ReadAhead(context, peer, instances)
            while await ahead.wait():
                prepared = ahead.next()
                assert prepared is not None and prepared[1] is not None
                space = prepared[1].pdus
                assert isinstance(space, Space)
                messages.append(space.message(b"command"))
                ahead.leaves(space, len(messages[-1]))
                spaces.append(space)
                carrier.given += len(messages[-1])
                if not is_slow:
                    carrier.taken = carrier.given
                    sent.append(bytes(messages[-1]))
            ahead.close()
        return [id(space) for space in spaces], sent or list(map(bytes, messages))

    used, sent = asyncio.run(main())
    assert len(set(used)) == (len(instances) if is_slow else 1)
    longest = FakeAssociation().longest_fragment
    assert sent == [b"command" + b"".join(frame_data_set(1, data, longest, last=True)) for data in contents]
