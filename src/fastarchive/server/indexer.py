"""The index writer process: follows all packs and commits what they hold to the index, until told to end."""

from __future__ import annotations

import gc
import logging
import signal
import sys
import threading

from fastarchive.server.control import Control

logger = logging.getLogger(__name__)


def main() -> int:
    """Run the index writer; 0 when everything durable was committed at the end."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    control, orders = Control.join("indexer")
    from fastarchive.index.writer import IndexWriter

    with IndexWriter(orders.settings.data) as writer:
        gc.freeze()
        control.ready()
        logger.info("index writer ready")
        writer.run(stop)
    logger.info("index writer ended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
