"""`glimpse erase`, `glimpse snapshot`, `glimpse alias` and `glimpse migrate`."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from glimpse.cli.boundary import Failure
from glimpse.cli.connection import DEFAULT_SERVER, Ca, Cert, Key, Server, connect
from glimpse.cli.filters import parse_filter
from glimpse.cli.quantities import size

if TYPE_CHECKING:
    from glimpse.client import MigrationInfo

snapshot = typer.Typer(name="snapshot", help="Make, list, restore and delete snapshots.", no_args_is_help=True)
alias = typer.Typer(name="alias", help="Names that stand for galleries.", no_args_is_help=True)

Gallery = Annotated[str, typer.Argument(metavar="GALLERY", help="Name of the gallery.")]
Snapshot = Annotated[str, typer.Argument(metavar="SNAPSHOT", help="Name of the snapshot.")]
Alias = Annotated[str, typer.Argument(metavar="ALIAS", help="The name that stands for a gallery.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def erase(
    gallery: Annotated[str, typer.Option(help="In this gallery; without it in all.")] = "",
    item: Annotated[list[str], typer.Option(metavar="ID", help="This item; may be given again.")] = [],  # noqa: B006
    person: Annotated[list[str], typer.Option(metavar="ID", help="All of this person; may be given again.")] = [],  # noqa: B006
    where: Annotated[
        list[str],
        typer.Option(metavar="KEY=VALUE", help="What matches all of these: camera=, after=, before=, attribute=k=v."),
    ] = [],  # noqa: B006
    yes: Yes = False,
    as_json: AsJson = False,
    server: Server = DEFAULT_SERVER,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Erase people from everything that the server keeps, its snapshots included. Needs the role admin.

    Example: glimpse erase --person 0042 --yes
    """
    conditions = []
    for entry in where:
        name, separator, value = entry.partition("=")
        if not separator or not name or not value:
            raise typer.BadParameter(f"--where {entry!r}: expected KEY=VALUE")
        conditions.append((name, value))
    chosen = parse_filter(conditions, [])
    if not (item or person or chosen):
        raise typer.BadParameter("say whom to erase: --item, --person or --where")
    place = f"gallery {gallery!r}" if gallery else "every gallery"
    if not yes and not typer.confirm(f"Erase for good from {place} and all snapshots?"):
        raise Failure("nothing was erased")
    with connect(server, ca, cert, key) as glimpse:
        report = glimpse.erase(gallery, item_ids=item, person_ids=person, filter=chosen)
    if as_json:
        typer.echo(json.dumps(asdict(report), indent=2))
        return
    for name, count in report.erased.items():
        typer.echo(f"{name}: {count:,} items erased")
    if not report.erased:
        typer.echo("no gallery had any of them")
    typer.echo(f"snapshots: {report.from_snapshots:,} items taken out")
    for path, action in report.files:
        typer.echo(f"  {path}: {action}")


