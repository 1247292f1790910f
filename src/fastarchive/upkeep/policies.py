"""What the settings say about conflicts, as the archive takes it: with the holds, which outrank every policy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from fastarchive.admission import ConflictPolicies, Policy
from fastarchive.upkeep import holds


def conflict_policies(
    directory: Path, default: str, of_senders: Mapping[str, str], patients: str = "accept"
) -> ConflictPolicies:
    """`default` and `of_senders` name policies: keep-first, replace or quarantine; `patients`: accept or quarantine."""
    return ConflictPolicies(
        Policy(default),
        {title: Policy(policy) for title, policy in of_senders.items()},
        partial(holds.locked, directory),
        patients == "quarantine",
    )
