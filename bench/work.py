"""What associations do: store, find, get and move, each operation as a request and a judgement of its answers.

`Known` is what this run knows the archive must hold, because it was acknowledged. Questions are made from it, and
answers that miss any of it are wrong.
"""

from __future__ import annotations

import abc
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from bench.conversation import Answered, Buffer, Conversation, Delivered
from bench.encoding import element
from bench.messages import PENDING, STUDY_ROOT_FIND, STUDY_ROOT_GET, STUDY_ROOT_MOVE, Context
from bench.peers import image_query
from bench.questions import identifier, unique_key
from bench.scenario import Sort
from bench.stock import Prepared

_NAME_PIECES = ("SMI", "GAR", "MART", "son", "ella", "CHA", "ker", "ill", "ROB", "hew")
_COMPLETED = 0x1021
"""Number of Completed Sub-operations (0000,1021), PS3.7 E.1."""


@dataclass(slots=True)
class KnownSeries:
    """A series of which at least one instance was acknowledged."""

    study: str
    patient_id: str
    uid: str
    acknowledged: list[str] = field(default_factory=list)
    """SOP Instance UIDs."""
    size: int = 0
    """Bytes of their data sets."""


class Known:
    """Everything acknowledged by 0000 so far."""

    def __init__(self) -> None:
        self.count = 0
        self.series: list[KnownSeries] = []
        self.complete: list[KnownSeries] = []
        """Those to which nothing is added any more."""
        self._by_uid: dict[str, KnownSeries] = {}

    def acknowledge(self, prepared: Prepared, size: int) -> None:
        """Note an instance the archive took, of so many bytes."""
        series = self._by_uid.get(prepared.series)
        if series is None:
            series = KnownSeries(prepared.study, prepared.patient_id, prepared.series)
            self._by_uid[prepared.series] = series
            self.series.append(series)
        series.acknowledged.append(prepared.sop_instance)
        series.size += size
        self.count += 1
        if prepared.last:
            self.complete.append(series)


@dataclass(slots=True)
class Verdict:
    """How an operation ended. `fault` is empty when it did what it should."""

    fault: str = ""
    wrong: bool = False
    """Answered with success, but not with what the archive must hold."""
    size: int = 0
    """Bytes of data sets moved."""
    items: int = 1
    """Instances stored or retrieved, or answers received."""


class Task(abc.ABC):
    """One operation under way."""

    request: list[Buffer]

    @abc.abstractmethod
    def take(self, event: Answered | Delivered) -> Verdict | None:
        """The verdict, or None while answers are still to come."""


class Source(abc.ABC):
    """Where one association gets its operations from."""

    contexts: list[Context]
    """To propose."""

    @abc.abstractmethod
    def next(self, conversation: Conversation) -> Task | None:
        """The next operation over an open association; None when there is nothing to do yet.

        Raises RequestError when the association lacks a context for it, StopIteration when the work is done.
        """


class _StoreTask(Task):
    def __init__(self, prepared: Prepared, conversation: Conversation, known: Known) -> None:
        self._prepared = prepared
        self._known = known
        self._size = prepared.size
        self.request = conversation.store(
            prepared.sop_class, prepared.sop_instance, prepared.transfer_syntax, prepared.pieces
        )

    def take(self, event: Answered | Delivered) -> Verdict | None:
        if isinstance(event, Delivered):
            return Verdict("an instance instead of an answer")
        if event.response.status:
            return Verdict(f"status {event.response.status:04X}")
        self._known.acknowledge(self._prepared, self._size)
        return Verdict(size=self._size)


class Storing(Source):
    """C-STORE of one instance after the other."""

    def __init__(self, instances: Iterator[Prepared], kinds: list[tuple[str, str]], known: Known) -> None:
        """kinds: SOP class and transfer syntax of what is to come."""
        self._instances = instances
        self._known = known
        self.contexts = [Context(sop_class, (syntax,)) for sop_class, syntax in kinds]

    def next(self, conversation: Conversation) -> Task | None:
        prepared = next(self._instances)
        return _StoreTask(prepared, conversation, self._known)


