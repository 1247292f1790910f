"""DCMTK's programs, run the way people run them; what they say is read back with pydicom."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pydicom

from bench.senders import tool
from tests.server.harness import RunningArchive

ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
MODELS = {"patient root": "-P", "study root": "-S", "patient/study only": "-O"}

RECEIVE = {
    "1.2.840.10008.1.2": "+xi",
    "1.2.840.10008.1.2.1": "+xe",
    "1.2.840.10008.1.2.1.99": "+xd",
    "1.2.840.10008.1.2.2": "+xb",
    "1.2.840.10008.1.2.4.50": "+xy",
    "1.2.840.10008.1.2.4.51": "+xx",
    "1.2.840.10008.1.2.4.70": "+xs",
    "1.2.840.10008.1.2.4.80": "+xt",
    "1.2.840.10008.1.2.4.81": "+xu",
    "1.2.840.10008.1.2.4.90": "+xv",
    "1.2.840.10008.1.2.4.91": "+xw",
    "1.2.840.10008.1.2.5": "+xr",
}
"""The option of getscu that makes it prefer a transfer syntax for what it receives."""


def run(program: str, *arguments: str | Path, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
    """Run a program of DCMTK to its end; exit code unchecked, standard output and error joined."""
    return subprocess.run(
        [tool(program), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=ENVIRONMENT,
        timeout=timeout,
        check=False,
    )


def address(archive: RunningArchive) -> list[str]:
    """The arguments that say where the archive is."""
    return ["-aec", archive.ae_title, archive.host, str(archive.dicom_port)]


def keys_as_options(keys: Mapping[str, str]) -> list[str]:
    """{keyword: value} as -k options; an empty value asks for the attribute."""
    return [part for keyword, value in keys.items() for part in ("-k", f"{keyword}={value}" if value else keyword)]


def findscu(archive: RunningArchive, model: str, keys: Mapping[str, str], *options: str) -> list[pydicom.Dataset]:
    """The answers to a query, in order; model is a key of MODELS. Fails unless findscu ends well."""
    with tempfile.TemporaryDirectory(prefix="findscu-") as place:
        done = run("findscu", MODELS[model], "-X", "-od", place, *options, *keys_as_options(keys), *address(archive))
        assert done.returncode == 0, done.stdout
        return [pydicom.dcmread(path, force=True) for path in sorted(Path(place).iterdir())]


def getscu(archive: RunningArchive, model: str, keys: Mapping[str, str], transfer_syntax: str, folder: Path) -> str:
    """C-GET into a folder, bit by bit; what getscu said. Fails unless it ends well."""
    options = [MODELS[model], "-v", "+B", "-od", str(folder), RECEIVE[transfer_syntax]]
    done = run("getscu", *options, *keys_as_options(keys), *address(archive))
    assert done.returncode == 0, done.stdout
    return done.stdout


def movescu(archive: RunningArchive, model: str, keys: Mapping[str, str], destination: str) -> str:
    """C-MOVE to a destination; what movescu said. Exit code unchecked: a move that fails in part is no failure here."""
    done = run("movescu", MODELS[model], "-v", "-aem", destination, *keys_as_options(keys), *address(archive))
    return done.stdout


def association_profile(path: Path, pairs: Iterable[tuple[str, str]]) -> Sequence[str]:
    """Write a negotiation profile that proposes each (SOP class, transfer syntax) in a context of its own, so that
    nothing needs conversion; returns the options of storescu that use it."""
    pairs = sorted(set(pairs))
    syntaxes = sorted({syntax for _, syntax in pairs})
    lines = ["[[TransferSyntaxes]]"]
    for syntax in syntaxes:
        lines += [f"[T{syntaxes.index(syntax)}]", f"TransferSyntax1 = {syntax}"]
    lines += ["[[PresentationContexts]]", "[Contexts]"]
    for number, (sop_class, syntax) in enumerate(pairs, start=1):
        lines.append(f"PresentationContext{number} = {sop_class}\\T{syntaxes.index(syntax)}")
    lines += ["[[Profiles]]", "[Exact]", "PresentationContexts = Contexts"]
    path.write_text("\n".join(lines) + "\n")
    return ["-xf", str(path), "Exact"]
