"""Settings: where they come from, which one wins, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ByteSize

from fastarchive import settings
from fastarchive.dicom import charsets
from fastarchive.setting_values import Peer, QueryLimits, size_text
from fastarchive.settings import Settings, SettingsError, load
from fastarchive.settings_reference import default_text, reference

DEFINED_TERMS = sorted(set(charsets._TERMS.values()) - {"ISO 2022 IR 192"})
REPOSITORY = Path(__file__).parents[1]


def problems(
    options: dict[str, object] | None = None, environ: dict[str, str] | None = None, config: Path | None = None
) -> str:
    with pytest.raises(SettingsError) as caught:
        load(options, environ=environ or {}, config=config)
    return str(caught.value)


def test_defaults_need_nothing() -> None:
    loaded = load(environ={})
    assert loaded.ae_title == "FASTARCHIVE"
    assert (loaded.host, loaded.dicom_port, loaded.http_port) == ("127.0.0.1", 11112, 8080)
    assert 1 <= loaded.workers <= 4


def test_option_beats_environment_beats_file(tmp_path: Path) -> None:
    config = tmp_path / "fastarchive.toml"
    config.write_text('ae_title = "FILE"\nworkers = 1\ndicom_port = 1\n')
    environ = {"FASTARCHIVE_WORKERS": "2", "FASTARCHIVE_DICOM_PORT": "2", "HOME": "/"}
    loaded = load({"dicom_port": 3, "http_port": None}, environ=environ, config=config)
    assert (loaded.ae_title, loaded.workers, loaded.dicom_port, loaded.http_port) == ("FILE", 2, 3, 8080)


def test_environment_may_name_the_file(tmp_path: Path) -> None:
    config = tmp_path / "fastarchive.toml"
    config.write_text('[peers]\nSCP = "127.0.0.1:104"\n')
    assert load(environ={"FASTARCHIVE_CONFIG": str(config)}).peers == {"SCP": Peer("127.0.0.1", 104)}


@pytest.mark.parametrize("given_peers", [["A=h:1", "B=[::1]:2"], "A=h:1,B=[::1]:2", {"A": "h:1", "B": "[::1]:2"}])
def test_peers_in_every_form(given_peers: object) -> None:
    assert load({"peers": given_peers}, environ={}).peers == {"A": Peer("h", 1), "B": Peer("::1", 2)}


def test_sizes_take_units() -> None:
    assert load(environ={"FASTARCHIVE_RESERVE": "2GiB"}).reserve == 2 * 2**30


def test_wrong_value_is_named_with_origin_and_what_is_allowed(tmp_path: Path) -> None:
    config = tmp_path / "fastarchive.toml"
    config.write_text("workers = 0\n")
    said = problems({"dicom_port": 70000}, {"FASTARCHIVE_LOG_LEVEL": "loud"}, config)
    assert "dicom_port = 70000 from --dicom-port is wrong; allowed: 0 (any free port) to 65535" in said
    assert 'log_level = "loud" from FASTARCHIVE_LOG_LEVEL is wrong; allowed: debug, info, warning or error' in said
    assert f"workers = 0 in {config} is wrong; allowed: 1 to 64" in said


@pytest.mark.parametrize("title", ["", "    ", "A" * 17, "A\\B", "A\tB", "É"])
def test_A7_ae_titles_that_are_none(title: str) -> None:
    assert "ae_title" in problems({"ae_title": title})


def test_A7_spaces_around_an_ae_title_mean_nothing() -> None:
    assert load({"ae_title": " CT 1 "}, environ={}).ae_title == "CT 1"


@pytest.mark.parametrize("peer", ["A", "A=", "A=h", "A=h:0", "A=h:70000", "A=h:x", "=h:1", "A=:1", "A\\=h:1"])
def test_wrong_peer_is_told(peer: str) -> None:
    said = problems({"peers": [peer]})
    assert said.startswith("peers = ")
    assert "allowed: AET=HOST:PORT" in said


def test_a_peer_given_twice_is_told() -> None:
    assert "A is given twice" in problems({"peers": ["A=h:1", "A=h:2"]})
    assert load({"peers": ["A=h:1", "A=h:1"]}, environ={}).peers == {"A": Peer("h", 1)}


@pytest.mark.parametrize(
    "given_sets",
    [
        ["CT1=GB18030", "MR=\\ISO 2022 IR 87"],
        "CT1=GB18030,MR=\\ISO 2022 IR 87",
        {"CT1": "GB18030", "MR": "\\ISO 2022 IR 87"},
    ],
)
def test_character_sets_in_every_form(given_sets: object) -> None:
    loaded = load({"character_sets": given_sets}, environ={})
    assert loaded.character_sets == {"CT1": "GB18030", "MR": "\\ISO 2022 IR 87"}
    assert settings.from_json(settings.to_json(loaded)) == loaded


@pytest.mark.parametrize("given_set", ["CT1", "CT1=", "CT1=\\", "CT1=GB-18030", "CT1=ISO_IR 99", "CT\\1=GBK"])
def test_a_character_set_that_is_none_is_told(given_set: str) -> None:
    said = problems({"character_sets": [given_set]})
    assert said.startswith("character_sets = ")
    assert "allowed: AET=TERM" in said


def test_every_defined_term_is_allowed() -> None:
    for term in DEFINED_TERMS:
        assert load({"character_sets": {"A": term}}, environ={}).character_sets == {"A": term}


def test_unknown_names_are_errors_with_the_closest_known_one(tmp_path: Path) -> None:
    config = tmp_path / "fastarchive.toml"
    config.write_text('dicomport = 1\nzebra = "x"\n')
    said = problems(environ={"FASTARCHIVE_WORKER": "2"}, config=config)
    assert f"dicomport (in {config}) is no setting; did you mean dicom_port?" in said
    assert f"zebra (in {config}) is no setting\n" in said
    assert "FASTARCHIVE_WORKER (in the environment) is no setting; did you mean FASTARCHIVE_WORKERS?" in said


def test_file_that_is_missing_or_no_toml(tmp_path: Path) -> None:
    assert "can't be read" in problems(config=tmp_path / "none.toml")
    broken = tmp_path / "broken.toml"
    broken.write_text("data = = 1")
    assert "is not TOML" in problems(config=broken)


def test_settings_travel_between_processes() -> None:
    loaded = load({"peers": ["A=h:1"], "allowed_calling_ae_titles": "CT1,CT2", "reserve": "1GiB"}, environ={})
    assert settings.from_json(settings.to_json(loaded)) == loaded


@given(st.dictionaries(st.sampled_from(list(settings.fields())), st.text(max_size=12)))
def test_any_text_is_a_setting_or_an_error(options: dict[str, str]) -> None:
    try:
        assert isinstance(load(dict(options), environ={}), Settings)
    except SettingsError as error:
        assert error.problems


def test_reference_page_is_current() -> None:
    assert (REPOSITORY / "docs" / "settings.md").read_text() == reference()


def test_every_setting_says_what_it_does_and_what_is_allowed() -> None:
    for name, field in settings.fields().items():
        assert field.description, name
        assert settings.allowed(name), name


def test_default_sizes_are_readable() -> None:
    assert default_text("seal") == "256MiB"
    assert size_text(ByteSize(1000)) == "1000"


@pytest.mark.parametrize(
    "given_limits",
    [
        {"VIEWER": {"matches": 500, "seconds": 2.5}, "AI": {"queries": 1}},
        ["VIEWER=matches:500;seconds:2.5", "AI=queries:1"],
        "VIEWER=matches:500;seconds:2.5,AI=queries:1",
    ],
)
def test_query_limits_in_every_form(given_limits: object) -> None:
    loaded = load({"query_limits": given_limits}, environ={})
    assert loaded.query_limits == {"VIEWER": QueryLimits(matches=500, seconds=2.5), "AI": QueryLimits(queries=1)}
    assert settings.from_json(settings.to_json(loaded)) == loaded


def test_query_limits_in_a_file(tmp_path: Path) -> None:
    config = tmp_path / "fastarchive.toml"
    config.write_text("[query_limits.AI]\nheaders = 0\nscanned = 100000\n")
    assert load(config=config, environ={}).query_limits == {"AI": QueryLimits(headers=0, scanned=100_000)}


@pytest.mark.parametrize(
    "wrong", ["A", "A=", "A=matches", "A=answers:5", "A=matches:-1", "A=matches:1.5", "A=matches:x", "A=seconds:nan"]
)
def test_query_limits_that_are_none_are_told(wrong: str) -> None:
    said = problems({"query_limits": [wrong]})
    assert said.startswith("query_limits = ")
    assert "allowed: AET=NAME:NUMBER" in said


def test_private_transfer_syntaxes_are_uids_that_are_not_the_standards() -> None:
    named = {"FASTARCHIVE_PRIVATE_TRANSFER_SYNTAXES": "1.2.840.113619.5.2, 1.3.46.670589.33.1.4.1"}
    loaded = settings.load(environ=named)
    assert loaded.private_transfer_syntaxes == ("1.2.840.113619.5.2", "1.3.46.670589.33.1.4.1")
    for wrong in (["1.2.840.10008.1.2"], ["1.2..3"], ["x"], 7):
        with pytest.raises(settings.SettingsError, match="private_transfer_syntaxes"):
            settings.load({"private_transfer_syntaxes": wrong}, environ={})
