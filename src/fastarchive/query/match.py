"""One answer to a query, as the parts of a plan hand it on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from fastarchive.dicom.elements import Element
from fastarchive.index.documents import Document


class Match(NamedTuple):
    """The entity found and those above it, as far as the plan joins them; by depth of level."""

    patient: Document | None = None
    study: Document | None = None
    series: Document | None = None
    image: Document | None = None


class LookedUp(Match):
    """A match whose header was looked at for keys the index does not hold."""

    header: Mapping[int, Element]
    """What answers those keys, by tag; text in UTF-8."""

    @classmethod
    def of(cls, match: Match, header: Mapping[int, Element]) -> LookedUp:
        """A match with what its header answers."""
        found = cls(*match)
        found.header = header
        return found
