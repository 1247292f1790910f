"""Every rule of attribute matching, and the matcher against a naive one."""

import re
import time
import unicodedata
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastarchive.dicom.matching import Matcher, Matching, MatchingError, MatchingOptions, compile_matcher
from fastarchive.dicom.values import fold, person_name_groups
from fastarchive.dicom.wildcards import compile_wildcard

TAG = 0x00100020


def compiled(vr: str, key: str, **options: bool) -> Matcher:
    return compile_matcher(TAG, vr, key, MatchingOptions(**options))


def matches(vr: str, key: str, *values: str, **options: bool) -> bool:
    return compiled(vr, key, **options).matches(values)


@pytest.mark.parametrize("vr", ["LO", "PN", "UI", "DA", "TM", "DT", "IS", "CS", "LT"])
@pytest.mark.parametrize("key", ["", " ", "\0", "  \0"])
def test_M1_a_zero_length_key_matches_everything(vr: str, key: str) -> None:
    matcher = compiled(vr, key)
    assert matcher.matching is Matching.UNIVERSAL
    assert matcher.matches([])
    assert matcher.matches(["x"])


@pytest.mark.parametrize("vr", ["LO", "SH", "CS", "AE", "LT", "UT"])
def test_M3_single_values_are_case_sensitive(vr: str) -> None:
    assert matches(vr, "Abc", "Abc")
    assert not matches(vr, "Abc", "ABC")
    assert compiled(vr, "Abc").matching is Matching.SINGLE
    assert compiled(vr, "Abc ").alternatives == ("Abc",)


def test_M3_names_are_not() -> None:
    assert matches("PN", "müller^jörg", "MULLER^JORG")
    assert matches("PN", "ﾔﾏﾀﾞ^*", "=ヤマダ^タロウ")
    assert not compiled("PN", "Müller").alternatives


def test_M4_padding_is_insignificant() -> None:
    assert matches("LO", " A ", "A")
    assert matches("LO", "A", " A ")
    assert matches("UI", "1.2\0", "1.2 ")
    assert not matches("LT", "A", " A")
    assert matches("LT", "A", "A ")


@pytest.mark.parametrize("vr", ["IS", "DS", "US", "SL", "FD"])
def test_M4_numbers_match_as_numbers(vr: str) -> None:
    assert matches(vr, "7", "007 ")
    assert matches(vr, "007", "7")
    assert not matches(vr, "7", "70")
    assert not matches(vr, "7", "seven")
    assert matches(vr, "seven", "seven")


@pytest.mark.parametrize("vr", ["UI", "IS", "DS", "AS", "US"])
def test_M5_wild_cards_are_literals_elsewhere(vr: str) -> None:
    assert not matches(vr, "1.2.*", "1.2.3")
    assert not matches(vr, "1?", "12")
    assert compiled(vr, "1*").matching is Matching.SINGLE


@pytest.mark.parametrize("vr", ["DA", "TM", "DT"])
def test_M5_wild_cards_in_dates_are_errors(vr: str) -> None:
    with pytest.raises(MatchingError) as caught:
        compiled(vr, "2024*")
    assert caught.value.tag == TAG


@pytest.mark.parametrize("vr", ["AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"])
def test_M5_wild_cards_in_text(vr: str) -> None:
    assert matches(vr, "A*C?", "ABBBCD")
    assert not matches(vr, "A*C?", "ABBBC")
    assert compiled(vr, "A*").matching is Matching.WILDCARD


@pytest.mark.parametrize("vr", ["LO", "PN", "UI", "DA", "IS"])
def test_M6_a_lone_star_matches_what_is_absent(vr: str) -> None:
    for key in ("*", "**", " * "):
        assert matches(vr, key)
        assert compiled(vr, key).matching is Matching.UNIVERSAL


def test_M6_a_star_matches_no_character_too() -> None:
    assert matches("LO", "A*", "A")
    assert matches("LO", "*A*", "A")
    assert not matches("LO", "?*", "")


@pytest.mark.parametrize("special", [*"[](){}.+%_\"'^$|/#~&", "\\d", "OR", ":", "--"])
def test_M7_every_other_character_is_literal(special: str) -> None:
    assert matches("LT", f"a{special}*", f"a{special}b")
    assert not matches("LT", f"a{special}*", "axb")
    assert matches("LT", f"a{special}b", f"a{special}b")


