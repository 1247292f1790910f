"""Retention in the background: what the rules let go is deleted every so many hours, by the index writer's process."""

from __future__ import annotations

import logging
import threading
from typing import Final

from fastarchive.archive import Archive
from fastarchive.settings import Settings
from fastarchive.store.writers import LogBroken, NoSpace
from fastarchive.upkeep import deletion, holds, retention
from fastarchive.upkeep.retention_rules import RulesError, read_rules

logger = logging.getLogger(__name__)

HOUR: Final = 3600.0


def keep_retained(settings: Settings, stop: threading.Event) -> None:
    """Apply the rules every `retention_hours`, in a thread of its own, for the first time after as many.

    The file is read anew each time. A rule that is wrong is told in the log, and nothing is deleted then.
    """
    threading.Thread(target=_run, args=(settings, stop), name="retention", daemon=True).start()


def _run(settings: Settings, stop: threading.Event) -> None:
    while not stop.wait(settings.retention_hours * HOUR):
        apply_rules(settings)


def apply_rules(settings: Settings) -> None:
    """Plan and delete once; what came of it is in the log, in numbers."""
    if settings.retention is None:
        return
    try:
        rules = read_rules(settings.retention)
        with Archive.open(settings.data, read_only=True, mirror=settings.mirror) as archive:
            plan = retention.make_plan(archive, rules, holds.read(settings.data))
            deleted = retention.apply(archive, plan, mirror=settings.mirror, mirror_wait=settings.mirror_wait)
    except RulesError as error:
        logger.error("the retention rules are wrong; nothing was deleted: %s", error)
    except (deletion.OnHold, deletion.ClockBehind, holds.HoldsUnreadable, NoSpace, LogBroken, OSError) as error:
        logger.error("retention was cut short", extra={"error": type(error).__name__})
    else:
        seen = {"studies": deleted, "instances": plan.instances, "bytes": plan.bytes, "on_hold": len(plan.held)}
        logger.info("retention rules applied", extra=seen)
