"""``fastarchive echo``: does a DICOM application answer?"""

from __future__ import annotations

from typing import Annotated

import typer

from fastarchive.cli.output import fail, parse_address


def echo(
    address: Annotated[str, typer.Argument(help="Whom to ask.", metavar="[AET@]HOST:PORT")],
    *,
    calling: Annotated[str, typer.Option("--calling", help="Our own AE title.", metavar="AET")] = "FASTARCHIVE",
) -> None:
    """Send a C-ECHO (Verification) and say how long the answer took.

    - `fastarchive echo ARCHIVE@127.0.0.1:11112`

    Exit codes: 0 answered with success, 1 not, 2 wrong usage.
    """
    peer = parse_address(address, "ANY-SCP")
    from fastarchive.cli import requests

    try:
        seconds = requests.echo(peer, calling)
    except requests.RequestFailed as error:
        fail(f"{peer.ae_title}@{peer.host}:{peer.port}: {error}")
    typer.echo(f"{peer.ae_title}@{peer.host}:{peer.port} answered in {seconds * 1000:.1f} ms")