def test_M8_a_question_mark_is_one_character() -> None:
    assert matches("LO", "王?", "王東")
    assert matches("LO", "M?ller", "Mu\u0308ller")
    assert not matches("LO", "M??ller", "Müller")
    assert matches("PN", "王^?東", "Wang^XiaoDong=王^小東")
    assert matches("LO", "Mu\u0308ller", "Müller")


def test_M9_a_key_of_one_group_matches_any_group() -> None:
    name = "Yamada^Tarou=山田^太郎=やまだ^たろう"
    for key in ("yamada^tarou", "山田^太郎", "やまだ*", "*太郎", "山田^*"):
        assert matches("PN", key, name)
    assert not matches("PN", "Yamada*太郎", name)


def test_M9_key_groups_match_their_own_group() -> None:
    name = "Yamada^Tarou=山田^太郎"
    assert matches("PN", "yamada*=山田*", name)
    assert matches("PN", "=山田*", name)
    assert not matches("PN", "山田*=yamada*", name)
    assert not matches("PN", "yamada*=山田*=*", name)


def test_M9_stars_in_groups_are_not_universal() -> None:
    assert compiled("PN", "*=*").matching is Matching.WILDCARD
    assert matches("PN", "*=*", "A=B")
    assert not matches("PN", "*=*", "A")
    assert not matches("PN", "*=*")


@pytest.mark.parametrize("key", ["A^B", "A^B^^^", "A^B=", "A^B^^=^", "a^b"])
@pytest.mark.parametrize("value", ["A^B", "A^B^^^", "A^B=", "A ^B "])
def test_M10_trailing_empty_components_are_equal(key: str, value: str) -> None:
    assert matches("PN", key, value)


def test_M10_empty_components_in_a_wild_card_key() -> None:
    assert matches("PN", "SMITH^*", "SMITH")
    assert matches("PN", "SMITH*^*", "SMITHSON")
    assert not matches("PN", "SMITH^J*", "SMITH")
    assert not matches("PN", "SMITH", "SMITH^JOHN")


def test_M11_lists_of_uids_match_any_however_long() -> None:
    uids = [f"1.2.{number}" for number in range(5000)]
    matcher = compiled("UI", "\\".join([*uids, *uids]))
    assert matcher.matching is Matching.UID_LIST
    assert matcher.alternatives == tuple(uids)
    assert matcher.matches(["1.2.4999\0"])
    assert not matcher.matches(["1.2.5000"])
    assert compiled("UI", "1.2\\1.2").matching is Matching.SINGLE


def test_M12_multiple_values_are_all_needed_where_negotiated() -> None:
    assert matches("CS", "CT\\PT", "PT", "MR", "CT", multiple_value=True)
    assert not matches("CS", "CT\\PT", "PT", multiple_value=True)
    assert not matches("CS", "C*\\PT", "PT", "CT", multiple_value=True)
    assert matches("CS", "C*\\PT", "PT", "C*", multiple_value=True)


def test_M12_and_any_of_them_by_default() -> None:
    assert matches("CS", "MR\\CT\\US", "CT")
    assert not matches("CS", "MR\\CT\\US", "XA")
    assert matches("CS", "M*\\CT", "MG")
    assert matches("DA", "20240101\\20240301-20240331", "20240315")
    assert compiled("CS", "MR\\CT").alternatives == ("MR", "CT")
    assert compiled("CS", "M*\\CT").alternatives == ()
    assert compiled("CS", "*\\CT").matching is Matching.UNIVERSAL
    assert compiled("CS", "CT\\").matching is Matching.SINGLE
    assert compiled("LT", "a\\b").matching is Matching.SINGLE


