"""The acts of `glimpse demo`: index, search with and without visibilities, show."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from glimpse.cli.boundary import Failure
from glimpse.cli.crowd import Crowd, jpeg
from glimpse.cli.index import upload
from glimpse.cli.names import Names
from glimpse.cli.pictured import item_images
from glimpse.cli.progress import progress
from glimpse.cli.ranking import print_ranking
from glimpse.cli.sources import Source, listing
from glimpse.cli.weighting import Comparison, Trial
from glimpse.client import Client, SearchResult
from glimpse.images import decode_image
from glimpse.pictures.ranking import Row, save_picture
from glimpse.preprocessing import Image

CAMERAS = 4
GALLERY, COPY = "people", "people-visibility-ignored"
SHOWN = 5
COVERED = 60
"""Crops of one's own folder that are covered and searched."""


def show_generated(console: Console, glimpse: Client, identities: int, seed: int, save: Path) -> bool:
    """The demo on generated people; whether weighting won beyond noise."""
    crowd = Crowd(identities, CAMERAS, seed)
    glimpse.create_gallery(GALLERY, keep_images=True)
    console.print(f"indexing {len(crowd)} images of {identities} generated people ...", style="dim")
    begin = time.monotonic()
    with progress("index", len(crowd)) as advance:
        for result in glimpse.upsert(GALLERY, crowd.items(), batch_items=64):
            if not result.ok:
                raise Failure(f"item {result.item_id!r} was refused: {result.message}")
            advance()
    rate = len(crowd) / (time.monotonic() - begin)
    console.print(f"indexed {len(crowd)} images of {identities} people at {CAMERAS} cameras, {rate:.0f} images/s")
    console.print("searching for each of them at least half hidden ...", style="dim")

    comparison = _compared(glimpse, list(crowd.trials()), depth=len(crowd))
    # One query that weighting put right, if there is one; the figures below are over all of them.
    differing = np.flatnonzero(np.array(comparison.weighted.hits) & ~np.array(comparison.ignoring.hits))
    example = int(differing[0]) if len(differing) else 0
    trial = comparison.trials[example]
    answer, ignored = comparison.explained(example, SHOWN), comparison.explained_ignoring(example, SHOWN)
    chosen = "a query that weighting puts right" if len(differing) else "the first query"
    console.print(f"\nan example, {chosen} (the figures below are over all queries):", style="dim")
    print_ranking(console, f"query: person {trial.label}", answer, person_id=trial.person_id, explain=True)
    verdict = "right" if comparison.ignoring.hits[example] else "wrong"
    console.print(f"with visibilities ignored, person {ignored[0].person_id} comes first: {verdict}\n")
    won = _print_comparison(
        console,
        comparison,
        "each at least half hidden; to be found is the same person at another camera (same person and same camera "
        "are excluded)",
        whole=True,
    )
    other = 1 if example == 0 else 0
    rows = [
        _row(glimpse, trial, answer, trial.label),
        _row(glimpse, trial, ignored, "visibilities ignored"),
        _row(glimpse, comparison.trials[other], comparison.explained(other, SHOWN), comparison.trials[other].label),
    ]
    weighted, ignoring = comparison.weighted.rank1, comparison.ignoring.rank1
    note = f"Rank-1 {weighted:.0%} by visible parts, {ignoring:.0%} with visibilities ignored"
    save_picture(save, rows, title=f"{identities} people, found again at least half hidden", note=note)
    return won


