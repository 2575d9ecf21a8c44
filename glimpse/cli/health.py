"""`glimpse health`: what a container's health check runs."""

from __future__ import annotations

import typer

from glimpse.cli.connection import DEFAULT_SERVER, Ca, Cert, Key, Server, connect


def health(server: Server = DEFAULT_SERVER, ca: Ca = None, cert: Cert = None, key: Key = None) -> None:
    """Ask a server whether it can answer.

    Exit code 0 when it is SERVING, 1 otherwise.

    Example: glimpse health --server localhost:50051
    """
    with connect(server, ca, cert, key) as glimpse:
        status = glimpse.health(timeout=3)
    typer.echo(status)
    raise typer.Exit(0 if status == "SERVING" else 1)