def test_M13_any_stored_value_may_match() -> None:
    assert matches("CS", "PRIMARY", "ORIGINAL", "PRIMARY")
    assert matches("PN", "B*", "A^X", "B^Y")


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("20240101-20240131", "20240101", True),
        ("20240101-20240131", "20240131", True),
        ("20240101-20240131", "20240201", False),
        ("-20240131", "19000101", True),
        ("-20240131", "20240201", False),
        ("20240101-", "20240101", True),
        ("20240101-", "20231231", False),
        ("20240131-20240101", "20240115", False),
        ("20240101-20240131", "", False),
        ("20240101-20240131", "garbage", False),
        ("20240101", "20240101", True),
        ("20240101", "2024.01.01", True),
        ("2024.01.01-2024.01.31", "20240115", True),
    ],
)
def test_M14_M23_date_ranges(key: str, value: str, expected: bool) -> None:
    assert matches("DA", key, value) is expected


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("10-12", "125959.999999", True),
        ("10-12", "130000", False),
        ("1000-1200", "120059", True),
        ("1000-1200", "120100", False),
        ("2200-0200", "230000", False),
        ("10:00:00-11:00:00", "103000", True),
        ("10", "1030", True),
        ("103000", "103000.5", True),
        ("103000.1", "103000.2", False),
    ],
)
def test_M15_M23_time_ranges(key: str, value: str, expected: bool) -> None:
    assert matches("TM", key, value) is expected


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("20240101120000-0500", "20240101170000+0000", True),
        ("20240101120000-0500", "20240101120000+0000", False),
        ("20240101-20240201", "20240115120000", True),
        ("2024-0500", "20240101000000-0500", True),
        ("2024-0500", "20240101040000+0000", False),
        ("20240101100000-0500-20240101110000-0500", "20240101153000+0000", True),
    ],
)
def test_M16_datetime_ranges_and_offsets(key: str, value: str, expected: bool) -> None:
    assert matches("DT", key, value) is expected


@pytest.mark.parametrize(
    "vr, key",
    [("DA", "20241301"), ("DA", "-"), ("DA", "1-2-3"), ("TM", "25"), ("TM", "10-99"), ("DT", "x"), ("SQ", "")],
)
def test_Q1_keys_that_make_no_sense_are_errors(vr: str, key: str) -> None:
    with pytest.raises(MatchingError):
        compiled(vr, key)


def test_M20_two_quotation_marks_match_what_is_empty_where_negotiated() -> None:
    assert matches("LO", '""', empty_value=True)
    assert matches("LO", '""', "", " ", empty_value=True)
    assert not matches("LO", '""', "A", empty_value=True)
    assert matches("DA", '""', empty_value=True)
    assert compiled("LO", '""', empty_value=True).matching is Matching.EMPTY


def test_M20_and_themselves_otherwise() -> None:
    assert not matches("LO", '""')
    assert matches("LO", '""', '""')


@pytest.mark.parametrize(
    "vr, key", [("LO", "A"), ("LO", "A*"), ("UI", "1.2"), ("DA", "2024-2025"), ("CS", "A\\B"), ("IS", "7"), ("PN", "A")]
)
def test_M21_absent_values_match_nothing_unless_unknown_matches(vr: str, key: str) -> None:
    for values in ((), ("",), ("  ",)):
        assert not matches(vr, key, *values)
        assert matches(vr, key, *values, match_unknown=True)
    assert compiled(vr, key, match_unknown=True).match_unknown


def test_M22_fuzzy_names_where_negotiated_only() -> None:
    assert matches("PN", "Schmidt^Jon", "SMITH^JOHN", fuzzy=True)
    assert not matches("PN", "Schmidt^Jon", "SMITH^JOHN")
    assert matches("PN", "Kristensen", "Christensen^Anna", fuzzy=True)
    assert matches("PN", "Anna Christensen", "CHRISTENSEN^ANNA", fuzzy=True)
    assert matches("PN", "Mayer", "Meier^Karl", fuzzy=True)
    assert not matches("PN", "Mayer", "Smith", fuzzy=True)
    assert matches("PN", "山", "Yamada=山田^太郎", fuzzy=True)
    assert matches("PN", "SMI*", "SMITH^JOHN", fuzzy=True)
    assert compiled("PN", "Mayer", fuzzy=True).matching is Matching.FUZZY
    assert compiled("LO", "Mayer", fuzzy=True).matching is Matching.SINGLE


def test_M24_keys_may_be_longer_than_their_vr_allows() -> None:
    assert matches("SH", "A" * 500 + "*", "A" * 600)
    assert matches("DA", "\\".join(["20240101"] * 100), "20240101")


