"""A worker process: DICOM associations and HTTP on the shared sockets, in one event loop and one task group."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
from functools import partial

import anyio
import anyio.to_thread

from fastarchive.archive import Archive
from fastarchive.metrics import Metrics
from fastarchive.server.control import Control, Orders
from fastarchive.server.http import HttpServer
from fastarchive.server.listeners import neighbours, takers
from fastarchive.server.memory import Trimmer, keep_large_blocks_apart
from fastarchive.server.run_directory import RunDirectory
from fastarchive.services.arrivals import Arrivals
from fastarchive.services.context import Limits as ServiceLimits
from fastarchive.services.context import ServiceContext, open_context
from fastarchive.services.dispatch import handle_association
from fastarchive.services.observer import MetricsObserver
from fastarchive.services.policy import acceptor_policy, only_stores
from fastarchive.services.prompt import PromptStores
from fastarchive.settings import Settings
from fastarchive.upkeep.policies import conflict_policies
from fastarchive.upperlayer import Drain, Gathering, Limits, Neighbours, Timeouts, serve
from fastarchive.web.app import create_app
from fastarchive.web.state import WebState

logger = logging.getLogger("fastarchive.server.worker")

LEAST_MEMORY = 32 * 2**20
"""Bytes a worker needs for any data set to find room: a header of 16 MiB is held until it is whole."""
OBSERVE_SECONDS = 5.0
"""How often the gauges that nobody sets in passing are set."""
LOCK_SECONDS = 0.0005
"""How long a thread may keep the interpreter lock from another that waits for it (docs/adr/0016)."""
FLUSH_SECONDS = 1.0
"""How often what C-STORE counted reaches Prometheus."""


def service_limits(settings: Settings) -> ServiceLimits:
    """The settings as the services take them."""
    return ServiceLimits(
        find_answers=settings.maximum_matches,
        find_seconds=settings.maximum_find_seconds,
        find_headers=settings.maximum_headers,
        find_scanned=settings.maximum_scanned,
        find_queries=settings.maximum_queries,
        identifier=settings.maximum_identifier,
        response_seconds=settings.dimse_seconds,
        connect_seconds=settings.acse_seconds,
        maximum_pdu=settings.maximum_pdu,
        store_seconds=settings.store_seconds,
    )


def share_of_memory(settings: Settings) -> int:
    """What one worker may hold of data sets on their way in, bytes."""
    return max(LEAST_MEMORY, settings.maximum_in_flight // settings.workers)


def makers(settings: Settings, place: int) -> int:
    """How many records the worker at a place makes at a time: all that take what is stored keep the CPUs busy together,
    and no cache is shared by more of them than need be."""
    sharing = takers(settings.workers) or 1
    return max(1, len(os.sched_getaffinity(0)) // sharing) if place < sharing else 1


def gathering(orders: Orders, others: Neighbours) -> Gathering:
    """Where the associations go that only store."""
    passages = {place: socket.socket(fileno=descriptor) for place, descriptor in enumerate(orders.passages)}
    inbox = socket.socket(fileno=orders.inbox) if orders.inbox >= 0 else None
    most = orders.settings.maximum_associations
    return Gathering(only_stores, others, passages=passages, inbox=inbox, most=most)


def timeouts(settings: Settings) -> Timeouts:
    """The settings as the upper layer takes them."""
    return Timeouts(
        artim=settings.artim_seconds,
        acse=settings.acse_seconds,
        dimse=settings.dimse_seconds,
        idle=settings.idle_seconds,
    )


async def serve_dicom(listener: socket.socket, orders: Orders, context: ServiceContext, drain: Drain) -> None:
    """Accept and serve associations until drained."""
    settings = orders.settings
    others = neighbours(orders.shared_descriptor, orders.place)
    stores = PromptStores(context, makers(settings, orders.place))
    await serve(
        listener,
        policy=acceptor_policy(
            called_titles=context.ae_titles if settings.check_called_ae_title else None,
            calling_titles=settings.allowed_calling_ae_titles,
            accept_unknown_sop_classes=settings.accept_unknown_sop_classes,
            private_transfer_syntaxes=settings.private_transfer_syntaxes,
            maximum_length=settings.maximum_pdu,
        ),
        handler=partial(handle_association, context=context, stores=stores),
        maximum_associations=settings.maximum_associations,
        timeouts=timeouts(settings),
        limits=Limits(together=share_of_memory(settings) // 4),
        observer=MetricsObserver(context.metrics),
        drain=drain,
        neighbours=others,
        gathering=gathering(orders, others),
    )
    stores.close()


async def work(control: Control, orders: Orders) -> None:
    """Everything a worker does, from an open archive to the end of the last association."""
    settings = orders.settings
    dicom = socket.socket(fileno=orders.dicom_descriptor)
    http = socket.socket(fileno=orders.http_descriptor)
    metrics = Metrics({settings.ae_title, *settings.peers, *settings.allowed_calling_ae_titles})
    with (
        dicom,
        http,
        Archive.open(
            settings.data,
            # The index writer has a process of its own, which also recovers packs.
            recover_packs=False,
            write_index=False,
            renew_apart=True,
            seal_size=settings.seal,
            reserve_bytes=settings.reserve,
            mirror=settings.mirror,
            mirror_wait=settings.mirror_wait,
            conflicts=conflict_policies(
                settings.data,
                settings.conflict_policy,
                settings.conflict_policies,
                settings.other_patient_policy,
            ),
        ) as archive,
        open_context(
            archive,
            ae_titles=(settings.ae_title,),
            peers=settings.peers,
            metrics=metrics,
            accept_unknown_sop_classes=settings.accept_unknown_sop_classes,
            match_unknown=settings.match_unknown,
            match_unknown_for=settings.match_unknown_for,
            character_sets=settings.character_sets,
            limits=service_limits(settings),
            query_limits=settings.query_limits,
            arrivals=Arrivals(share_of_memory(settings) * 3 // 4, settings.store_seconds),
        ) as context,
    ):
        drain = Drain(settings.drain_seconds)
        state = WebState(
            archive=archive,
            metrics=metrics,
            settings=settings,
            processes=RunDirectory(settings.data).processes,
            arriving=lambda: context.arrivals.held,
        )
        server = HttpServer(create_app(state))
        async with anyio.create_task_group() as group:
            group.start_soon(_drain_on_signal, drain, state)
            await group.start(server.serve, http)
            group.start_soon(_observe, state, Trimmer(lambda: context.arrivals.under_way > 0))
            group.start_soon(_flush, metrics)
            # What was made so far lives as long as the process: no collection need look at it again.
            gc.collect()
            gc.freeze()
            control.ready()
            logger.info("worker ready")
            await serve_dicom(dicom, orders, context, drain)
            metrics.flush()
            await server.stop()
            group.cancel_scope.cancel()
    logger.info("worker ended")


async def _drain_on_signal(drain: Drain, state: WebState) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            logger.info("worker draining")
            state.draining = True
            drain.start()


async def _observe(state: WebState, trimmer: Trimmer) -> None:
    while True:
        await anyio.to_thread.run_sync(state.observe)
        await anyio.to_thread.run_sync(trimmer.look)
        await anyio.to_thread.run_sync(state.archive.blobs.let_go)
        await anyio.sleep(OBSERVE_SECONDS)


async def _flush(metrics: Metrics) -> None:
    while True:
        await anyio.sleep(FLUSH_SECONDS)
        metrics.flush()


def main() -> int:
    """Run a worker; 0 after a drain."""
    sys.setswitchinterval(LOCK_SECONDS)
    keep_large_blocks_apart()
    control, orders = Control.join("worker")
    anyio.run(work, control, orders, backend_options={"use_uvloop": True})
    return 0


if __name__ == "__main__":
    sys.exit(main())
