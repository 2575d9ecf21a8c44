"""`glimpse token`: who may call the server of a data folder. Works on the folder, whether or not the server runs."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glimpse.cli.quantities import parse_duration

if TYPE_CHECKING:
    from server.security.credentials import AccessFile, Grant

token = typer.Typer(
    name="token", help="Make, list and revoke the credentials of a data folder's server.", no_args_is_help=True
)

Data = Annotated[
    Path | None,
    typer.Option("--data", envvar="GLIMPSE_DATA", help="Folder of the galleries, as for `glimpse serve`."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@token.command()
def create(
    role: Annotated[str, typer.Option(help="reader (search, get, list), indexer (and change items) or admin (all).")],
    gallery: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Limit it to this gallery; may be repeated.")
    ] = None,
    certificate: Annotated[
        str, typer.Option(metavar="CN=NAME", help="Grant it to client certificates of this CN= or SAN=, not a token.")
    ] = "",
    expires: Annotated[str, typer.Option(metavar="TIME", help="Ends after this time, e.g. 90d or 12h.")] = "",
    note: Annotated[str, typer.Option(help="What it is for; shown by `list`.")] = "",
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, this once: the server keeps its hash only.

    A running server takes it within a second. The first one makes the server ask every caller for one.

    Example: glimpse token create --role reader --gallery lobby --expires 90d --note "front desk"
    """
    from server.security.roles import Role

    try:
        chosen = Role.named(role)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    lifetime = parse_duration(expires).total_seconds() if expires else None
    file = _file(data)
    first = file.stamp() is None
    grant, secret = file.create(
        chosen,
        galleries=tuple(dict.fromkeys(gallery)) if gallery else None,
        certificate=certificate or None,
        lifetime=lifetime,
        note=note,
    )
    if as_json:
        typer.echo(json.dumps({**_as_json(grant), **({"token": secret} if secret else {})}, indent=2))
    elif secret:
        typer.echo(secret)
        typer.secho(f"id {grant.id}; it is not shown again. Use it as GLIMPSE_TOKEN.", err=True)
    else:
        typer.echo(f"{certificate} may call as {role}; id {grant.id}")
    if first:
        typer.secho("From now on a server on this folder asks every caller for credentials.", err=True)


@token.command("list")
def list_tokens(data: Data = None, as_json: AsJson = False) -> None:
    """List all credentials, the revoked and expired ones too; never a secret.

    Example: glimpse token list
    """
    grants = _file(data).read()
    if as_json:
        typer.echo(json.dumps([_as_json(grant) for grant in grants], indent=2))
        return
    if not grants:
        typer.echo("no credentials; make one with `glimpse token create --role reader`")
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    now = time.time()
    table = Table("id", "role", "galleries", "state", "expires", "credential", "note", box=None, header_style="bold")
    for grant in grants:
        table.add_row(
            grant.id,
            grant.role,
            "all" if grant.galleries is None else ", ".join(grant.galleries),
            grant.state(now),
            "never" if grant.expires_at is None else _moment(grant.expires_at)[:10],
            escape(grant.certificate or "token"),
            escape(grant.note),
        )
    Console().print(table)


@token.command()
def revoke(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")], data: Data = None
) -> None:
    """End a token or the grant of a certificate; a running server refuses it within a second.

    Example: glimpse token revoke 3Fh9QxLm
    """
    grant = _file(data).revoke(identifier)
    typer.echo(f"{grant.name} is revoked")


def _file(data: Path | None) -> AccessFile:
    from server.security.credentials import AccessFile
    from server.settings import default_data

    return AccessFile(data or default_data())


def _as_json(grant: Grant) -> dict[str, Any]:
    times = ("created_at", "expires_at", "revoked_at")
    entry = grant.model_dump(exclude={"digest", *times})
    entry["state"] = grant.state(time.time())
    return {**entry, **{name: _moment(value) if (value := getattr(grant, name)) else None for name in times}}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