@snapshot.command("create")
def create_snapshot(
    gallery: Gallery,
    name: Annotated[str, typer.Option(help="Its name; by default the gallery's and the time.")] = "",
    server: Server = DEFAULT_SERVER,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Write a gallery to a file in the server's data folder, while it goes on. Needs the role admin.

    Example: glimpse snapshot create lobby
    """
    with connect(server, ca, cert, key) as glimpse:
        made = glimpse.create_snapshot(gallery, name)
    typer.echo(f"{made.name}: {made.items:,} items as of write {made.sequence}, {size(made.bytes)}")
    typer.echo(f"sha256 {made.sha256}")


@snapshot.command("list")
def list_snapshots(
    as_json: AsJson = False, server: Server = DEFAULT_SERVER, ca: Ca = None, cert: Cert = None, key: Key = None
) -> None:
    """List the snapshots. Needs the role admin.

    Example: glimpse snapshot list
    """
    with connect(server, ca, cert, key) as glimpse:
        found = glimpse.snapshots()
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=2, default=str))
        return
    if not found:
        typer.echo("no snapshots; make one with `glimpse snapshot create GALLERY`")
    for each in found:
        what = each.damage or f"{each.gallery}, {each.items:,} items as of write {each.sequence}"
        typer.echo(f"{each.name}  {size(each.bytes)}  {what}")


@snapshot.command("delete")
def delete_snapshot(
    name: Snapshot, server: Server = DEFAULT_SERVER, ca: Ca = None, cert: Cert = None, key: Key = None
) -> None:
    """Delete a snapshot. Needs the role admin.

    Example: glimpse snapshot delete lobby-before
    """
    with connect(server, ca, cert, key) as glimpse:
        glimpse.delete_snapshot(name)
    typer.echo(f"deleted snapshot {name!r}")


@snapshot.command("restore")
def restore_snapshot(
    name: Snapshot,
    into: Annotated[str, typer.Option(help="Name of the gallery; by default that of the snapshot's.")] = "",
    replace: Annotated[bool, typer.Option("--replace", help="A gallery of that name gives way.")] = False,
    any_model: Annotated[bool, typer.Option("--any-model", help="Take features of another model too.")] = False,
    server: Server = DEFAULT_SERVER,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Make a gallery of a snapshot, in one step, without those who were erased since. Needs the role admin.

    Example: glimpse snapshot restore lobby-before --into lobby-again
    """
    with connect(server, ca, cert, key) as glimpse:
        done = glimpse.restore_snapshot(name, into, replace=replace, any_model=any_model)
    typer.echo(f"restored gallery {done.gallery.name!r} with {done.gallery.items:,} items")
    if done.left_out:
        typer.echo(f"{done.left_out:,} items were erased since and stay erased")
    if done.replaced:
        typer.echo(f"the {done.replaced:,} items that it had are gone")


@alias.command("set")
def set_alias(
    name: Alias,
    gallery: Gallery,
    server: Server = DEFAULT_SERVER,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Make a name stand for a gallery, or move it there. Needs the role admin.

    Example: glimpse alias set entrance lobby-2
    """
    with connect(server, ca, cert, key) as glimpse:
        before = glimpse.set_alias(name, gallery)
    typer.echo(f"{name} -> {gallery}" + (f" (before: {before})" if before else ""))


@alias.command("list")
def list_aliases(server: Server = DEFAULT_SERVER, ca: Ca = None, cert: Cert = None, key: Key = None) -> None:
    """List the aliases.

    Example: glimpse alias list
    """
    with connect(server, ca, cert, key) as glimpse:
        found = glimpse.aliases()
    for name, gallery in found.items():
        typer.echo(f"{name} -> {gallery}")
    if not found:
        typer.echo("no aliases; make one with `glimpse alias set ALIAS GALLERY`")


@alias.command("delete")
def delete_alias(
    name: Alias, server: Server = DEFAULT_SERVER, ca: Ca = None, cert: Cert = None, key: Key = None
) -> None:
    """Delete an alias; its gallery stays. Needs the role admin.

    Example: glimpse alias delete entrance
    """
    with connect(server, ca, cert, key) as glimpse:
        glimpse.delete_alias(name)
    typer.echo(f"deleted alias {name!r}")


def migrate(
    gallery: Annotated[str, typer.Argument(metavar="GALLERY", help="The gallery, or an alias of it.")],
    into: Annotated[str, typer.Option(help="Name of the new gallery.")],
    as_alias: Annotated[str, typer.Option("--alias", help="What is moved in the end; by default GALLERY.")] = "",
    wait: Annotated[bool, typer.Option(help="Show progress until it is done.")] = True,
    server: Server = DEFAULT_SERVER,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Embed the kept images of a gallery under the served model into a new one, then move the alias.

    Searches go on meanwhile; what was interrupted goes on when the command is given again. Needs the role admin.

    Example: glimpse migrate entrance --into lobby-2
    """
    with connect(server, ca, cert, key) as glimpse:
        state = glimpse.migrate_gallery(gallery, into, as_alias)
        while wait and state.state == "running":
            typer.echo(f"\r{state.done:,} of {state.items:,} items", nl=False, err=True)
            time.sleep(0.5)
            state = next(each for each in glimpse.migrations() if each.into == into)
    if wait:
        typer.echo("", err=True)
    _tell(state)


def _tell(state: MigrationInfo) -> None:
    if state.state == "failed":
        raise Failure(f"the migration into {state.into!r} stopped: {state.error}. Give the command again to go on")
    if state.state == "running":
        typer.echo(f"{state.into!r} is being filled; {state.alias!r} stands for {state.gallery!r} until it is done")
        return
    typer.echo(f"{state.alias!r} stands for {state.into!r} now, with {state.done:,} items")
    if state.left_behind:
        names = ", ".join(state.left_behind_ids[:5])
        typer.echo(f"{state.left_behind:,} items have no usable image and were left behind: {names}, ...")
