"""`glimpse search`: find people from the command line."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glimpse.cli.boundary import complain
from glimpse.cli.connection import DEFAULT_SERVER, Ca, Cert, Key, Server, connect
from glimpse.cli.filters import parse_box, parse_filter, parse_weights
from glimpse.cli.names import Names, identity

if TYPE_CHECKING:
    from glimpse.client import Client, GlimpseError, Query, SearchResult

ITEMS, RANKING, OUTPUT = "Which items", "How to rank", "Output"


class Mode(StrEnum):
    """How the ranking is computed."""

    AUTO = "auto"
    EXACT = "exact"
    FAST = "fast"


@dataclass(frozen=True)
class Asked:
    """One query of the command: its name on the screen, its image if there is one, its person if known."""

    label: str
    query: Query
    image: Path | None
    person_id: str


def search(
    gallery: Annotated[str, typer.Argument(help="Name of the gallery.", metavar="GALLERY")],
    images: Annotated[list[Path] | None, typer.Argument(metavar="IMAGE", help="One query an image.")] = None,
    item_id: Annotated[
        list[str] | None, typer.Option("--item-id", metavar="ID", help="Query by an item of the gallery; repeatable.")
    ] = None,
    tracklet: Annotated[bool, typer.Option("--tracklet", help="All images show one person: one query.")] = False,
    box: Annotated[str, typer.Option(metavar="X,Y,W,H", help="Crop of the image, in pixels.")] = "",
    camera: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Only this camera; repeatable.", rich_help_panel=ITEMS)
    ] = None,
    person: Annotated[
        list[str] | None, typer.Option(metavar="ID", help="Only this person; repeatable.", rich_help_panel=ITEMS)
    ] = None,
    after: Annotated[str, typer.Option(metavar="TIME", help="Captured at or after.", rich_help_panel=ITEMS)] = "",
    before: Annotated[str, typer.Option(metavar="TIME", help="Captured before.", rich_help_panel=ITEMS)] = "",
    attribute: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Items with this attribute; repeatable.", rich_help_panel=ITEMS),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE,...",
            help="Remove items that match all of: person=7,camera=c1; repeatable.",
            rich_help_panel=ITEMS,
        ),
    ] = None,
    top_k: Annotated[
        int, typer.Option("--top-k", "-k", min=1, max=1000, help="Matches wanted.", rich_help_panel=RANKING)
    ] = 10,
    part: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PART=WEIGHT", help="Rank by these parts only, e.g. upper=1; repeatable.", rich_help_panel=RANKING
        ),
    ] = None,
    min_joint: Annotated[
        float, typer.Option(min=0, max=1, help="Leave out pairs that share less evidence.", rich_help_panel=RANKING)
    ] = 0.0,
    mode: Annotated[Mode, typer.Option(help="How the ranking is computed.", rich_help_panel=RANKING)] = Mode.AUTO,
    include_incomparable: Annotated[
        bool,
        typer.Option("--include-incomparable", help="Fill up with items that share no part.", rich_help_panel=RANKING),
    ] = False,
    purpose: Annotated[str, typer.Option(help="Why you search, for the audit trail.")] = "",
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what each part said.", rich_help_panel=OUTPUT)
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=OUTPUT)] = False,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Save a picture of the ranking.", rich_help_panel=OUTPUT)
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option(
            "--images", metavar="FOLDER", help="For --save: where the indexed images are.", rich_help_panel=OUTPUT
        ),
    ] = None,
    names: Annotated[
        Names, typer.Option(help="How a query's file name tells its person.", rich_help_panel=OUTPUT)
    ] = Names.MARKET,
    server: Server = DEFAULT_SERVER,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Find people in a gallery by images of them, however partly hidden.

    Exit code 1 when a query failed.

    Example: glimpse search lobby query.jpg --top-k 5 --explain --save results.png
    """
    from glimpse.client import Query

    images, item_ids = images or [], item_id or []
    if not images and not item_ids:
        raise typer.BadParameter("name an IMAGE or an --item-id")
    wanted = [
        *(("camera", value) for value in camera or ()),
        *(("person", value) for value in person or ()),
        *(("attribute", value) for value in attribute or ()),
        *((name, value) for name, value in (("after", after), ("before", before)) if value),
    ]
    options: dict[str, Any] = {
        "top_k": top_k,
        "filter": parse_filter(wanted, exclude or ()),
        "part_weights": parse_weights(part or ()),
        "min_joint_visibility": min_joint,
        "mode": mode.value,
        "include_incomparable": include_incomparable,
        "purpose": purpose,
        "explain": explain or save is not None,
    }
    if box and (tracklet or not images):
        raise typer.BadParameter("--box crops one image; it cannot be used with --tracklet or --item-id")
    asked: list[Asked] = []
    if tracklet and images:
        person_id = identity(images[0], names).person_id
        label = f"{images[0].name} and {len(images) - 1} more"
        asked.append(Asked(label, Query(tracklet=images, **options), images[0], person_id))
    else:
        region = parse_box(box) if box else None
        for path in images:
            query = Query(image=path, box=region, **options)
            asked.append(Asked(path.name, query, path, identity(path, names).person_id))
    asked += [Asked(f"item {name}", Query(item_id=name, **options), None, "") for name in item_ids]
    with connect(server, ca, cert, key) as glimpse:
        answers = list(glimpse.search_many(gallery, [entry.query for entry in asked]))
        failed = _report(asked, answers, explain, as_json)
        if save is not None:
            _save(glimpse, gallery, asked, answers, folder, save)
    if failed:
        raise typer.Exit(1)


