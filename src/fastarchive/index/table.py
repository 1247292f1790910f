"""The elements of a patient, study or series as bytes of its row, each with the order of the record it came from.

A query takes elements apart for every answer and never asks where they came from; so numbers stand together, read in
one go, before the values, and origins are left alone until they are asked for.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import cache, lru_cache
from itertools import accumulate
from typing import Final

_COUNTS: Final = struct.Struct("<II")  # records, elements
_ORIGIN: Final = struct.Struct("<QQQ")

Origin = tuple[int, int, int]


@cache
def _numbers(count: int) -> struct.Struct:
    return struct.Struct(f"<{count}I")


def encode_table(elements: Mapping[int, bytes], origins: Mapping[int, Origin]) -> bytes:
    """Elements and their origins: counts, distinct origins; tags, ends of values, numbers of origins; values."""
    count = len(elements)
    orders = list(origins.values())
    if orders and orders.count(orders[0]) == len(orders):  # all of one record
        values = list(elements.values())
        return b"".join(
            [
                _COUNTS.pack(1, count),
                _ORIGIN.pack(*orders[0]),
                _numbers(2 * count).pack(*elements, *accumulate(map(len, values))),
                bytes(4 * count),
                *values,
            ]
        )
    numbers = {origin: number for number, origin in enumerate(dict.fromkeys(origins.values()))}
    return b"".join(
        [
            _COUNTS.pack(len(numbers), count),
            *[_ORIGIN.pack(*origin) for origin in numbers],
            _numbers(3 * count).pack(
                *elements, *accumulate(map(len, elements.values())), *[numbers[origins[tag]] for tag in elements]
            ),
            *elements.values(),
        ]
    )


def table_elements(row: bytes, position: int) -> dict[int, bytes]:
    """Tag → value of the table at `position`."""
    records, count = _COUNTS.unpack_from(row, position)
    position += _COUNTS.size + records * _ORIGIN.size
    numbers = _numbers(2 * count).unpack_from(row, position)
    values = row[position + 12 * count :]
    found: dict[int, bytes] = {}
    start = 0
    for tag, end in zip(numbers[:count], numbers[count:], strict=True):
        found[tag] = values[start:end]
        start = end
    return found


def table_values(row: bytes, position: int, wanted: tuple[int, ...]) -> list[bytes]:
    """The values of some tags in the table at `position`, empty where it has none."""
    records, count = _COUNTS.unpack_from(row, position)
    position += _COUNTS.size + records * _ORIGIN.size
    numbers = position + 4 * count
    places = _places(row[position:numbers], wanted)
    starts = (0, *_numbers(count).unpack_from(row, numbers))
    values = position + 12 * count
    return [row[values + starts[at] : values + starts[at + 1]] if at >= 0 else b"" for at in places]


@lru_cache(maxsize=1024)
def _places(tags: bytes, wanted: tuple[int, ...]) -> tuple[int, ...]:
    """Where each wanted tag is among these; -1 where it isn't. Most entities of a level have the same tags."""
    found = {tag: place for place, (tag,) in enumerate(_numbers(1).iter_unpack(tags))}
    return tuple([found.get(tag, -1) for tag in wanted])


def table_origins(row: bytes, position: int) -> dict[int, Origin]:
    """Tag → origin of the table at `position`."""
    records, count = _COUNTS.unpack_from(row, position)
    position += _COUNTS.size
    table = position + records * _ORIGIN.size
    origins = list(_ORIGIN.iter_unpack(row[position:table]))
    tags = _numbers(count).unpack_from(row, table)
    return dict(zip(tags, [origins[each] for each in _numbers(count).unpack_from(row, table + 8 * count)], strict=True))