def show_folder(console: Console, glimpse: Client, folder: Path, save: Path) -> None:
    """The demo on a folder of one's own crops.

    Raises:
        Failure: fewer than two of its images can be used.
    """
    if not folder.is_dir():
        raise Failure(f"{folder} is not a folder")
    found = listing(folder, Names.MARKET)
    glimpse.create_gallery(GALLERY, keep_images=True)
    begin = time.monotonic()
    outcome = upload(glimpse, GALLERY, found.sources, "index")
    rate = outcome.stored / (time.monotonic() - begin)
    console.print(f"indexed {outcome.stored:,} images of {folder}, {rate:.0f} images/s; {len(outcome.refused)} refused")
    for refusal in outcome.refused[:SHOWN]:
        console.print(f"  {refusal.where}: {refusal.message}", style="red")
    if outcome.stored < 2:
        raise Failure(f"{folder} holds fewer than two images of people that can be indexed")
    refused = {refusal.item_id for refusal in outcome.refused}
    sources = [source for source in found.sources if source.item_id not in refused]
    picked = [sources[n] for n in np.unique(np.linspace(0, len(sources) - 1, COVERED).astype(int))]

    rows = []
    for source in (picked[0], picked[len(picked) // 2]):
        console.print()
        answer = glimpse.search(GALLERY, item_id=source.item_id, top_k=SHOWN, explain=True)
        title = f"query: {source.item_id}, left out of its own results"
        print_ranking(console, title, answer, person_id=source.person_id, explain=True)
        image = item_images(glimpse, GALLERY, [source.item_id], None)[0]
        rows.append(_row_of(glimpse, answer, source.item_id, source.person_id, image))
    comparison = _compared(glimpse, [_covered(source, n) for n, source in enumerate(picked)], depth=SHOWN)
    console.print()
    _print_comparison(
        console,
        comparison,
        f"each a crop of which half is covered by a plain block; to be found is its own uncovered image among "
        f"{outcome.stored:,}, which is easier than another view of the person",
        whole=False,
    )
    middle = len(picked) // 2
    rows.append(_row(glimpse, comparison.trials[middle], comparison.explained(middle, SHOWN), "half covered"))
    save_picture(save, rows, title=f"Gallery of {outcome.stored:,} crops")


def _compared(glimpse: Client, trials: Sequence[Trial], depth: int) -> Comparison:
    comparison = Comparison(glimpse, GALLERY, COPY, trials, depth)
    with progress("search", 2 * len(trials)) as advance:
        comparison.run(advance)
    return comparison


def _print_comparison(console: Console, comparison: Comparison, protocol: str, *, whole: bool) -> bool:
    """The table of both ways and what is compared; whether weighting won beyond noise.

    Args:
        whole: the rankings held the whole gallery, so that mAP can be told.
    """
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("")
    table.add_column("Rank-1", justify="right")
    if whole:
        table.add_column("mAP", justify="right")
    ways = (("visible parts count", comparison.weighted), ("visibilities ignored", comparison.ignoring))
    for label, scores in ways:
        figures = [f"{100 * scores.rank1:.1f} %"]
        figures += [f"{100 * scores.mean_average_precision:.1f} %"] if whole else []
        table.add_row(label, *figures)
    console.print(table)
    gain = comparison.gain()
    console.print(
        f"weighting by visibility: {gain.points:+.1f} points of Rank-1 "
        f"(95 % interval {gain.low:+.1f} to {gain.high:+.1f}, paired bootstrap)",
        style="bold",
    )
    console.print(
        f"{len(comparison.trials)} queries, {protocol}. Both rows use the same model, vectors, weights and filter; in "
        "the second, every visibility of queries and items is set to 1.",
        style="dim",
    )
    return gain.beyond_noise


def _row(glimpse: Client, trial: Trial, result: SearchResult, label: str) -> Row:
    return _row_of(glimpse, result, label, trial.person_id, decode_image(trial.data))


def _row_of(glimpse: Client, result: SearchResult, label: str, person_id: str, image: Image | None) -> Row:
    item_ids = [match.item_id for match in result]
    return Row(label, person_id, image, result.query, result.matches, item_images(glimpse, GALLERY, item_ids, None))


def _covered(source: Source, number: int) -> Trial:
    """A crop of which one half is hidden behind a plain block: the lower, left, right or upper half, in turn."""
    image = decode_image(source.path.read_bytes()).copy()
    height, width = image.shape[:2]
    halves = (
        (slice(height // 2, None), slice(None)),
        (slice(None), slice(0, width // 2)),
        (slice(None), slice(width // 2, None)),
        (slice(0, height // 2), slice(None)),
    )
    image[halves[number % 4]] = np.random.default_rng(number).integers(40, 200, 3)
    return Trial(f"{source.item_id}, half covered", jpeg(image), source.person_id, item_id=source.item_id)
