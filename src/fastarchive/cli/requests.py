"""The archive's own requestor for the command line: C-ECHO and C-FIND to any DICOM application."""

from __future__ import annotations

import itertools
import os
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from fastarchive.cli.output import Address
from fastarchive.dicom import uids
from fastarchive.dicom.attributes import LEVEL_OF, QUERY_RETRIEVE_LEVEL, SPECIFIC_CHARACTER_SET, Level
from fastarchive.dicom.charsets import CharacterSet
from fastarchive.dicom.data_sets import encode, parse_sequence, walk
from fastarchive.dicom.dictionary import keyword_of, tag_of, vr_of
from fastarchive.dicom.elements import Element
from fastarchive.dicom.layout import ElementError
from fastarchive.dicom.transfer_syntaxes import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    Encoding,
    encoding_of,
)
from fastarchive.query.identifier import BINARY_NUMBERS
from fastarchive.query.keywords import parse_keywords
from fastarchive.upperlayer import (
    Association,
    AssociationAborted,
    AssociationError,
    AssociationRejected,
    Command,
    CommandField,
    Message,
    ProposedContext,
    connect,
)

SUCCESS: Final = 0x0000
LARGEST_ANSWER: Final = 16 * 2**20
BATCH: Final = 200
_RELATIONAL: Final = b"\x01"
_MESSAGE_ID: Final = 1


class RequestFailed(Exception):
    """The peer could not be reached, ended the association, or answered with a failure."""


def _reason(error: Exception) -> str:
    if isinstance(error, AssociationRejected):
        return f"association rejected (result {error.result}, source {error.source}, reason {error.reason})"
    if isinstance(error, AssociationAborted):
        return "the association was aborted" if not str(error) else str(error)
    if isinstance(error, OSError):
        return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error) or type(error).__name__
    return str(error) or type(error).__name__


def echo(peer: Address, calling: str) -> float:
    """C-ECHO; seconds from the request to the answer. Raises RequestFailed."""

    async def ask() -> float:
        contexts = [ProposedContext(uids.VERIFICATION, [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN])]
        async with connect(
            peer.host, peer.port, calling_ae=calling, called_ae=peer.ae_title, contexts=contexts
        ) as association:
            context = association.context_for(uids.VERIFICATION)
            if context is None:
                raise RequestFailed("Verification is not supported there")
            command = Command(
                field=CommandField.C_ECHO_RQ, message_id=_MESSAGE_ID, affected_sop_class=uids.VERIFICATION
            )
            started = time.perf_counter()
            await association.send(context.id, command)
            answer = await association.receive()
            seconds = time.perf_counter() - started
            if answer is None or answer.command.status != SUCCESS:
                raise RequestFailed(_status_text(answer))
            return seconds

    try:
        return anyio.run(ask, backend_options={"use_uvloop": True})
    except (AssociationError, OSError) as error:
        raise RequestFailed(_reason(error)) from error


def question(level: str, keys: Mapping[str, str], returning: Sequence[str]) -> list[Element]:
    """The identifier of a C-FIND at a level, from keywords. Raises query.keywords.KeywordError, a ValueError."""
    query = parse_keywords(level, [f"{keyword}={value}" for keyword, value in keys.items()], returning, headers=True)
    values = {key.tag: "" for key in query.returns}
    for keyword, value in keys.items():
        values[_tag(keyword)] = value
    text = "".join(values.values())
    elements = [Element(QUERY_RETRIEVE_LEVEL, "CS", level.encode())]
    if not text.isascii():
        elements.append(Element(SPECIFIC_CHARACTER_SET, "CS", b"ISO_IR 192"))
    elements += [Element(tag, vr_of(tag), _encoded(tag, value)) for tag, value in values.items()]
    return sorted(elements)


def _tag(keyword: str) -> int:
    folded = keyword.strip().casefold()
    known = next((tag for tag in LEVEL_OF if keyword_of(tag).casefold() == folded), None)
    return tag_of(keyword.strip()) if known is None else known


def _encoded(tag: int, value: str) -> bytes:
    vr = vr_of(tag)
    if vr in BINARY_NUMBERS and value:
        number = float if vr in ("FL", "FD") else int
        return b"".join(struct.pack("<" + BINARY_NUMBERS[vr], number(part)) for part in value.split("\\"))
    return value.encode()


