"""Everything stored is verified again and again in the background, slowly, by the index writer's process."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from fastarchive.store.scrub import Scrub, ScrubReport, last_completed, start_counting

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 60.0
_DAY: Final = 86_400.0


def keep_verified(data: Path, mirror: Path | None, *, days: float, rate: float, stop: threading.Event) -> None:
    """Verify all packs once in `days`, in a thread of its own, at most `rate` bytes a second; heal from a mirror.

    A pass that a stop cut short goes on at the next start. The first one is due `days` after the first start.
    """
    threading.Thread(target=_run, args=(data, mirror, days * _DAY, rate, stop), name="scrub", daemon=True).start()


def _run(data: Path, mirror: Path | None, period: float, rate: float, stop: threading.Event) -> None:
    started = time.time()
    with suppress(OSError):
        start_counting(data)
    while not stop.wait(LOOK_SECONDS):
        completed = last_completed(data)
        if time.time() < (started if completed is None else completed) + period:
            continue
        try:
            scrub = Scrub(data, mirror=mirror, repair=mirror is not None, rate=rate, stop=stop)
            report = scrub.run(resume=True)
        except OSError as error:
            logger.error("the packs can't be verified", extra={"error": error.strerror or type(error).__name__})
            started = time.time()  # not at once again
        else:
            log_report(report)


def log_report(report: ScrubReport) -> None:
    """Say in the log what a scrub found. Instances are named by place: their UIDs are in the list of damage."""
    for finding in report.findings:
        place = {"pack": finding.pack, "offset": finding.offset, "mirror": finding.mirror}
        logger.error("damage found", extra=place | {"part": finding.part.value, "reason": finding.reason})
    for pack, reason in report.not_healed.items():
        logger.error("a pack was not healed", extra={"pack": pack, "reason": reason})
    if report.complete:
        seen = {"packs": report.packs, "records": report.records, "bytes": report.bytes}
        logger.info("verified", extra=seen | {"remaining": len(report.remaining), "healed": len(report.healed)})
