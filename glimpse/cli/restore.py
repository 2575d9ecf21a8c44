"""`glimpse restore`: a data folder begins anew from its snapshots, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glimpse.cli.boundary import Failure


def restore(
    data: Annotated[Path, typer.Option(help="The data folder; no server may be using it.")],
    snapshots: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SNAPSHOT]...", help="Which snapshots; by default the newest of each gallery."),
    ] = None,
) -> None:
    """Put a damaged store aside and make a new one of the snapshots in its data folder.

    A store that is not damaged is left alone: restore in a running server then, with `glimpse snapshot restore`.

    Example: glimpse restore --data ./galleries
    """
    from server.galleries.recovery import RecoveryError, recover

    try:
        recovery = recover(data, snapshots or ())
    except RecoveryError as error:
        raise Failure(str(error)) from None
    typer.echo(f"the damaged store is kept in {recovery.aside}; delete it when you need it no more")
    for name, gallery, items in recovery.galleries:
        typer.echo(f"gallery {gallery!r}: {items:,} items from snapshot {name!r}")
    for name, why in recovery.refused:
        typer.echo(f"snapshot {name!r} was not restored: {why}", err=True)
