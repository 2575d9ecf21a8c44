"""`glimpse evaluate`: Rank-1, mAP and mINP of a bundle on a data set; needs no torch and no server."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from glimpse.cli.boundary import Failure
from glimpse.cli.progress import progress

if TYPE_CHECKING:
    from trainer.evaluation import Extraction, Report


def evaluate(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="A folder or .zip; left out with --features.")
    ] = None,
    data: Annotated[
        str,
        typer.Option(metavar="NAME[:PATH]", help="generated-occluded, generated, market1501:PATH or folder:PATH."),
    ] = "generated-occluded",
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many queries, evenly spread; the gallery stays whole.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="Evaluate these features instead of a bundle.")
    ] = None,
    features_out: Annotated[Path | None, typer.Option(metavar="FILE.npz", help="Write the extracted features.")] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the report as JSON too.")] = None,
    provider: Annotated[str, typer.Option(help="auto, or the provider that must run it.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of one inference.")] = None,
) -> None:
    """Measure how well a model finds people again, with and without visibility weighting.

    Example: glimpse evaluate models/glimpse-baseline --data generated-occluded
    """
    if (bundle is None) == (features is None):
        raise typer.BadParameter("give either a bundle or --features FILE.npz")
    from trainer.data.listing import DatasetError
    from trainer.evaluation import evaluate as measure
    from trainer.evaluation import load_features, save_features

    try:
        if features is not None:
            extraction = load_features(features)
        else:
            extraction = _extract(bundle or Path(), data, limit, provider, threads)
        report = measure(extraction)
    except (DatasetError, ValueError) as error:
        raise Failure(str(error)) from error
    if features_out is not None:
        save_features(features_out, extraction)
    _print(report)
    if json is not None:
        json.write_text(json_format.dumps(report.to_dict(), indent=2) + "\n")


def _extract(bundle: Path, data: str, limit: int | None, provider: str, threads: int | None) -> Extraction:
    from glimpse.bundle import open_bundle
    from glimpse.runtime import open_session
    from trainer.data import find_listing
    from trainer.evaluation import extract_listing

    listing = find_listing(data).limited(limit)
    opened = open_bundle(bundle)
    session = open_session(opened, provider, threads)
    with progress("images", len(listing.query) + len(listing.gallery)) as advance:
        seen = 0

        def report(done: int, _: int) -> None:
            nonlocal seen
            for _ in range(done - seen):
                advance()
            seen = done

        return extract_listing(listing, opened.preprocessing, session.run, report)


def _print(report: Report) -> None:
    table = Table(title=f"{report.name}, figures in %", title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    labels = {"weighted": "by visibility", "unweighted": "all visible"}
    for column in ("", "queries", "Rank-1", "Rank-5", "Rank-10", "mAP", "mAP trap.", "mINP"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    for name, metrics in report.rows.items():
        rates = dict(zip(metrics.ranks, metrics.cmc, strict=True))
        shares = (rates[1], rates[5], rates[10], metrics.mAP, metrics.mAP_trapezoidal, metrics.mINP)
        table.add_row(labels.get(name, name), str(metrics.queries), *(f"{100 * share:.1f}" for share in shares))
    Console().print(table)
    typer.echo("- all visible: the same features with every visibility set to 1")
    for fact in report.facts:
        typer.echo(f"- {fact}")
