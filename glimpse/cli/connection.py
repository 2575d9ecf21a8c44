"""The options of every command that talks to a server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from glimpse.client import Client

PANEL = "Connection"
DEFAULT_SERVER = "localhost:50051"

Server = Annotated[
    str,
    typer.Option("--server", metavar="HOST:PORT", envvar="GLIMPSE_SERVER", help="The server.", rich_help_panel=PANEL),
]
Ca = Annotated[
    Path | None,
    typer.Option(
        "--ca", envvar="GLIMPSE_CA", help="PEM file that signed the server's certificate.", rich_help_panel=PANEL
    ),
]
Cert = Annotated[
    Path | None,
    typer.Option("--cert", envvar="GLIMPSE_CERT", help="PEM certificate of this client.", rich_help_panel=PANEL),
]
Key = Annotated[
    Path | None, typer.Option("--key", envvar="GLIMPSE_KEY", help="PEM key of this client.", rich_help_panel=PANEL)
]


def connect(server: str, ca: Path | None, cert: Path | None, key: Path | None) -> Client:
    """A client for the options above; use it as a context manager.

    A token comes from the environment alone, ``GLIMPSE_TOKEN``: other users of the machine can read command lines.
    """
    if (cert is None) != (key is None):
        raise typer.BadParameter("--cert and --key go together")
    from glimpse.client import Client

    token = os.environ.get("GLIMPSE_TOKEN", "").strip() or None
    insecure = os.environ.get("GLIMPSE_INSECURE", "").strip().lower() in ("1", "true", "yes", "on")
    try:
        return Client(server, ca=ca, cert=cert, key=key, token=token, insecure=insecure)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
