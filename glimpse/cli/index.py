"""`glimpse index`: images of a folder or manifest into a gallery."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glimpse.cli.boundary import Failure, complain
from glimpse.cli.connection import DEFAULT_SERVER, Ca, Cert, Key, Server, connect
from glimpse.cli.names import Names
from glimpse.cli.sources import Refusal, Source, listing

if TYPE_CHECKING:
    from glimpse.client import Client, Item

SHOWN = 10
"""Refusals printed; the report has them all."""


@dataclass
class Outcome:
    """What became of the images of one run."""

    stored: int = 0
    refused: list[Refusal] = field(default_factory=list)


def index(
    gallery: Annotated[str, typer.Argument(metavar="GALLERY", help="Name of the gallery; made if it is missing.")],
    target: Annotated[
        Path, typer.Argument(metavar="FOLDER|MANIFEST", help="Folder of images, or a .csv or .jsonl manifest.")
    ],
    names: Annotated[
        Names,
        typer.Option(
            help="How a folder's names tell person and camera: market is 0002_c1s1_000451_03.jpg, "
            "folder is one sub-folder a person."
        ),
    ] = Names.MARKET,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Skip items that the gallery already holds.")
    ] = True,
    keep_images: Annotated[
        bool, typer.Option("--keep-images", help="If the gallery is made: keep the images beside the features.")
    ] = False,
    report: Annotated[Path | None, typer.Option(metavar="FILE.json", help="Write what was refused and why.")] = None,
    server: Server = DEFAULT_SERVER,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
) -> None:
    """Index images of people; run it again to go on where it stopped.

    A manifest has the columns path (relative to the manifest), item_id, person_id, camera_id and captured_at
    (ISO 8601); only path is needed, and other columns become attributes. Exit code 1 when any image was refused.

    Example: glimpse index lobby ./crops --names folder --report refused.json
    """
    found = listing(target, names)
    if not found.sources and not found.refused:
        raise Failure(f"{target} holds no images (.jpg, .jpeg, .png, .webp, .bmp)")
    with connect(server, ca, cert, key) as glimpse:
        if _make_gallery(glimpse, gallery, keep_images):
            typer.echo(f"created gallery {gallery!r}", err=True)
            present = set()
        else:
            present = {item.item_id for item in glimpse.list_items(gallery)} if resume else set()
        waiting = [source for source in found.sources if source.item_id not in present]
        skipped = len(found.sources) - len(waiting)
        begin = time.monotonic()
        outcome = upload(glimpse, gallery, waiting, f"index {gallery}")
    seconds = time.monotonic() - begin
    outcome.refused[:0] = found.refused
    typer.echo(_summary(gallery, outcome, skipped, found.passed_over, seconds))
    if report is not None:
        document = {
            "gallery": gallery,
            "stored": outcome.stored,
            "skipped": skipped,
            "refused": [asdict(refusal) for refusal in outcome.refused],
            "seconds": round(seconds, 3),
        }
        report.write_text(json.dumps(document, indent=2) + "\n")
    if outcome.refused:
        for refusal in outcome.refused[:SHOWN]:
            complain(f"  {refusal.where}: {refusal.message}")
        if len(outcome.refused) > SHOWN:
            hint = f"see {report}" if report else "--report FILE.json writes them all"
            complain(f"  and {len(outcome.refused) - SHOWN:,} more; {hint}")
        raise typer.Exit(1)


def upload(glimpse: Client, gallery: str, sources: Iterable[Source], label: str) -> Outcome:
    """Sends images with a progress bar on stderr.

    Raises:
        Failure: the call failed midway; the message says how far it came.
    """
    from glimpse.cli.progress import progress

    sources = list(sources)
    outcome = Outcome()
    places = {source.item_id: source.path for source in sources}
    with progress(label, len(sources)) as advance:
        items = _items(sources, outcome, advance)
        from glimpse.client import GlimpseError

        try:
            for result in glimpse.upsert(gallery, items):
                if result.ok:
                    outcome.stored += 1
                else:
                    where = str(places[result.item_id])
                    outcome.refused.append(Refusal(result.item_id, where, result.code, result.message))
                advance()
        except GlimpseError as error:
            raise Failure(
                f"{error} ({outcome.stored:,} of {len(sources):,} images are stored; run the same command to go on)"
            ) from error
    return outcome


def _items(sources: Iterable[Source], outcome: Outcome, advance: Callable[[], None]) -> Iterator[Item]:
    """Items with their images read; what cannot be read is refused here."""
    from glimpse.client import Item
    from glimpse.images import ImageLimits

    limit = ImageLimits().max_bytes
    for source in sources:
        try:
            size = source.path.stat().st_size
            if size > limit:
                raise ValueError(f"the file has {size:,} bytes; at most {limit:,} are accepted")
            item = Item(
                item_id=source.item_id,
                image=source.path.read_bytes(),
                person_id=source.person_id,
                camera_id=source.camera_id,
                captured_at=source.captured_at,
                attributes=source.attributes,
            )
        except (OSError, ValueError) as error:
            message = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
            outcome.refused.append(Refusal(source.item_id, str(source.path), "LOCAL", message))
            advance()
        else:
            yield item


def _make_gallery(glimpse: Client, gallery: str, keep_images: bool) -> bool:
    """Whether the gallery had to be made."""
    from glimpse.client import NotFound

    try:
        glimpse.gallery(gallery)
    except NotFound:
        glimpse.create_gallery(gallery, keep_images=keep_images)
        return True
    return False


def _summary(gallery: str, outcome: Outcome, skipped: int, passed_over: int, seconds: float) -> str:
    rate = f" at {outcome.stored / seconds:.0f} images/s" if outcome.stored and seconds > 0 else ""
    words = [f"{gallery}: {outcome.stored:,} stored{rate}"]
    if skipped:
        words.append(f"{skipped:,} already there")
    if passed_over:
        words.append(f"{passed_over:,} files that are not images passed over")
    if outcome.refused:
        codes = Counter(refusal.code for refusal in outcome.refused)
        words.append(
            f"{len(outcome.refused):,} refused ({', '.join(f'{n} {code}' for code, n in codes.most_common())})"
        )
    return ", ".join(words)
