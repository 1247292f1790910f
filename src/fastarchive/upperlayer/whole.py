"""A C-STORE request that one read brought from its first byte to its last, taken apart in one stroke.

Small instances come so by the thousand, and to go through their events one by one takes longer than anything else the
upper layer does for them. Whatever comes in another way is for :meth:`Machine.receive_data` to judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from fastarchive.upperlayer.commands import Command, decode_store_request
from fastarchive.upperlayer.negotiation import PresentationContext
from fastarchive.upperlayer.pdu import COMMAND_FRAGMENT, DATA_HEADERS, HEADERS_LENGTH, LAST_FRAGMENT, P_DATA_TF

__all__ = ["WholeStore", "whole_store"]

_AFTER_LENGTH: Final = DATA_HEADERS.size - HEADERS_LENGTH
_LONGEST_COMMAND: Final = 1024
"""Bytes of the PDU with the command set: two UIDs of 64 characters make it 250."""


class WholeStore(NamedTuple):
    """What was read."""

    context: PresentationContext
    command: Command
    data_set: bytes


def whole_store(
    data: memoryview, contexts: Mapping[int, PresentationContext], maximum_length: int
) -> WholeStore | None:
    """The one message that `data` is: a C-STORE-RQ with the elements that every one has in one P-DATA-TF, and all of
    its data set in another, both with one fragment and no longer than `maximum_length` (PS3.8 9.3.5, Annex E). None
    for everything else."""
    size = len(data)
    if size < DATA_HEADERS.size:
        return None
    kind, length, fragment, context_id, control = DATA_HEADERS.unpack_from(data)
    end = _AFTER_LENGTH + length
    if (
        kind != P_DATA_TF
        or control != COMMAND_FRAGMENT | LAST_FRAGMENT
        or fragment + 4 != length
        or length > min(maximum_length, _LONGEST_COMMAND)
        or size <= end + DATA_HEADERS.size
    ):
        return None
    context = contexts.get(context_id)
    kind, length, fragment, data_context_id, control = DATA_HEADERS.unpack_from(data, end)
    if (
        context is None
        or kind != P_DATA_TF
        or control != LAST_FRAGMENT
        or data_context_id != context_id
        or fragment + 4 != length
        or length > maximum_length
        or size != end + _AFTER_LENGTH + length
    ):
        return None
    command = decode_store_request(bytes(data[DATA_HEADERS.size : end]))
    if command is None or not command.has_data_set:
        return None
    return WholeStore(context, command, bytes(data[end + DATA_HEADERS.size :]))
