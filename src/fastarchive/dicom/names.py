"""Matching person names (PS3.4 C.2.2.2.1, C.2.2.2.1.1; PS3.5 6.2.1.2).

Chosen here, where the standard leaves the choice: names match without regard to case, accents and width; a key of one
component group is compared with every group of the name, a key of several with the groups at the same places (rule
M9); trailing empty components don't count on either side (M10), so that `SMITH^*` finds a SMITH without given name.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from fastarchive.dicom.values import fold, person_name_groups
from fastarchive.dicom.wildcards import Wildcard, compile_wildcard


class NameKey:
    """One PN key, without fuzzy matching. Immutable."""

    __slots__ = ("_groups", "narrowing")

    narrowing: Wildcard
    """The group that says most: what an index may look for in any one component group of a folded name."""

    def __init__(self, text: str) -> None:
        self._groups = tuple(compile_wildcard(group) for group in _folded_groups(text))
        self.narrowing = max(self._groups, key=lambda group: sum(map(len, group.literals)))

    def matches(self, name: str) -> bool:
        """Whether one stored value matches."""
        found = _folded_groups(name)
        if len(self._groups) == 1:
            return any(_group_matches(self._groups[0], group) for group in found)
        # Groups the key leaves empty may hold anything; `*` asks for a group that is there.
        return len(found) >= len(self._groups) and all(
            wanted == _NOTHING or (group != "" and _group_matches(wanted, group))
            for wanted, group in zip(self._groups, found, strict=False)
        )


_NOTHING: Final = compile_wildcard("")


def _folded_groups(text: str) -> tuple[str, ...]:
    text = text.rstrip(" \0")
    if text.isascii() and "=" not in text and " " not in text and "\0" not in text:
        group = text.lower().rstrip("^")  # what the line below comes to for most names
        return (group,) if group else ()
    return tuple(fold(group) for group in person_name_groups(text))


def _group_matches(wanted: Wildcard, group: str) -> bool:
    if wanted.matches(group):
        return True
    # The empty components that the stored form leaves out may be spelt out in the key.
    missing = sum(piece.count("^") for piece in wanted.literals) - group.count("^")
    return missing > 0 and wanted.matches(group + "^" * missing)


_WORDS: Final = re.compile(r"[^\W_]+")
# The consonant classes of Soundex; vowels, h, w and y only separate.
_SOUND: Final = {
    letter: digit
    for digit, letters in {"1": "bfpv", "2": "cgjkqsxz", "3": "dt", "4": "l", "5": "mn", "6": "r"}.items()
    for letter in letters
}


def fuzzy_name_test(text: str) -> Callable[[str], bool]:
    """A test for names that sound like `text` (rule M22, negotiated only).

    Each word of the key must have its like among the words of the name, in any place and order: a word that begins
    with it, or, in Latin script, one of the same sound after Soundex, in which here the first letter too only counts
    by its class (`Christensen` = `Kristensen`). Case, accents and width don't count; wild cards say nothing more.
    """
    wanted = _words(text)

    def sounds_alike(name: str) -> bool:
        found = _words(name)
        return all(any(_alike(word, other) for other in found) for word in wanted)

    return sounds_alike


def _words(name: str) -> list[str]:
    return _WORDS.findall(fold(name))


def _alike(wanted: str, found: str) -> bool:
    return found.startswith(wanted) or (
        len(wanted) > 1 and wanted.isascii() and found.isascii() and sound_of(wanted) == sound_of(found)
    )


@lru_cache(maxsize=4096)
def sound_of(word: str) -> str:
    """Four digits for the sound of a lower case Latin word; figures in it stand for themselves."""
    digits: list[str] = []
    previous = ""
    for letter in word:
        digit = _SOUND.get(letter, letter if letter.isdigit() else "0")
        if digit == "0" and letter in "hw":
            continue  # letters of one class around h and w count as one
        if digit != previous and (digit != "0" or not digits):
            digits.append(digit)
        previous = digit
    return "".join(digits)[:4].ljust(4, "0")
