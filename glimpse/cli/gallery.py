"""`glimpse gallery`: make, list, show and delete galleries."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glimpse.cli.boundary import Failure
from glimpse.cli.connection import DEFAULT_SERVER, Ca, Cert, Key, Server, connect
from glimpse.cli.quantities import parse_duration, size

if TYPE_CHECKING:
    from glimpse.client import Client, GalleryInfo, GalleryStats

gallery = typer.Typer(name="gallery", help="Make, list, show and delete galleries.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="GALLERY", help="Name of the gallery.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@gallery.command()
def create(
    name: Name,
    keep_images: Annotated[
        bool, typer.Option("--keep-images", help="Keep each image beside its features (pictures need it).")
    ] = False,
    retention: Annotated[str, typer.Option(metavar="TIME", help="Delete items that are older, e.g. 30d or 12h.")] = "",
    require_purpose: Annotated[
        bool, typer.Option("--require-purpose", help="Refuse searches that state no purpose.")
    ] = False,
    latency_target: Annotated[
        str, typer.Option(metavar="TIME", help="Search time that mode auto aims for, e.g. 50ms.")
    ] = "",
    compact: Annotated[
        bool, typer.Option("--compact", help="Keep a quarter as much in memory; mode auto is then fast.")
    ] = False,
    server: Server = DEFAULT_SERVER,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Make an empty gallery, bound to the server's model.

    Example: glimpse gallery create lobby --keep-images --retention 30d
    """
    keep_for = parse_duration(retention) if retention else None
    target = parse_duration(latency_target) if latency_target else None
    with connect(server, ca, cert, key) as glimpse:
        made = glimpse.create_gallery(
            name,
            keep_images=keep_images,
            retention=keep_for,
            require_purpose=require_purpose,
            latency_target=target,
            compact=compact,
        )
    typer.echo(f"created gallery {made.name!r}")


@gallery.command("list")
def list_galleries(
    as_json: AsJson = False, server: Server = DEFAULT_SERVER, ca: Ca = None, cert: Cert = None, key: Key = None
) -> None:
    """List all galleries.

    Example: glimpse gallery list
    """
    with connect(server, ca, cert, key) as glimpse:
        found = glimpse.galleries()
    if as_json:
        typer.echo(json.dumps([_as_json(entry) for entry in found], indent=2))
        return
    if not found:
        typer.echo("no galleries; make one with `glimpse index GALLERY FOLDER`")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("gallery", box=None, header_style="bold", pad_edge=False)
    for heading in ("items", "size"):
        table.add_column(heading, justify="right")
    table.add_column("images")
    table.add_column("model")
    for entry in found:
        table.add_row(
            entry.name,
            f"{entry.items:,}",
            size(entry.bytes),
            "kept" if entry.keep_images else "not kept",
            _model(entry),
        )
    Console().print(table)


@gallery.command()
def show(
    name: Name,
    as_json: AsJson = False,
    server: Server = DEFAULT_SERVER,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Show what a gallery holds.

    Example: glimpse gallery show lobby
    """
    with connect(server, ca, cert, key) as glimpse:
        found = glimpse.gallery(name)
        index = _index(glimpse, found.name)
    if as_json:
        typer.echo(json.dumps(_as_json(found) | {"index": asdict(index) if index else None}, indent=2))
        return
    rows = {
        "gallery": found.name,
        "items": f"{found.items:,} ({size(found.bytes)})",
        "sequence": str(found.sequence),
        "model": _model(found),
        "parts": found.schema.describe(),
        "prior": f"{found.schema.prior:g}",
        "images": "kept" if found.keep_images else "not kept",
        "retention": str(found.retention) if found.retention else "none",
        "purpose": "required" if found.require_purpose else "optional",
        "latency target": str(found.latency_target) if found.latency_target else "none",
        "kept in memory": "compact codes" if found.compact else "codes for exact searches",
        "created": found.created_at.strftime("%Y-%m-%d %H:%M:%S UTC") if found.created_at else "unknown",
    }
    if index:
        rows |= {
            "memory": size(index.memory_bytes),
            "segments": f"{index.segments:,} ({size(index.disk_bytes)} on disk)",
            "tombstones": f"{index.tombstones:,}",
            "patterns": f"{index.patterns:,} of visible parts",
            "fast recall": "not sampled yet" if index.fast_recall is None else f"{index.fast_recall:.3f}",
        }
    width = max(map(len, rows))
    for label, value in rows.items():
        typer.echo(f"{label:<{width}}  {value}")


@gallery.command()
def delete(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: Server = DEFAULT_SERVER,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Delete a gallery and everything in it.

    Example: glimpse gallery delete lobby --yes
    """
    with connect(server, ca, cert, key) as glimpse:
        found = glimpse.gallery(name)
        if not yes and not typer.confirm(f"Delete gallery {name!r} with {found.items:,} items?"):
            raise Failure("nothing was deleted")
        deleted = glimpse.delete_gallery(name)
    typer.echo(f"deleted gallery {name!r} and {deleted:,} items")


def _model(found: GalleryInfo) -> str:
    return f"{found.model.name} {found.model.version}" if found.model else "features only"


def _index(glimpse: Client, name: str) -> GalleryStats | None:
    """The figures of a gallery's index; None for who may not see them."""
    from glimpse.client import PermissionDenied

    try:
        return next((entry for entry in glimpse.stats().galleries if entry.gallery == name), None)
    except PermissionDenied:
        return None


def _as_json(found: GalleryInfo) -> dict[str, Any]:
    entry = asdict(found)
    for field in ("retention", "latency_target"):
        value = getattr(found, field)
        entry[f"{field}_seconds"] = value.total_seconds() if value else None
        del entry[field]
    entry["created_at"] = found.created_at.isoformat() if found.created_at else None
    return entry
