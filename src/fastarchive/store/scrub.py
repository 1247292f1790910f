"""Scrub: all packs verified one after the other, at a bounded rate, from where it left off, and healed if asked to."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from fastarchive.store.damage import DamageList, Mark, write_json
from fastarchive.store.disk import DISK, Disk
from fastarchive.store.pack import PackError, list_packs, pack_path, read_state, removal_lock
from fastarchive.store.repair import Busy, HealingFailed, heal, settle
from fastarchive.store.verify import Finding, PackCheck, Part, verify_pack

CURSOR: Final = "scrub.json"


@dataclass(slots=True)
class ScrubReport:
    """What a scrub saw and did."""

    packs: int = 0
    records: int = 0
    bytes: int = 0
    """Bytes read, of all copies."""
    seconds: float = 0.0
    complete: bool = False
    """It came to the end; else it was stopped, and can be resumed."""
    findings: list[Finding] = field(default_factory=list)
    """All damage found, healed since or not."""
    remaining: list[Finding] = field(default_factory=list)
    """Damage there still is."""
    lost: list[Mark] = field(default_factory=list)
    """Records that are whole in no copy."""
    healed: list[Path] = field(default_factory=list)
    """Copies of packs written anew."""
    not_healed: dict[int, str] = field(default_factory=dict)
    """Packs that couldn't be healed, and why."""


class Stopped(Exception):
    """The scrub was told to stop."""


class Pacer:
    """Keeps reading below a rate, in bytes a second (None: as fast as it goes), and ends it when told to."""

    def __init__(self, rate: float | None, stop: threading.Event, progress: Callable[[int], object] | None) -> None:
        self._rate = rate
        self._stop = stop
        self._progress = progress
        self._due = time.monotonic()

    def __call__(self, count: int) -> None:
        """`count` bytes were read: wait until the next may be. Raises Stopped."""
        if self._rate:
            now = time.monotonic()
            self._due = max(self._due, now) + count / self._rate
            self._stop.wait(self._due - now)
        if self._stop.is_set():
            raise Stopped
        if self._progress is not None:
            self._progress(count)


