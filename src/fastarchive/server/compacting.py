"""Packs are compacted in the background, slowly, by the index writer's process."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import closing, suppress
from typing import Final

from fastarchive.index.current import Index
from fastarchive.settings import Settings
from fastarchive.store.compacted import read_compacted, start_counting
from fastarchive.upkeep.compaction import Compaction, CompactionBusy, CompactionReport

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 60.0
AGAIN_SECONDS: Final = 3600.0
"""After a compaction that failed."""
LEAST_SMALL: Final = 8
"""Small packs there have to be before they are joined: so a byte is copied a few times at most on its way into a large
pack."""
_DAY: Final = 86_400.0


def keep_compacted(settings: Settings, stop: threading.Event) -> None:
    """Compact once in ``compact_days``, in a thread of its own; the first time that long after the first start."""
    threading.Thread(target=_run, args=(settings, stop), name="compaction", daemon=True).start()


def _run(settings: Settings, stop: threading.Event) -> None:
    period = settings.compact_days * _DAY
    started = time.time()
    with suppress(OSError):
        start_counting(settings.data)
    while not stop.wait(LOOK_SECONDS):
        if time.time() < (read_compacted(settings.data).counted_from or started) + period:
            continue
        try:
            with closing(Index(settings.data, mirror=settings.mirror)) as index:
                log_report(compaction_of(settings, index, stop).run())
        except CompactionBusy:
            continue
        except OSError as error:
            logger.error("the packs can't be compacted", extra={"error": error.strerror or type(error).__name__})
            stop.wait(AGAIN_SECONDS)


def compaction_of(settings: Settings, index: Index, stop: threading.Event) -> Compaction:
    """As the settings say."""
    return Compaction(
        settings.data,
        index,
        mirror=settings.mirror,
        seal_size=settings.seal,
        dead=settings.compact_dead / 100,
        least_small=LEAST_SMALL,
        rate=settings.compact_rate,
        stop=stop,
    )


def log_report(report: CompactionReport) -> None:
    """Say in the log what a compaction did."""
    for pack, reason in report.left.items():
        logger.warning("a pack was left as it is", extra={"pack": pack, "reason": reason})
    if report.removed or report.written:
        done = {"removed": len(report.removed), "written": len(report.written), "moved_records": report.moved_records}
        logger.info("compacted", extra=done | {"freed_bytes": report.freed_bytes, "complete": report.complete})
