"""The index writer process: recovers packs, follows all of them and commits what they hold to the index."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading
from functools import partial
from pathlib import Path

from fastarchive.index.writer import IndexBusy, IndexWriter
from fastarchive.server.compacting import keep_compacted
from fastarchive.server.control import RECOVER, Control
from fastarchive.server.memory import keep_trimmed
from fastarchive.server.priority import Deference
from fastarchive.server.recovery import keep_mirror, recover_in_background, recover_packs
from fastarchive.server.retaining import keep_retained
from fastarchive.server.scrubbing import keep_verified
from fastarchive.signals import set_on

logger = logging.getLogger("fastarchive.server.indexer")

BUSY_SECONDS = 0.2


def open_writer(data: Path, mirror: Path | None, stop: threading.Event, control: Control) -> IndexWriter | None:
    """The index writer, once no other process writes the index; None if told to end before.

    An import without a running archive writes the index itself. The archive may start while that goes on: the index is
    kept up to date either way, so this process counts as ready.
    """
    waiting = False
    while not stop.is_set():
        try:
            return IndexWriter(data, mirror=mirror)
        except IndexBusy:
            if not waiting:
                logger.info("another process writes the index; waiting for it")
                control.ready()
                waiting = True
            stop.wait(BUSY_SECONDS)
    return None


def main() -> int:
    """Run the index writer; 0 when everything durable was committed at the end."""
    stop = threading.Event()
    set_on(signal.SIGTERM, stop)
    control, orders = Control.join("indexer")
    data, mirror = orders.settings.data, orders.settings.mirror
    recover_packs(data, mirror)
    control.on(RECOVER, partial(recover_in_background, data, mirror))
    if mirror is not None:
        keep_mirror(data, mirror, stop)
    settings = orders.settings
    if settings.verify_days:
        keep_verified(data, mirror, days=settings.verify_days, rate=settings.verify_rate, stop=stop)
    if settings.retention is not None and settings.retention_hours:
        keep_retained(settings, stop)
    if settings.compact_days:
        keep_compacted(settings, stop)
    writer = open_writer(data, mirror, stop, control)
    if writer is None:
        return 0
    gc.collect()
    gc.freeze()
    keep_trimmed(stop)
    control.ready()
    logger.info("index writer ready")
    deference = Deference()
    writer.run(stop, keeping_up=deference.give_way)
    writer.close()
    logger.info("index writer ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