def find(
    peer: Address, calling: str, identifier: Sequence[Element], limit: int | None = None
) -> Iterator[dict[str, str]]:
    """C-FIND; the answers as keyword → text as they arrive, the rest cancelled once ``limit`` are there.

    Raises RequestFailed.
    """
    level = next(element.value.decode().strip() for element in identifier if element.tag == QUERY_RETRIEVE_LEVEL)
    sop_class = uids.PATIENT_ROOT_FIND if level == Level.PATIENT else uids.STUDY_ROOT_FIND
    contexts = [ProposedContext(sop_class, [EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN])]
    with _portal() as portal:
        try:
            with portal.wrap_async_context_manager(
                connect(
                    peer.host,
                    peer.port,
                    calling_ae=calling,
                    called_ae=peer.ae_title,
                    contexts=contexts,
                    extended_negotiation={sop_class: _RELATIONAL},
                )
            ) as association:
                answers = _Answers(association, sop_class, identifier)
                portal.call(answers.ask)
                yield from itertools.islice(_batches(portal, answers), limit)
                portal.call(answers.finish)
        except (AssociationError, OSError) as error:
            raise RequestFailed(_reason(error)) from error


def _portal() -> Any:
    return start_blocking_portal(backend_options={"use_uvloop": True})


def _batches(portal: BlockingPortal, answers: _Answers) -> Iterator[dict[str, str]]:
    while batch := portal.call(answers.batch):
        yield from batch


class _Answers:
    """One C-FIND under way on an association."""

    def __init__(self, association: Association, sop_class: str, identifier: Sequence[Element]) -> None:
        context = association.context_for(sop_class)
        if context is None:
            raise RequestFailed("C-FIND of this level is not supported there")
        self._association = association
        self._context = context
        self._encoding = encoding_of(context.transfer_syntax)
        self._identifier = encode(identifier, self._encoding)
        self._over = False

    async def ask(self) -> None:
        command = Command(
            field=CommandField.C_FIND_RQ,
            message_id=_MESSAGE_ID,
            affected_sop_class=self._context.abstract_syntax,
            priority=0,
            has_data_set=True,
        )
        await self._association.send(self._context.id, command, self._identifier)

    async def batch(self) -> list[dict[str, str]]:
        """The next answers, empty when there are no more."""
        rows: list[dict[str, str]] = []
        while not self._over and len(rows) < BATCH:
            message = await self._association.receive()
            if message is None or not message.command.is_pending:
                self._over = True
                if message is None or message.command.status != SUCCESS:
                    raise RequestFailed(_status_text(message))
                break
            rows.append(answer_row(await message.data_set(LARGEST_ANSWER), self._encoding))
        return rows

    async def finish(self) -> None:
        """Cancel what is still coming, and take it off the wire."""
        if self._over:
            return
        await self._association.send(
            self._context.id, Command(field=CommandField.C_CANCEL_RQ, responding_to=_MESSAGE_ID)
        )
        while True:
            message = await self._association.receive()
            if message is None or not message.command.is_pending:
                return
            await message.data_set(LARGEST_ANSWER)


def answer_row(identifier: bytes, encoding: Encoding) -> dict[str, str]:
    """An answer's attributes as keyword → text, values joined by a backslash. Raises RequestFailed if it is broken."""
    try:
        elements = {element.tag: element for element in walk(identifier, encoding)}
    except ElementError as error:
        raise RequestFailed(f"an answer can't be read: {error}") from error
    named = elements.get(SPECIFIC_CHARACTER_SET)
    charset = CharacterSet.parse(named.value if named is not None else None)
    return {
        keyword_of(tag): _text(element, charset)
        for tag, element in elements.items()
        if tag not in {SPECIFIC_CHARACTER_SET, QUERY_RETRIEVE_LEVEL}
    }


def _text(element: Element, charset: CharacterSet) -> str:
    if element.vr == "SQ":
        return f"({len(parse_sequence(element.value))} items)"
    if element.vr in BINARY_NUMBERS:
        kind = "<" + BINARY_NUMBERS[element.vr]
        size = struct.calcsize(kind)
        whole = len(element.value) // size * size
        return "\\".join(str(number) for (number,) in struct.iter_unpack(kind, element.value[:whole]))
    return charset.decode(element.value, element.vr).strip(" \0")


def _status_text(message: Message | None) -> str:
    if message is None:
        return "the peer released the association without an answer"
    command = message.command
    comment = f": {command.error_comment}" if command.error_comment else ""
    offending = ", ".join(keyword_of(tag) for tag in command.offending_elements)
    return f"answered with status {command.status or 0:04X}H{comment}" + (f" ({offending})" if offending else "")
