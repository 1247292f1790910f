"""How hard random tests try: a little with every run, a lot when FASTARCHIVE_SOAK is set."""

from __future__ import annotations

import os


def effort(usual: int, thorough: int) -> int:
    """`usual`, or `thorough` in a soak."""
    return thorough if os.environ.get("FASTARCHIVE_SOAK") else usual
