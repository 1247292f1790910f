"""Wild cards: `*` and `?` in keys (PS3.4 C.2.2.2.4), compared without regular expressions.

There is no escape; every other character stands for itself (rule M7). The text between two stars is looked for from
left to right and the first place found is kept, which is always right because a star can take up any remainder. So a
comparison takes at most the product of both lengths, whatever the pattern.
"""

from typing import Final, NamedTuple

ANY_TEXT: Final = "*"
ANY_CHARACTER: Final = "?"


def has_wildcard(text: str) -> bool:
    """Whether `text` holds a wild card."""
    return ANY_TEXT in text or ANY_CHARACTER in text


class Wildcard(NamedTuple):
    """A compiled key with wild cards; compile with `compile_wildcard`."""

    first: str
    """What the text starts with, question marks included; the whole key if it has no star."""
    middle: tuple[str, ...]
    last: str
    stars: bool

    def matches(self, text: str) -> bool:
        """Whether the whole of `text` matches."""
        length = len(text)
        if not self.stars:
            return length == len(self.first) and _at(self.first, text, 0)
        start, end = len(self.first), length - len(self.last)
        if start > end or not _at(self.first, text, 0) or not _at(self.last, text, end):
            return False
        for piece in self.middle:
            found = _find(piece, text, start, end)
            if found < 0:
                return False
            start = found + len(piece)
        return True

    @property
    def literals(self) -> tuple[str, ...]:
        """The pieces of plain text in the key, in order: any text that matches holds them all."""
        pieces = (piece for part in (self.first, *self.middle, self.last) for piece in part.split(ANY_CHARACTER))
        return tuple(piece for piece in pieces if piece)

    @property
    def anchored_start(self) -> bool:
        """Whether a matching text starts with the first of `literals`."""
        return bool(self.first) and not self.first.startswith(ANY_CHARACTER)

    @property
    def anchored_end(self) -> bool:
        """Whether a matching text ends with the last of `literals`."""
        last = self.last if self.stars else self.first
        return bool(last) and not last.endswith(ANY_CHARACTER)


def compile_wildcard(text: str) -> Wildcard:
    """The pattern of a key."""
    first, *rest = text.split(ANY_TEXT)
    if not rest:
        return Wildcard(first, (), "", stars=False)
    return Wildcard(first, tuple(piece for piece in rest[:-1] if piece), rest[-1], stars=True)


def _at(piece: str, text: str, start: int) -> bool:
    """Whether `piece` stands at `start`; the caller has seen to it that it fits."""
    if ANY_CHARACTER not in piece:
        return text.startswith(piece, start)
    return all(
        wanted in {ANY_CHARACTER, found} for wanted, found in zip(piece, text[start : start + len(piece)], strict=True)
    )


def _find(piece: str, text: str, start: int, end: int) -> int:
    """Where `piece` first stands in text[start:end]; -1 if nowhere."""
    if ANY_CHARACTER not in piece:
        return text.find(piece, start, end)
    for position in range(start, end - len(piece) + 1):
        if _at(piece, text, position):
            return position
    return -1