def _report(asked: list[Asked], answers: list[SearchResult | GlimpseError], explain: bool, as_json: bool) -> int:
    """Prints the answers; how many queries failed."""
    from rich.console import Console

    from glimpse.cli.ranking import print_ranking
    from glimpse.client import GlimpseError

    if as_json:
        typer.echo(json.dumps({"queries": [_as_json(e, a) for e, a in zip(asked, answers, strict=True)]}, indent=2))
    failed = 0
    console = Console()
    for entry, answer in zip(asked, answers, strict=True):
        if isinstance(answer, GlimpseError):
            failed += 1
            complain(f"{entry.label}: {answer.message}")
        elif not as_json:
            if len(asked) > 1 and entry is not asked[0]:
                console.print()
            print_ranking(console, entry.label, answer, person_id=entry.person_id, explain=explain)
    return failed


def _as_json(entry: Asked, answer: SearchResult | GlimpseError) -> dict[str, Any]:
    from glimpse.client import GlimpseError

    if isinstance(answer, GlimpseError):
        return {"query": entry.label, "error": {"code": answer.code, "message": answer.message}}
    matches = []
    for match in answer:
        row = asdict(match)
        row["captured_at"] = match.captured_at.isoformat() if match.captured_at else None
        matches.append(row)
    return {
        "query": entry.label,
        "visibility": answer.query,
        "model": f"{answer.model.name} {answer.model.version}" if answer.model else None,
        "exact": answer.exact,
        "sequence": answer.sequence,
        "timings": asdict(answer.timings),
        "matches": matches,
    }


def _save(
    glimpse: Client,
    gallery: str,
    asked: list[Asked],
    answers: list[SearchResult | GlimpseError],
    folder: Path | None,
    save: Path,
) -> None:
    from glimpse.cli.pictured import item_images, query_image
    from glimpse.client import GlimpseError
    from glimpse.pictures.ranking import Row, save_picture

    rows = []
    for entry, answer in zip(asked, answers, strict=True):
        if isinstance(answer, GlimpseError):
            continue
        shown = answer[:10]
        rows.append(
            Row(
                label=entry.label,
                person_id=entry.person_id,
                image=query_image(glimpse, gallery, entry.query),
                visibility=answer.query,
                matches=shown,
                images=item_images(glimpse, gallery, [match.item_id for match in shown], folder),
            )
        )
    if rows:
        save_picture(save, rows, title=f"Gallery {gallery}")
        typer.echo(f"saved {save}", err=True)
