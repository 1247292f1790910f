"""What the services of one process share: the archive, who the archive is on the network, limits, threads, metrics."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fastarchive.metrics import Metrics
from fastarchive.query.headers import MOST_HEADERS
from fastarchive.services.threads import Threads
from fastarchive.setting_values import Peer
from fastarchive.store.intake import SPILL

if TYPE_CHECKING:
    from fastarchive.archive import Archive

__all__ = ["MEBIBYTE", "Arrivals", "Limits", "Peer", "ServiceContext", "open_context"]

MEBIBYTE: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one association may ask of the archive.

    find_answers, find_seconds, find_headers: answers to one C-FIND, seconds one may take and headers of instances one
    may read before it ends with A700; 0: no limit.
    identifier: bytes of a request identifier. pending_interval: seconds between pending C-MOVE and C-GET responses.
    read_ahead: an instance up to this many bytes is read whole before it is sent; a larger one is verified first and
    then streamed. connect_seconds: for a C-MOVE destination to accept a connection, and then to answer the association
    request. response_seconds: for the other side to answer a sub-operation. maximum_pdu: bytes, told to a destination.
    """

    find_answers: int = 0
    find_seconds: float = 0.0
    find_headers: int = MOST_HEADERS
    identifier: int = MEBIBYTE
    pending_interval: float = 0.5
    read_ahead: int = 8 * MEBIBYTE
    connect_seconds: float = 15.0
    response_seconds: float = 60.0
    maximum_pdu: int = 128 * 1024


@dataclass(slots=True)
class Arrivals:
    """The data sets on their way in, which together may hold about `memory` bytes before they go to the spool.

    A few large ones may each hold as much as suits the work on them; the more there are, the less each: otherwise the
    memory taken would be for the peers to choose, who may open hundreds of associations and pause in each.
    """

    memory: int = 256 * MEBIBYTE
    under_way: int = 0

    @property
    def share(self) -> int:
        """Bytes that one data set may hold now."""
        return min(SPILL, self.memory // max(1, self.under_way))

    @contextmanager
    def one(self) -> Iterator[None]:
        """While one data set arrives."""
        self.under_way += 1
        try:
            yield
        finally:
            self.under_way -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceContext:
    """Handed to every service. `ae_titles` are all titles the archive answers to, the first is the one it calls by.

    `character_sets` are the ones the text of some callers is really in, by AE title, whatever they declare.

    `ingest`, `queries` and `retrieves` are separate pools, so that a flood of one kind of work doesn't hold up another.
    """

    archive: Archive
    metrics: Metrics
    ingest: Threads
    queries: Threads
    retrieves: Threads
    ae_titles: tuple[str, ...] = ("FASTARCHIVE",)
    peers: Mapping[str, Peer] = field(default_factory=dict)
    accept_unknown_sop_classes: bool = True
    match_unknown: bool = False
    character_sets: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = Limits()
    arrivals: Arrivals = field(default_factory=Arrivals)

    @property
    def ae_title(self) -> str:
        """The archive's own AE title."""
        return self.ae_titles[0]

    def title_for(self, called_ae: str) -> str:
        """The title to show a caller as Retrieve AE Title: the one it called, if it is one of ours."""
        return called_ae if called_ae in self.ae_titles else self.ae_titles[0]


@contextmanager
def open_context(
    archive: Archive,
    *,
    ae_titles: tuple[str, ...] = ("FASTARCHIVE",),
    peers: Mapping[str, Peer] | None = None,
    metrics: Metrics | None = None,
    accept_unknown_sop_classes: bool = True,
    match_unknown: bool = False,
    character_sets: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    threads: int | None = None,
) -> Iterator[ServiceContext]:
    """A context with its own threads, which are stopped at the end.

    `threads` is the size of each pool; one more than there are CPUs by default, because fdatasync and reading wait.
    """
    size = threads or len(os.sched_getaffinity(0)) + 1
    peers = dict(peers or {})
    ingest, queries, retrieves = (Threads(size, name) for name in ("ingest", "query", "retrieve"))
    try:
        yield ServiceContext(
            archive=archive,
            metrics=metrics or Metrics({*ae_titles, *peers}),
            ingest=ingest,
            queries=queries,
            retrieves=retrieves,
            ae_titles=ae_titles,
            peers=peers,
            accept_unknown_sop_classes=accept_unknown_sop_classes,
            match_unknown=match_unknown,
            character_sets=character_sets or {},
            limits=limits or Limits(),
        )
    finally:
        for pool in (ingest, queries, retrieves):
            pool.close()
