"""`glimpse calibrate`: from distance to the probability that two images show one person, stored in the bundle."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glimpse.cli.boundary import Failure
from glimpse.cli.progress import progress

if TYPE_CHECKING:
    from exporter.calibration import CalibrationReport
    from glimpse.bundle import Bundle
    from trainer.evaluation import Extraction

OUTPUT = "Output"


def calibrate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle: a folder or a .zip.")],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[:PATH]",
            help="People that nothing was trained or tested on, seen by two cameras or more: generated-calibration, "
            "folder:PATH, market1501:PATH, ...: `glimpse datasets list`.",
        ),
    ] = None,
    prior: Annotated[
        float,
        typer.Option(
            metavar="P",
            help="Share of same-person pairs among those compared, which probabilities assume: 1/N in a gallery of N "
            "people that holds whom one looks for.",
        ),
    ] = 0.01,
    out: Annotated[
        Path | None,
        typer.Option(metavar="BUNDLE", help="Write here; BUNDLE itself if left out.", rich_help_panel=OUTPUT),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write calibration.json, calibration.md and reliability.png there.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Measure and report, leave the bundle as it is.", rich_help_panel=OUTPUT)
    ] = False,
    features: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="Features of `evaluate --features-out` by this bundle, instead of data."),
    ] = None,
    rate: Annotated[
        list[float] | None,
        typer.Option(metavar="F", help="False-match rate to tell a threshold for; repeatable. 1e-2, 1e-3, 1e-4."),
    ] = None,
    gallery: Annotated[
        list[int] | None,
        typer.Option(metavar="N", help="People in a gallery to tell thresholds for; repeatable. Also 25, 50, 100, ..."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many queries, evenly spread.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Splits the people and draws pairs.")] = 0,
    provider: Annotated[str, typer.Option(help="auto, or the provider that must run the bundle.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of one inference.")] = None,
) -> None:
    """Calibrate a bundle: matches then come with a probability, and thresholds are known.

    Half of the people fit the calibration and choose thresholds, the others measure it.

    Example: glimpse calibrate models/glimpse-baseline --data generated-calibration --prior 0.01 --report calibration
    """
    if (data is None) == (features is None):
        raise typer.BadParameter("give either --data NAME[:PATH] or --features FILE.npz")
    from exporter.calibration import calibrate as run
    from exporter.calibration import store
    from exporter.thresholds import RATES
    from glimpse.bundle import open_bundle

    if report is not None:  # what is missing is told now, not after the work
        import matplotlib  # noqa: F401

        report.mkdir(parents=True, exist_ok=True)
    opened = open_bundle(bundle)
    chosen = ["--data", data or ""] if features is None else ["--features", features.name]
    command = ["glimpse", "calibrate", bundle.name, *chosen, "--prior", f"{prior:g}", "--seed", str(seed)]
    command += [word for share in rate or () for word in ("--rate", f"{share:g}")]
    command += [word for people in gallery or () for word in ("--gallery", str(people))]
    if limit is not None:
        command += ["--limit", str(limit)]
    try:
        extraction = (
            _extract(opened, data or "", limit, provider, threads) if features is None else _load(features, opened)
        )
        found = run(
            extraction,
            opened.identity.sha256,
            prior=prior,
            seed=seed,
            command=shlex.join(command),
            rates=rate or RATES,
            galleries=gallery or (),
        )
    except ValueError as error:  # of data, features, people, priors and rates
        raise Failure(str(error)) from error
    _print(found)
    if report is not None:
        from exporter.calibration_report import write_report

        typer.echo(f"{report}: {', '.join(write_report(found, report))}", err=True)
    if not dry_run:
        written = store(found, opened, out or bundle)
        typer.echo(f"{out or bundle}: {written.identity} with a calibration at prior {prior:g}")


def _extract(bundle: Bundle, data: str, limit: int | None, provider: str, threads: int | None) -> Extraction:
    from glimpse.runtime import open_session
    from trainer.data import find_listing
    from trainer.evaluation import extract_listing
    from trainer.evaluation.models import bundle_facts

    listing = find_listing(data).limited(limit)
    session = open_session(bundle, provider, threads)
    with progress("images", len(listing.query) + len(listing.gallery)) as advance:
        seen = 0

        def count(done: int, _: int) -> None:
            nonlocal seen
            for _ in range(done - seen):
                advance()
            seen = done

        return extract_listing(listing, bundle.preprocessing, session.run, count, model=bundle_facts(bundle))


def _load(features: Path, bundle: Bundle) -> Extraction:
    from trainer.evaluation import load_features

    extraction = load_features(features)
    made_by = extraction.model.get("model", "nobody knows which model")
    if made_by != str(bundle.identity):
        raise Failure(f"{features} holds features of {made_by}; the bundle is {bundle.identity}")
    return extraction


def _print(report: CalibrationReport) -> None:
    """The tables of the report, then how it was made."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from exporter.calibration_report import facts, tables

    for title, (columns, rows) in tables(report).items():
        table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for place, column in enumerate(columns):
            table.add_column(column, justify="left" if place == 0 else "right")
        for row in rows:
            table.add_row(*row)
        Console(width=max(Console().width, 110)).print(table)
    for fact in facts(report):
        typer.echo(f"- {fact}")
