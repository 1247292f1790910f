"""What was certainly never seen: a Bloom filter over strings, for one process."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np

_BITS_EACH: Final = 16
_LEAST_BITS: Final = 1 << 16


class Sieve:
    """Of what it wasn't given it takes one in two hundred for seen, as long as that is at most `expected` strings."""

    __slots__ = ("_bits", "_mask")

    def __init__(self, expected: int) -> None:
        bits = max(_LEAST_BITS, 1 << (expected * _BITS_EACH - 1).bit_length())
        self._mask = bits - 1
        self._bits = bytearray(bits >> 3)

    def update(self, texts: Iterable[str]) -> None:
        """Remember strings; many at once are cheaper."""
        numbers = np.fromiter(map(hash, texts), np.int64)
        places = np.concatenate([numbers >> shift & self._mask for shift in (0, 17, 34)])
        bits = np.frombuffer(self._bits, np.uint8)
        np.bitwise_or.at(bits, places >> 3, (1 << (places & 7)).astype(np.uint8))

    def __contains__(self, text: str) -> bool:
        """False is certain."""
        number = hash(text)
        bits, mask = self._bits, self._mask
        place = number & mask
        if not bits[place >> 3] >> (place & 7) & 1:
            return False
        place = number >> 17 & mask
        if not bits[place >> 3] >> (place & 7) & 1:
            return False
        place = number >> 34 & mask
        return bool(bits[place >> 3] >> (place & 7) & 1)
