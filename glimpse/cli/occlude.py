"""`glimpse occlude`: an occluded copy of a folder of images, with its visibility labels; needs no torch."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from glimpse.cli.boundary import Failure, complain
from glimpse.cli.names import Names

SHOWN = 10
"""Refusals printed; the manifest has them all."""


class Form(StrEnum):
    """File format of the copies."""

    KEEP = "keep"
    PNG = "png"
    JPEG = "jpeg"


def occlude(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Images, searched through.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder; it gets the same tree.")],
    simulator: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="strip, box, background, library, person, erasing, cover, amplify or shrink (docs/occlusion.md).",
        ),
    ] = "strip",
    seed: Annotated[int, typer.Option(help="With a file's path it decides everything.")] = 0,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An option of the simulator, e.g. ratio=0.2,0.4."),
    ] = None,
    share: Annotated[float, typer.Option(help="Share of the images; the rest are copied.")] = 1.0,
    others: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Images that occluders are cut from; default: FOLDER itself.")
    ] = None,
    library: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Occluders for --simulator library; default: generated ones.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write which pixels are covered, as PNG in a new folder.")
    ] = None,
    names: Annotated[
        Names, typer.Option(help="How names tell the person, so that nobody is hidden behind their own background.")
    ] = Names.MARKET,
    form: Annotated[
        Form, typer.Option("--format", help="keep: JPEG (quality 95) stays JPEG, all else becomes PNG.")
    ] = Form.KEEP,
) -> None:
    """Write an occluded copy of a folder of images, to measure how robust a model is.

    OUT gets the images, labels.csv and labels.jsonl (covered share, side or box, covered share of each of 4 and of 6
    stripes) and occlusion.json, which says what was done. Exit code 1 when any image could not be read.

    Example: glimpse occlude ./query ./query-occluded --others ./gallery --seed 1
    """
    options = dict(map(_setting, overrides or []))
    from pathlib import PurePosixPath

    from glimpse.cli.names import identity
    from glimpse.cli.progress import progress
    from trainer.occlusion import SimulatorError
    from trainer.occlusion.folder import MANIFEST, FolderError, FolderOcclusion, find_images, occlude_folder

    try:
        how = FolderOcclusion(simulator, options, seed, share, form.value, library)
        with progress("occlude", len(find_images(folder))) as advance:
            outcome = occlude_folder(
                folder,
                out,
                how,
                others=others,
                masks=masks,
                person_of=lambda name: identity(PurePosixPath(name), names).person_id,
                advance=advance,
            )
    except (FolderError, SimulatorError) as error:
        raise Failure(str(error)) from error
    typer.echo(
        f"{outcome.images:,} images in {out}, {outcome.occluded:,} of them occluded by {simulator!r}, seed {seed}"
    )
    if outcome.refused:
        complain(f"{len(outcome.refused):,} could not be read and are not in the copy:")
        for refusal in outcome.refused[:SHOWN]:
            complain(f"  {refusal.file}: {refusal.message}")
        if len(outcome.refused) > SHOWN:
            complain(f"  and {len(outcome.refused) - SHOWN:,} more; see {out / MANIFEST}")
        raise typer.Exit(1)


def _setting(override: str) -> tuple[str, Any]:
    """``key=value`` with the value as JSON, as numbers between commas, or as text."""
    key, sign, text = override.partition("=")
    if not sign or not key.strip():
        raise typer.BadParameter(f"{override!r}: expected KEY=VALUE, for example ratio=0.2,0.4", param_hint="--set")
    for candidate in (text, f"[{text}]"):
        try:
            return key.strip(), json.loads(candidate)
        except ValueError:
            continue
    return key.strip(), text
