"""How long to wait before a process that ended is started again: a pure decision."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_DELAY = 0.1
LONGEST_DELAY = 10.0
HEALTHY_AFTER = 30.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """The state between two ends of one process: how many times in a row it ended soon after its start."""

    failures: int = 0

    def ended(self, lifetime: float) -> Backoff:
        """The state after the process ended that had lived for ``lifetime`` seconds."""
        return Backoff(1) if lifetime >= HEALTHY_AFTER else Backoff(self.failures + 1)

    @property
    def delay(self) -> float:
        """Seconds to wait before the next start: 0.1 after the first end, doubling, 10 at most."""
        if not self.failures:
            return 0.0
        return min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(self.failures - 1, 32))
