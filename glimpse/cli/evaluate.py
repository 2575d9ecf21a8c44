"""`glimpse evaluate`: figures of a bundle or a checkpoint on a data set; a bundle needs no torch, nothing a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glimpse.cli.boundary import Failure
from glimpse.cli.progress import progress

if TYPE_CHECKING:
    from glimpse.cli.evaluated import EvaluatedModel
    from glimpse.reranking import Reranking
    from trainer.data.listing import Listing
    from trainer.evaluation import Extraction, Report

FURTHER, OUTPUT = "Further figures", "Output"


def evaluate(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="[MODEL]", help="A bundle (folder or .zip) or a checkpoint of `train`; left out with --features."
        ),
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            metavar="NAME[:PATH]",
            help="generated-occluded, generated, market1501:PATH, folder:PATH, ...: `glimpse datasets list`. "
            "A protocol of trials, such as occluded-reid:PATH@split=all, gives means.",
        ),
    ] = "generated-occluded",
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many queries, evenly spread; the gallery stays whole.")
    ] = None,
    features: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="Evaluate these features instead of a model.")
    ] = None,
    annotations: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Key-points by `datasets annotate`, for a model that is given them."),
    ] = None,
    rerank: Annotated[
        bool, typer.Option("--rerank", help="k-reciprocal re-ranking too.", rich_help_panel=FURTHER)
    ] = False,
    rerank_settings: Annotated[
        str, typer.Option(metavar="K1,K2,LAMBDA", help="Of re-ranking.", rich_help_panel=FURTHER)
    ] = "20,6,0.3",
    open_set: Annotated[
        bool,
        typer.Option("--open-set", help="FNIR at FPIR 1 % and 10 % for growing galleries.", rich_help_panel=FURTHER),
    ] = False,
    robustness: Annotated[
        bool,
        typer.Option("--robustness", help="Figures with 0 to 70 % of each query covered.", rich_help_panel=FURTHER),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Write report.json, report.md, plots and pictures there.", rich_help_panel=OUTPUT
        ),
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="Rank lists in the report's picture; 0 for none.", rich_help_panel=OUTPUT)
    ] = 8,
    json: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report as JSON too.", rich_help_panel=OUTPUT)
    ] = None,
    features_out: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="Write the extracted features.", rich_help_panel=OUTPUT)
    ] = None,
    provider: Annotated[str, typer.Option(help="auto, or the provider that must run a bundle.")] = "auto",
    precision: Annotated[str, typer.Option(help="float32, float16 or int8 of a bundle; auto: its default.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of one inference.")] = None,
) -> None:
    """Measure how well a model finds people again, with and without visibility weighting.

    Example: glimpse evaluate models/glimpse-baseline --data generated-occluded --rerank --report report
    """
    if (model is None) == (features is None):
        raise typer.BadParameter("give either a model or --features FILE.npz")
    reranking = _reranking(rerank_settings) if rerank else None
    from glimpse.cli.figures import print_report
    from trainer.data import find_trials
    from trainer.evaluation import load_features, save_features
    from trainer.evaluation.trials import mean_of

    if robustness and model is None:
        raise typer.BadParameter("--robustness needs a model: features cannot be covered")
    with _told():
        opened: EvaluatedModel | None = None
        listings: tuple[Listing, ...] = ()
        if model is not None:
            from glimpse.cli.evaluated import open_model

            opened = open_model(model, provider, threads, annotations, precision)
            listings = tuple(listing.limited(limit) for listing in find_trials(data))
        if len(listings) > 1 and (open_set or robustness or features_out):
            raise Failure(f"--open-set, --robustness and --features-out are of one trial; {data} has {len(listings)}")
        if report is not None:  # what is missing is told now, not after the work
            report.mkdir(parents=True, exist_ok=True)
            if open_set or robustness:
                import matplotlib  # noqa: F401
        extractions = _extract(listings, opened) if opened else (load_features(features or Path()),)
        found = [
            _measure(extraction, listings[trial] if listings else None, opened, reranking, open_set, robustness)
            for trial, extraction in enumerate(extractions)
        ]
        whole = mean_of(found)
        if features_out is not None:
            save_features(features_out, extractions[0])
    print_report(whole)
    if json is not None:
        whole.write_json(json)
    if report is not None:
        with _told():
            _write(report, whole, extractions[0], listings[0] if listings else None, opened, pictures)


def _reranking(settings: str) -> Reranking:
    from glimpse.reranking import Reranking

    try:
        k1, k2, weight = settings.split(",")
        return Reranking(int(k1), int(k2), float(weight))
    except ValueError as error:
        raise typer.BadParameter(
            f"--rerank-settings {settings!r}: expected K1,K2,LAMBDA such as 20,6,0.3 ({error})"
        ) from error


@contextmanager
def _told() -> Iterator[None]:
    """Errors of data and features become sentences."""
    from trainer.data.listing import DatasetError

    try:
        yield
    except (DatasetError, ValueError) as error:
        raise Failure(str(error)) from error


def _extract(listings: Sequence[Listing], model: EvaluatedModel) -> tuple[Extraction, ...]:
    from trainer.evaluation.trials import extract_trials

    if model.poses is not None:
        ids = {image_id: None for listing in listings for image_id in (*listing.query.ids, *listing.gallery.ids)}
        fact = f"{model.poses.coverage(ids, 'keypoints')}; without them a person counts as seen everywhere"
        listings = [replace(listing, facts=(*listing.facts, fact)) for listing in listings]
    # Of several trials most images are the same; the bar's total is known when the first is done.
    with _counted("images") as report:
        return extract_trials(
            listings,
            model.preprocessing,
            model.run,
            report,
            model=model.facts,
            points=model.points,
            batch=model.batch,
        )


def _measure(
    extraction: Extraction,
    listing: Listing | None,
    model: EvaluatedModel | None,
    reranking: Reranking | None,
    open_set: bool,
    robustness: bool,
) -> Report:
    from trainer.evaluation import evaluate as measure
    from trainer.evaluation.open_set import measure_open_set
    from trainer.evaluation.robustness import measure_robustness

    report = measure(extraction, reranking)
    if open_set:
        figures = {
            name: measure_open_set(extraction, weighted=name == "weighted") for name in ("weighted", "unweighted")
        }
        report = replace(report, open_set=figures)
    if robustness and listing is not None and model is not None:
        if model.poses is not None:
            raise Failure(
                "--robustness is not for a model that is given key-points: whose joints are covered is unknown"
            )
        with _counted("covered images") as count:
            curve = measure_robustness(extraction, listing, model.preprocessing, model.run, count, batch=model.batch)
        report = replace(report, robustness=curve)
    return report


def _write(
    folder: Path,
    report: Report,
    extraction: Extraction,
    listing: Listing | None,
    model: EvaluatedModel | None,
    pictures: int,
) -> None:
    """The files of a report, and their names on the screen."""
    from trainer.evaluation.markdown import to_markdown
    from trainer.evaluation.pictures import save_rank_lists
    from trainer.evaluation.plots import plot_open_set, plot_robustness

    written = []
    title = ": ".join(filter(None, (report.name, report.model.get("model", ""))))
    if report.robustness is not None:
        written.append(folder / "robustness.png")
        plot_robustness(report.robustness, written[-1], title)
    if report.open_set:
        written.append(folder / "open-set.png")
        plot_open_set(report.open_set, written[-1], title)
    if pictures and listing is not None and model is not None and listing.shots is None:
        written += save_rank_lists(
            folder,
            extraction,
            listing,
            count=pictures,
            preprocessing=model.preprocessing,
            attention=model.attention,
        )
    (folder / "report.md").write_text(to_markdown(report, [path.name for path in written]))
    report.write_json(folder / "report.json")
    names = ", ".join(["report.md", "report.json", *(path.name for path in written)])
    typer.echo(f"{folder}: {names}", err=True)


@contextmanager
def _counted(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar that is told how many are done, of how many."""
    with ExitStack() as stack:
        advance: Callable[[], None] | None = None
        seen = 0

        def report(done: int, total: int) -> None:
            nonlocal advance, seen
            if advance is None:
                advance = stack.enter_context(progress(label, total))
            for _ in range(done - seen):
                advance()
            seen = done

        yield report