class _FindTask(Task):
    def __init__(self, request: list[Buffer], tag: int, expected: frozenset[str], *, only: bool) -> None:
        """expected: unique keys that must be among the answers; only: and no others."""
        self.request = request
        self._tag = tag
        self._expected = expected
        self._only = only
        self._answers: list[bytes] = []

    def take(self, event: Answered | Delivered) -> Verdict | None:
        if isinstance(event, Delivered):
            return Verdict("an instance instead of an answer")
        if event.response.status in PENDING:
            self._answers.append(event.identifier)
            return None
        if event.response.status:
            return Verdict(f"status {event.response.status:04X}")
        found = {unique_key(answer, self._tag) for answer in self._answers}
        right = found == self._expected if self._only else found >= self._expected
        return Verdict(
            wrong=not right or len(found) != len(self._answers),
            size=sum(map(len, self._answers)),
            items=len(self._answers),
        )


class Finding(Source):
    """C-FIND of the sorts given, at random, about instances that were acknowledged."""

    contexts = [Context(STUDY_ROOT_FIND)]  # noqa: RUF012  # the same for all, never changed

    def __init__(self, sorts: list[Sort], known: Known, seed: str) -> None:
        self._sorts = sorts
        self._known = known
        self._chance = random.Random(seed)

    def next(self, conversation: Conversation) -> Task | None:
        if not self._known.series:
            return None
        series = self._chance.choice(self._known.series)
        sort = self._chance.choice(self._sorts)
        query, tag, expected, only = self._question(sort, series)
        return _FindTask(conversation.find(STUDY_ROOT_FIND, query), tag, frozenset(expected), only=only)

    def _question(self, sort: Sort, series: KnownSeries) -> tuple[bytes, int, list[str], bool]:
        match sort:
            case "study":
                return identifier("STUDY", {0x0020000D: series.study}), 0x0020000D, [series.study], True
            case "patient":
                return identifier("STUDY", {0x00100020: series.patient_id}), 0x0020000D, [series.study], False
            case "name":
                return (
                    identifier("STUDY", {0x00100010: f"*{self._chance.choice(_NAME_PIECES)}*"}),
                    0x0020000D,
                    [],
                    False,
                )
            case "date":
                month = f"{self._chance.randrange(2015, 2025)}{self._chance.randrange(1, 13):02d}"
                return identifier("STUDY", {0x00080020: f"{month}01-{month}31"}), 0x0020000D, [], False
            case "series":
                return identifier("SERIES", {0x0020000D: series.study}), 0x0020000E, [series.uid], False
            case "images":
                return image_query(series.study, series.uid), 0x00080018, series.acknowledged, False


class _RetrieveTask(Task):
    def __init__(self, request: list[Buffer], series: KnownSeries, *, arrives: bool) -> None:
        """arrives: the instances come over this association (C-GET), not elsewhere (C-MOVE)."""
        self.request = request
        self._series = series
        self._arrives = arrives
        self._count = len(series.acknowledged)
        self._arrived: list[str] = []
        self._size = 0

    def take(self, event: Answered | Delivered) -> Verdict | None:
        if isinstance(event, Delivered):
            self._arrived.append(event.sop_instance)
            self._size += event.size
            return None
        if event.response.status in PENDING:
            return None
        if event.response.status:
            return Verdict(f"status {event.response.status:04X}", size=self._size, items=len(self._arrived))
        if self._arrives:
            wrong = sorted(self._arrived) != sorted(self._series.acknowledged)
            return Verdict(wrong=wrong, size=self._size, items=len(self._arrived))
        completed = event.response.number(_COMPLETED)
        return Verdict(wrong=completed != self._count, size=self._series.size, items=completed or 0)


class Retrieving(Source):
    """C-GET or C-MOVE of whole series."""

    def __init__(self, known: Known, seed: str, kinds: list[tuple[str, str]], destination: str = "") -> None:
        """destination: an AE title for C-MOVE; without one it is C-GET, of these SOP classes and transfer syntaxes."""
        self._known = known
        self._chance = random.Random(seed)
        self._destination = destination
        self.contexts = (
            [Context(STUDY_ROOT_MOVE)]
            if destination
            else [Context(STUDY_ROOT_GET), *(Context(sop_class, (syntax,), scp=True) for sop_class, syntax in kinds)]
        )

    def next(self, conversation: Conversation) -> Task | None:
        if not self._known.complete:
            return None
        series = self._chance.choice(self._known.complete)
        query = (
            element(0x00080052, "CS", "SERIES")
            + element(0x0020000D, "UI", series.study)
            + element(0x0020000E, "UI", series.uid)
        )
        if self._destination:
            request = conversation.move(STUDY_ROOT_MOVE, query, self._destination)
        else:
            request = conversation.get(STUDY_ROOT_GET, query)
        return _RetrieveTask(request, series, arrives=not self._destination)
