"""What the services of one process share: the archive, who the archive is on the network, limits, threads, metrics."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from fastarchive.metrics import Metrics
from fastarchive.query.headers import MOST_HEADERS
from fastarchive.services.arrivals import Arrivals
from fastarchive.services.direct import Direct, Turns
from fastarchive.services.threads import Threads
from fastarchive.setting_values import Peer, QueryLimits

if TYPE_CHECKING:
    from fastarchive.archive import Archive

__all__ = ["MEBIBYTE", "Limits", "Peer", "ServiceContext", "open_context"]

MEBIBYTE: Final = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one association may ask of the archive.

    find_answers, find_seconds, find_headers, find_scanned: answers to one C-FIND, seconds one may take, headers it may
    read and entities it may look at before it ends with A700; find_queries: how many one calling AE title may have
    under way at once. 0: no limit.
    identifier: bytes of a request identifier. pending_interval: seconds between pending C-MOVE and C-GET responses.
    read_ahead: an instance up to this many bytes is read whole before it is sent; a larger one is verified first and
    then streamed. connect_seconds: for a C-MOVE destination to accept a connection, and then to answer the association
    request. response_seconds: for the other side to answer a sub-operation. maximum_pdu: bytes, told to a destination.
    store_seconds: how long a C-STORE may wait for the disk before it ends with A700; 0: no limit.
    """

    find_answers: int = 0
    find_seconds: float = 0.0
    find_headers: int = MOST_HEADERS
    find_scanned: int = 0
    find_queries: int = 0
    identifier: int = MEBIBYTE
    pending_interval: float = 0.5
    read_ahead: int = 8 * MEBIBYTE
    connect_seconds: float = 15.0
    response_seconds: float = 60.0
    maximum_pdu: int = 128 * 1024
    store_seconds: float = 30.0


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
    match_unknown_for: Collection[str] = ()
    """Calling AE titles for which unknown values match though they don't for everybody (M21)."""
    character_sets: Mapping[str, str] = field(default_factory=dict)
    limits: Limits = Limits()
    arrivals: Arrivals = field(default_factory=Arrivals)
    turns: Turns = field(default_factory=Turns)
    """Of the retrieves that read on the event loop."""
    direct: Direct = field(default_factory=Direct)
    """What they read with."""

    limits_by_caller: Mapping[str, Limits] = field(default_factory=dict)
    running_queries: Counter[str] = field(default_factory=Counter)
    """C-FINDs under way, by calling AE title; counted in the event loop."""

    def limits_for(self, calling_ae: str) -> Limits:
        """What a caller may ask of the archive."""
        return self.limits_by_caller.get(calling_ae, self.limits)

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
    match_unknown_for: Collection[str] = (),
    character_sets: Mapping[str, str] | None = None,
    limits: Limits | None = None,
    query_limits: Mapping[str, QueryLimits] | None = None,
    arrivals: Arrivals | None = None,
    threads: int | None = None,
) -> Iterator[ServiceContext]:
    """A context with its own threads, which are stopped at the end.

    `threads` is the size of each pool; one more than there are CPUs by default, because fdatasync and reading wait.
    """
    size = threads or len(os.sched_getaffinity(0)) + 1
    peers = dict(peers or {})
    limits = limits or Limits()
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
            match_unknown_for=frozenset(match_unknown_for),
            character_sets=character_sets or {},
            limits=limits,
            limits_by_caller={title: _limited(limits, special) for title, special in (query_limits or {}).items()},
            arrivals=arrivals or Arrivals(),
        )
    finally:
        for pool in (ingest, queries, retrieves):
            pool.close()


def _limited(limits: Limits, special: QueryLimits) -> Limits:
    """The limits of a caller: what is not said of it is as for everybody."""
    return replace(
        limits,
        find_answers=limits.find_answers if special.matches is None else special.matches,
        find_seconds=limits.find_seconds if special.seconds is None else special.seconds,
        find_headers=limits.find_headers if special.headers is None else special.headers,
        find_scanned=limits.find_scanned if special.scanned is None else special.scanned,
        find_queries=limits.find_queries if special.queries is None else special.queries,
    )
