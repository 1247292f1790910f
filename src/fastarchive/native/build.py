"""Compiles the C functions next to this file: ``python -m fastarchive.native``, and when a package is built.

One library for each generation of x86-64, the best one is taken at run time; elsewhere one for the machine at hand. No
Python headers are needed, only a C compiler. Without one the archive runs on its Python code.
"""

from __future__ import annotations

import os
from pathlib import Path

VERSION = 24
"""Of the functions' signatures: a library of another version, left from before, is not loaded."""
SOURCES = (
    "answers.c",
    "attributes.c",
    "blake3.c",
    "crc.c",
    "decoding.c",
    "entropy.c",
    "frames.c",
    "group.c",
    "harvest.c",
    "headers.c",
    "instance.c",
    "line.c",
    "offers.c",
    "outgoing.c",
    "pixels.c",
    "plain.c",
    "rows.c",
    "scout.c",
    "stored.c",
    "streams.c",
    "terms.c",
    "unpack.c",
)
FLAGS = ("-O3", "-std=c11", "-Wall", "-Wextra", "-fPIC", "-shared", "-pthread", "-fvisibility=hidden")
VARIANTS = {
    "baseline": (),
    "avx2": ("-march=x86-64-v3",),
    "avx512": ("-march=x86-64-v4", "-mavx512vbmi", "-mavx512vbmi2"),
}
"""What each library may use; :mod:`fastarchive.native.loading` knows which of them a machine can run."""


def file_name(variant: str) -> str:
    """Of the library for one of the variants."""
    return f"kernels-{VERSION}-{variant}.so"


class BuildError(Exception):
    """There is no compiler, or it refused."""


def build(folder: Path | None = None) -> list[Path]:
    """Compile the libraries into the folder of the sources; the files made. Raises BuildError."""
    import platform  # what loads the libraries imports this file, too, and has no use for these
    import shutil
    import subprocess

    folder = folder or Path(__file__).resolve().parent
    compiler = os.environ.get("CC") or next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), "")
    if not compiler:
        raise BuildError("there is no C compiler (apt-get install gcc libc6-dev)")
    variants = VARIANTS if platform.machine() in ("x86_64", "AMD64") else {"baseline": ()}
    made = []
    for name, flags in variants.items():
        target = folder / file_name(name)
        partial = target.with_suffix(f".{os.getpid()}")
        command = [compiler, *FLAGS, *flags, "-o", str(partial), *(str(folder / source) for source in SOURCES)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:  # CC names one that isn't there
            raise BuildError(f"{compiler} can't be run: {error.strerror}") from error
        if done.returncode:
            partial.unlink(missing_ok=True)
            if name == "baseline":
                raise BuildError(f"{compiler} refused: {done.stderr.strip()[-2000:]}")
            continue  # a compiler older than the processors
        partial.replace(target)
        made.append(target)
    return made