@pytest.mark.parametrize("vr", ["LO", "PN"])
def test_M7_many_stars_take_no_time(vr: str) -> None:
    started = time.perf_counter()
    assert not matches(vr, "*a" * 1000 + "*b", "a" * 20_000)
    assert not matches(vr, "*?a" * 100 + "?b", "a" * 5_000)
    assert time.perf_counter() - started < 5


# The naive matchers, for small alphabets.


def naive_wildcard(key: str, text: str) -> bool:
    pattern = "".join({"*": "(?s:.*)", "?": "(?s:.)"}.get(character, re.escape(character)) for character in key)
    return re.fullmatch(pattern, text) is not None


@given(st.text("ab*?[", max_size=8), st.text("ab[", max_size=10))
def test_M6_M7_wild_cards_as_a_naive_matcher_has_them(key: str, text: str) -> None:
    assert compile_wildcard(key).matches(text) is naive_wildcard(key, text)


ALPHABET = "abABéÉäßが\u0301ﾀﾞ ^=.*?"


def naive_single(vr: str, key: str, text: str) -> bool:
    if vr == "PN":
        wanted, found = (tuple(map(fold, person_name_groups(name))) for name in (key, text))
        if len(wanted) == 1:
            return wanted[0] in found
        return len(found) >= len(wanted) and all(
            not one or one == other for one, other in zip(wanted, found, strict=False)
        )
    return unicodedata.normalize("NFC", key.strip(" ")) == unicodedata.normalize("NFC", text.strip(" "))


@given(st.sampled_from(["LO", "PN"]), st.text(ALPHABET[:-2], max_size=6), st.text(ALPHABET[:-2], max_size=6))
def test_M3_single_values_as_a_naive_matcher_has_them(vr: str, key: str, text: str) -> None:
    if key.strip(" ^=") and text.strip(" "):
        assert matches(vr, key, text) is naive_single(vr, key, text)
        assert matches(vr, key, key)


@given(st.sampled_from(["LO", "PN", "CS", "LT"]), st.text(ALPHABET, max_size=8), st.text(ALPHABET[:-2], max_size=8))
def test_what_an_index_narrows_with_is_a_superset(vr: str, key: str, text: str) -> None:
    matcher = compiled(vr, key)
    if not matcher.matches([text]) or matcher.matching is Matching.UNIVERSAL:
        return
    if matcher.alternatives:
        assert unicodedata.normalize("NFC", text.strip(" ")) in matcher.alternatives or vr == "LT"
    if matcher.pattern:
        groups = person_name_groups(text) if vr == "PN" else [text.strip(" ")]
        assert any(in_order(matcher, fold(group)) for group in groups)


def in_order(matcher: Matcher, text: str) -> bool:
    position = 0
    for number, piece in enumerate(matcher.pattern):
        found = text.find(piece, position)
        if found < 0 or (number == 0 and matcher.anchored_start and not text.startswith(piece)):
            return False
        position = found + len(piece)
    return not matcher.anchored_end or text.rstrip("^ ").endswith(matcher.pattern[-1].rstrip("^ "))


@given(
    st.sampled_from(["LO", "PN", "UI", "DA", "TM", "DT", "IS", "CS", "UT", "AS"]),
    st.text(max_size=12),
    st.lists(st.text(max_size=8), max_size=3),
    st.booleans(),
)
def test_any_key_compiles_or_is_an_error_and_any_value_is_decided(
    vr: str, key: str, values: Sequence[str], option: bool
) -> None:
    options = MatchingOptions(fuzzy=option, empty_value=option, multiple_value=option, match_unknown=option)
    try:
        matcher = compile_matcher(TAG, vr, key, options)
    except MatchingError:
        return
    assert matcher.matches(values) in {True, False}
    assert matcher.text == key


@pytest.mark.parametrize(("key", "start", "end"), [("?=ｶ", False, False), ("=ｶ*", True, False), ("ｶ=*", False, False)])
def test_M8_a_half_width_end_taken_off_a_piece_anchors_nothing(key: str, start: bool, end: bool) -> None:
    """Half-width letters may join with what follows them when folded, so an index may not narrow by them."""
    matcher = compile_matcher(0x00100020, "LO", key)
    assert matcher.pattern == ("=",)
    assert (matcher.anchored_start, matcher.anchored_end) == (start, end)
