"""The command line without a server: help, wrong usage, settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fastarchive import __version__, settings
from fastarchive.cli import app
from fastarchive.settings_reference import reference

COMMANDS = ("serve", "import", "find", "status", "echo", "settings")


def run(*arguments: str, environ: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", **(environ or {})})


def test_help_names_every_command() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert command in result.stdout


def test_version() -> None:
    assert run("--version").stdout == f"fastarchive {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_every_command_teaches_by_example(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"fastarchive {command} " in result.stdout


def test_serve_has_an_option_for_every_setting() -> None:
    shown = run("serve", "--help").stdout
    for name in settings.fields():
        assert settings.option_name(name) + " " in shown.replace("/", " "), name


def test_serve_stops_at_a_wrong_setting_and_names_it() -> None:
    result = run("serve", "--dicom-port", "70000", environ={"FASTARCHIVE_WORKERS": "many"})
    assert result.exit_code == 2
    assert 'dicom_port = "70000" from --dicom-port is wrong; allowed: 0 (any free port) to 65535' in result.stderr
    assert 'workers = "many" from FASTARCHIVE_WORKERS is wrong; allowed: 1 to 64' in result.stderr


def test_serve_stops_at_a_wrong_peer() -> None:
    result = run("serve", "--peer", "WORKSTATION")
    assert result.exit_code == 2
    assert "from --peer is wrong" in result.stderr
    assert "allowed: AET=HOST:PORT" in result.stderr


def test_serve_stops_at_an_unknown_setting_in_the_file(tmp_path: Path) -> None:
    config = tmp_path / "fastarchive.toml"
    config.write_text("dicom_prot = 104\n")
    result = run("serve", "--config", str(config))
    assert result.exit_code == 2
    assert "did you mean dicom_port?" in result.stderr


def test_settings_shows_values_in_force() -> None:
    result = run("settings", "--json", environ={"FASTARCHIVE_AE_TITLE": "ARCHIVE"})
    assert json.loads(result.stdout)["ae_title"] == "ARCHIVE"
    assert "ae_title\tARCHIVE\tFASTARCHIVE\t" in run("settings", environ={"FASTARCHIVE_AE_TITLE": "ARCHIVE"}).stdout
    assert run("settings", "--markdown").stdout == reference()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["find", "study", "PatientName"], '"PatientName" is no key'),
        (["find", "study", "PatientName=A", "PatientName=B"], "PatientName is given twice"),
        (["find", "study", "--server", "HOST", "PatientName=A"], '"HOST" is no address'),
        (["find", "study", "--server", "A@h:1", "--data", "."], "exclude each other"),
        (["status", "--server", "h:1", "--data", "."], "exclude each other"),
        (["echo", "A\\B@127.0.0.1:104"], "is no address"),
        (["echo", "127.0.0.1:0"], "is no address"),
        (["import", "no/such/file", "--data", "."], "no/such/file does not exist"),
    ],
)
def test_wrong_usage_is_told(arguments: list[str], said: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_nobody_at_the_address_is_told() -> None:
    for arguments in (["echo", "127.0.0.1:1"], ["find", "study", "--server", "127.0.0.1:1"]):
        result = run(*arguments)
        assert result.exit_code == 1
        assert "127.0.0.1:1: Connection refused" in result.stderr, result.stderr
    result = run("status", "--server", "127.0.0.1:1")
    assert result.exit_code == 1
    assert "does not answer" in result.stderr


def test_folder_without_an_archive_is_told(tmp_path: Path) -> None:
    for arguments in (["status"], ["find", "study"]):
        result = run(*arguments, "--data", str(tmp_path / "none"))
        assert result.exit_code == 1
        assert "there is no archive in" in result.stderr
    assert not (tmp_path / "none").exists()
