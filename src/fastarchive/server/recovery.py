"""Recovery in a running archive: at the start, and again whenever a worker died and left its pack open.

The index writer's process does it: at the start it is needed before anything else, and it is there when a worker dies.
If it isn't, because it died too, its next start recovers all the same.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from fastarchive.store.mirror import catch_up
from fastarchive.store.recovery import recover

logger = logging.getLogger(__name__)

MIRROR_SECONDS = 60.0

_one_at_a_time = threading.Lock()


def recover_packs(data: Path, mirror: Path | None = None) -> None:
    """Cut torn tails and seal the packs nobody holds; what was found is logged. May be called from any thread.

    A failure is logged too and is no reason to stop: the archive serves what it can.
    """
    with _one_at_a_time:
        try:
            report = recover(data, mirror=mirror)
        except OSError as error:
            logger.error("recovery failed", extra={"error": error.strerror or type(error).__name__})
            return
    for damage in report.damaged:
        place = {"pack": damage.pack, "start": damage.start, "end": damage.end}
        logger.error("damaged bytes in a pack", extra=place)
    for pack, reason in report.unreadable.items():
        logger.error("a pack can't be read", extra={"pack": pack, "reason": reason})
    if report.sealed or report.removed:
        found = {"sealed": len(report.sealed), "removed": len(report.removed), "records": report.records}
        logger.info("recovered", extra=found | {"cut_bytes": sum(report.cut.values())})


def recover_in_background(data: Path, mirror: Path | None = None) -> None:
    """The same in a thread of its own."""
    threading.Thread(target=recover_packs, args=(data, mirror), name="recovery", daemon=True).start()


def keep_mirror(data: Path, mirror: Path, stop: threading.Event) -> None:
    """Give the mirror, in a thread of its own, the copies of sealed packs it lacks: now, and again every minute."""

    def run() -> None:
        alike: set[int] = set()
        while not stop.is_set():
            try:
                copied = catch_up(data, mirror, stopped=stop.is_set, alike=alike)
            except OSError as error:
                logger.error("the mirror can't be used", extra={"error": error.strerror or type(error).__name__})
            else:
                if copied:
                    logger.info("copied packs to the mirror", extra={"packs": len(copied)})
            stop.wait(MIRROR_SECONDS)

    threading.Thread(target=run, name="mirror", daemon=True).start()
