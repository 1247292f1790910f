"""What is sent is framed in fragments that every peer takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from fastarchive.services.sending import even


@given(st.lists(st.binary(max_size=5)))
def test_fragments_are_of_even_length_whatever_the_blocks_are(pieces: list[bytes]) -> None:
    """DCMTK aborts an association that brings an odd one."""
    whole = b"".join(pieces)
    framed = [bytes(piece) for piece in even(pieces)]
    assert all(piece and len(piece) % 2 == 0 for piece in framed)
    assert b"".join(framed) == whole + b"\0" * (len(whole) % 2)
