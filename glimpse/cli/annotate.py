"""`glimpse datasets annotate`: a user's pose or parsing model over the images of a data set."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from glimpse.cli.boundary import Failure, complain

SHOWN = 10
"""Skipped images printed; the record has them all."""


def annotate(
    data: Annotated[
        str, typer.Argument(metavar="DATA[:PATH]", help="A data set such as market1501:PATH, or a folder of images.")
    ],
    model: Annotated[
        Path, typer.Option(metavar="FILE.onnx", help="The pose or parsing model; yours, none is shipped.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where annotations go; run again to go on where it stopped.")
    ],
    adapter: Annotated[
        str, typer.Option(metavar="NAME", help="What kind of model it is: bodypix, heatmaps17 or lip20.")
    ] = "bodypix",
    match: Annotated[
        str, typer.Option(metavar="PATTERN", help="Only images whose id matches, such as 'bounding_box_train/*'.")
    ] = "*",
    part: Annotated[
        str | None,
        typer.Option(metavar="PART", help="Of a data set: train (if left out) or test, its queries and gallery."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the adapter, such as threshold=0.5; repeatable."),
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Threads; as many as there are cores if left out.")] = None,
) -> None:
    """Find the joints and body regions of people in images, for training.

    Writes DIR/regions/ID.png, DIR/keypoints/ID.json (AlphaPose's format) and DIR/annotations.json; ID is an image's
    id without its suffix. Exit code 1 when any image could not be read.

    Example: glimpse datasets annotate market1501:./market1501 --model bodypix.onnx --out ./parts
    """
    from glimpse.cli.progress import progress
    from trainer.data.listing import DatasetError
    from trainer.pose.annotation import annotate as run
    from trainer.pose.errors import AnnotationError
    from trainer.pose.images import find_images

    begin = time.monotonic()
    try:
        images = find_images(data, match, part)
        with progress("annotate", len(images)) as advance:
            report = run(images, adapter, model, out, options=_options(settings), workers=workers, advance=advance)
    except (DatasetError, AnnotationError) as error:
        raise Failure(str(error)) from error
    seconds = time.monotonic() - begin
    earlier = f", {report.present:,} before" if report.present else ""
    rate = f" ({report.annotated / seconds:,.0f}/s)" if report.annotated else ""
    typer.echo(f"{out}: {report.annotated:,} images annotated in {seconds:,.0f} s{rate}{earlier}")
    typer.echo(f"{report.summary.images:,} in all: {report.summary}")
    if report.skipped:
        complain(f"{len(report.skipped):,} of {report.images:,} images could not be read:")
        for image_id, reason in list(report.skipped.items())[:SHOWN]:
            complain(f"  {reason}" if image_id in reason else f"  {image_id}: {reason}")
        if len(report.skipped) > SHOWN:
            complain(f"  and {len(report.skipped) - SHOWN:,} more; see {out / 'annotations.json'}")
        raise typer.Exit(1)


def _options(settings: list[str] | None) -> dict[str, object]:
    """``KEY=VALUE`` pairs.

    Raises:
        Failure: no ``=``.
    """
    options: dict[str, object] = {}
    for setting in settings or []:
        key, equals, value = setting.partition("=")
        if not equals:
            raise Failure(f"--set takes KEY=VALUE, got {setting!r}")
        options[key] = value
    return options
