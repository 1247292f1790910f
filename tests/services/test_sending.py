"""What is sent is framed in fragments that every peer takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastarchive.services.reading import batch_from, even
from tests.services.retrieving import instance


@given(st.lists(st.binary(max_size=5)))
def test_fragments_are_of_even_length_whatever_the_blocks_are(pieces: list[bytes]) -> None:
    """DCMTK aborts an association that brings an odd one."""
    whole = b"".join(pieces)
    framed = [bytes(piece) for piece in even(pieces)]
    assert all(piece and len(piece) % 2 == 0 for piece in framed)
    assert b"".join(framed) == whole + b"\0" * (len(whole) % 2)


@given(st.lists(st.sampled_from([1, 10_000, 500_000, 3 << 20, 9 << 20]), max_size=200))
def test_batches_hold_every_instance_in_order_and_no_more_than_their_bytes(lengths: list[int]) -> None:
    instances = [instance(f"1.2.{number}", length=length) for number, length in enumerate(lengths)]
    batches, most, start = [], 1, 0
    while start < len(instances):
        batches.append(batch_from(instances, start, most))
        assert 1 <= len(batches[-1]) <= most
        start, most = start + len(batches[-1]), 2 * most
    assert [one for batch in batches for one in batch] == instances
    assert all(len(batch) == 1 or sum(one.length for one in batch) <= 4 << 20 for batch in batches)
