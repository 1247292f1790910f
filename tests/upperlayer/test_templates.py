"""What is written and recognised by a template is what would be written and read without one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastarchive.upperlayer import (
    Command,
    CommandField,
    StoreRequests,
    StoreTemplates,
    decode_command,
    encode_command,
    frame_command,
)

CT = "1.2.840.10008.5.1.4.1.1.2"
LONGEST = 16_378
numbers = st.integers(0, 0xFFFF)
uids = st.from_regex(r"[0-9.]{1,64}", fullmatch=True)


def templates(longest: int = LONGEST) -> StoreTemplates:
    return StoreTemplates(
        3, longest, StoreRequests(CT, priority=0, move_originator="CT1", move_originator_message_id=7)
    )


def request(message_id: int, uid: str) -> Command:
    return Command(
        field=CommandField.C_STORE_RQ,
        message_id=message_id,
        affected_sop_class=CT,
        affected_sop_instance=uid,
        priority=0,
        has_data_set=True,
        move_originator="CT1",
        move_originator_message_id=7,
    )


def response(message_id: int, uid: str, **more: object) -> Command:
    said: dict[str, Any] = {"affected_sop_class": CT, "affected_sop_instance": uid, "status": 0, **more}
    return replace(Command(field=CommandField.C_STORE_RSP, responding_to=message_id), **said)


def in_pdus(command: Command, context: int = 3, longest: int = LONGEST) -> bytes:
    return frame_command(context, encode_command(command), longest)


@given(st.lists(st.tuples(numbers, uids), min_size=1, max_size=8), st.sampled_from([40, LONGEST]))
def test_requests_are_as_single_ones(instances: list[tuple[int, str]], longest: int) -> None:
    writer = templates(longest)
    for message_id, uid in instances:
        written, expected = writer.exchange(message_id, uid)
        assert written == in_pdus(request(message_id, uid), longest=longest)
        assert not expected


@given(
    numbers, uids, st.lists(st.tuples(numbers, uids), max_size=8), st.sampled_from(["", "fine", "a\0\0\x20\1\2\0\0\0z"])
)
def test_what_is_expected_is_what_the_peer_says(
    message_id: int, uid: str, others: list[tuple[int, str]], comment: str
) -> None:
    writer = templates()
    writer.learn(in_pdus(response(message_id, uid, error_comment=comment)), message_id, uid)
    for number, instance in [(message_id, uid), *others]:
        _, expected = writer.exchange(number, instance)
        if len(instance) + len(instance) % 2 == len(uid) + len(uid) % 2:
            said = response(number, instance, error_comment=comment)
            assert expected == in_pdus(said)
            assert decode_command(expected[12:]) == said
        else:
            assert not expected


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(in_pdus(response(5, "1.2.3"), context=1), id="another context"),
        pytest.param(in_pdus(response(6, "1.2.3")), id="another request"),
        pytest.param(in_pdus(response(5, "1.2.4")), id="another instance"),
        pytest.param(in_pdus(response(5, "")), id="no instance"),
        pytest.param(in_pdus(response(5, "1.2.3"), longest=40), id="two PDUs"),
        pytest.param(in_pdus(response(5, "1.2.3")) * 2, id="two responses"),
        pytest.param(in_pdus(response(5, "1.2.3"))[:-1], id="cut short"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_what_is_laid_out_differently_is_read_as_ever(read: bytes) -> None:
    writer = templates()
    writer.learn(read, 5, "1.2.3")
    assert not writer.exchange(5, "1.2.3")[1]