class Scrub:
    """One pass over the packs of a data directory and its mirror. For one thread; others may store meanwhile."""

    def __init__(
        self,
        directory: Path,
        *,
        mirror: Path | None = None,
        deep: bool = False,
        repair: bool = False,
        rate: float | None = None,
        stop: threading.Event | None = None,
        progress: Callable[[int], object] | None = None,
        disk: Disk = DISK,
    ) -> None:
        """`deep` decodes everything and compares digests; `rate` is in bytes a second; `progress` is told bytes."""
        self._directory = directory
        self._mirror = mirror
        self._copies = (directory,) if mirror is None else (directory, mirror)
        self._deep = deep
        self._repair = repair
        self._pace = Pacer(rate, stop or threading.Event(), progress)
        self._disk = disk
        self._damage = DamageList(directory)
        self.report = ScrubReport()

    def size(self) -> int:
        """Bytes there are to read, about."""
        total = 0
        for copy in self._copies:
            for pack in list_packs(copy):
                with suppress(OSError), pack_path(copy, pack).open("rb") as file:
                    state = read_state(file.fileno())
                    total += state.end if state.seal is None else state.seal.length
        return total

    def run(self, *, resume: bool = False) -> ScrubReport:
        """Verify all packs; with `resume` those after the last one of a pass that was stopped.

        Raises OSError when the directory can't be listed; damage is reported, not raised.
        """
        started = time.monotonic()
        after = self._resume() if resume else -1
        packs = sorted({pack for copy in self._copies for pack in list_packs(copy, after)})
        try:
            for pack in packs:
                self._scrub(pack)
                self._note(pack)
        except Stopped:
            pass
        else:
            self.report.complete = True
            self._note(None)
            self._forget_packs_gone()
        self.report.seconds = time.monotonic() - started
        return self.report

    def _forget_packs_gone(self) -> None:
        """Nothing is damaged in packs that were compacted away."""
        marked = {mark.pack for mark in self._damage.marks()}
        present = {pack for copy in self._copies for pack in list_packs(copy)} if marked else set()
        for pack in marked - present:
            with suppress(OSError):
                self._damage.replace(pack, ())

    def _resume(self) -> int:
        cursor = _read_cursor(self._directory)
        after = cursor.get("after")
        return after if isinstance(after, int) and cursor.get("deep") == self._deep else -1

    def _note(self, after: int | None) -> None:
        """Write down how far this pass came; None: to its end."""
        completed = time.time() if after is None else last_completed(self._directory)
        with suppress(OSError):  # a read-only archive can be verified, too
            write_json(self._directory / CURSOR, {"after": after, "deep": self._deep, "completed": completed})

    def _scrub(self, pack: int) -> None:
        report = self.report
        checks, findings = self._verify(pack)
        report.packs += 1
        report.records += max((check.records for check in checks), default=0)
        report.findings += findings
        if findings and self._repair:
            self._heal(pack)
            checks, findings = self._verify(pack)
        report.remaining += findings
        marks = _lost(checks, findings)
        report.lost += marks
        with suppress(OSError):
            self._damage.replace(pack, marks)

    def _heal(self, pack: int) -> None:
        try:
            try:
                healing = heal(pack, self._copies, deep=self._deep, pace=self._pace, disk=self._disk)
            except PackError:
                settle(pack, self._copies, self._disk)
                healing = heal(pack, self._copies, deep=self._deep, pace=self._pace, disk=self._disk)
            self.report.healed += healing.written
        except (Busy, HealingFailed, PackError) as error:
            self.report.not_healed[pack] = str(error)
        except OSError as error:
            self.report.not_healed[pack] = error.strerror or type(error).__name__

    def _verify(self, pack: int) -> tuple[list[PackCheck], list[Finding]]:
        """Check all copies of a pack, and that there are as many as there should be."""
        checks: dict[Path, PackCheck] = {}
        findings: list[Finding] = []
        absent: list[Finding] = []
        for copy in self._copies:
            mirror = copy == self._mirror
            try:
                check = self._check(copy, pack)
            except FileNotFoundError:
                absent.append(Finding(pack, Part.COPY, 0, 0, "the pack is missing", mirror=mirror))
            except OSError as error:
                reason = f"the pack can't be read: {error.strerror}"
                findings.append(Finding(pack, Part.COPY, 0, 0, reason, mirror=mirror))
            else:
                checks[copy] = check
                self.report.bytes += check.bytes
                findings += [replace(finding, mirror=mirror) for finding in check.findings]
        if absent and self._is_gone(pack):
            return [], []
        sealed = [check.state.seal for check in checks.values() if check.state.seal is not None]
        # An open pack may be without its copy for a moment; what only the mirror has was lost here.
        if sealed or (absent and not absent[0].mirror and not any(check.owned for check in checks.values())):
            findings += absent
        findings += self._unlike(checks)
        return list(checks.values()), findings

    def _is_gone(self, pack: int) -> bool:
        """Whether no copy of a pack is there any more: it was compacted away since the list was made."""
        with ExitStack() as stack:
            with suppress(OSError):  # a read-only archive isn't compacted
                stack.enter_context(removal_lock(self._directory, self._disk, shared=True))  # not in the middle of it
            return not any(pack_path(copy, pack).exists() for copy in self._copies)

    def _unlike(self, checks: dict[Path, PackCheck]) -> list[Finding]:
        """Copies that ended before the other one did."""
        ends = {copy: check.state.seal.records_end for copy, check in checks.items() if check.state.seal is not None}
        found = []
        for copy, check in checks.items():
            # A damaged seal is a finding already.
            damaged = any(finding.part is Part.HEADER for finding in check.findings)
            if ends and not check.owned and not damaged and ends.get(copy, 0) < max(ends.values()):
                reason = "the copy has another end than the other one"
                found.append(Finding(check.pack, Part.COPY, 0, 0, reason, mirror=copy == self._mirror))
        return found

    def _check(self, directory: Path, pack: int) -> PackCheck:
        fd = os.open(pack_path(directory, pack), os.O_RDONLY | os.O_CLOEXEC)
        try:
            # What is verified is what the disk has, not what happens to be cached.
            self._disk.forget(fd)
            return verify_pack(fd, pack, deep=self._deep, pace=self._pace)
        finally:
            self._disk.forget(fd)
            os.close(fd)


def last_completed(directory: Path) -> float | None:
    """When the last pass over a data directory ended, in seconds since the epoch; None if that isn't known."""
    completed = _read_cursor(directory).get("completed")
    return completed if isinstance(completed, int | float) else None


def start_counting(directory: Path) -> None:
    """Where no pass is known of, let the time until the first one begin now. Raises OSError."""
    if last_completed(directory) is None:
        write_json(directory / CURSOR, {**_read_cursor(directory), "completed": time.time()})


def _read_cursor(directory: Path) -> dict[str, object]:
    try:
        cursor = json.loads((directory / CURSOR).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return cursor if isinstance(cursor, dict) else {}


def _lost(checks: Sequence[PackCheck], findings: Sequence[Finding]) -> list[Mark]:
    """The records that are damaged in one copy and not whole in another."""
    marks: dict[int, Mark] = {}
    for finding in findings:
        if finding.part in {Part.CONTENT, Part.METADATA} and not any(finding.offset in check.good for check in checks):
            known = marks.get(finding.offset)
            if known is None or not known.sop_instance:
                marks[finding.offset] = Mark(finding.pack, finding.offset, finding.sop_instance, finding.reason)
    return list(marks.values())
