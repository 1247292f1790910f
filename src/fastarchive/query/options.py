"""What a query may ask beyond the baseline: the SOP Class Extended Negotiation of C-FIND (PS3.4 C.5.1.1)."""

from __future__ import annotations

from dataclasses import dataclass

from fastarchive.dicom.matching import MatchingOptions

# Table C.5-2, byte by byte: the option it switches on, and whether this archive really does it (N3).
NEGOTIABLE: tuple[tuple[str, bool], ...] = (
    ("relational", True),
    ("combined_datetime", True),
    ("fuzzy", True),
    ("timezone", True),
    ("enhanced_multiframe_conversion", False),
    ("empty_value", True),
    ("multiple_value", True),
)


@dataclass(frozen=True, slots=True)
class FindOptions:
    """How one query is read: what was negotiated for its SOP class, and local choices.

    ``relational``: keys of any level match, unique keys above the level may be absent (Q9).
    ``combined_datetime``: a date range and its time range are one interval (M17).
    ``fuzzy``: person names match by how they sound (M22). ``timezone``: dates and times are read and answered in the
    zone of the query (M18). ``empty_value``: ``""`` matches an empty attribute (M20).
    ``multiple_value``: a list of values must all be among the stored ones (M12).
    ``match_unknown``: a required key matches an entity whose value is unknown (M21).
    ``declared_character_set``: what the sender's text really is, whatever it declares.
    ``headers``: what the index does not hold is looked up in the headers of instances.
    """

    relational: bool = False
    combined_datetime: bool = False
    fuzzy: bool = False
    timezone: bool = False
    empty_value: bool = False
    multiple_value: bool = False
    match_unknown: bool = False
    declared_character_set: str | None = None
    headers: bool = False

    @classmethod
    def agreed(
        cls,
        answer: bytes | None,
        *,
        match_unknown: bool = False,
        declared_character_set: str | None = None,
        headers: bool = False,
    ) -> FindOptions:
        """The options behind the bytes this archive answered with; ``None`` or short: the baseline (N2, N6)."""
        on = {name for byte, (name, done) in zip(answer or b"", NEGOTIABLE, strict=False) if done and byte == 1}
        return cls(
            relational="relational" in on,
            combined_datetime="combined_datetime" in on,
            fuzzy="fuzzy" in on,
            timezone="timezone" in on,
            empty_value="empty_value" in on,
            multiple_value="multiple_value" in on,
            match_unknown=match_unknown,
            declared_character_set=declared_character_set,
            headers=headers,
        )

    @property
    def matching(self) -> MatchingOptions:
        """What the matching rules need to know of these options."""
        return MatchingOptions(
            fuzzy=self.fuzzy,
            empty_value=self.empty_value,
            multiple_value=self.multiple_value,
            match_unknown=self.match_unknown,
        )


def answer_negotiation(offered: bytes) -> bytes:
    """The application information to answer a C-FIND SOP class's offer with (N1–N4, N6).

    Never longer than the offer; a byte is 1 only where 1 was offered and the archive does it.
    """
    return bytes(1 if byte == 1 and supported else 0 for byte, (_, supported) in zip(offered, NEGOTIABLE, strict=False))
