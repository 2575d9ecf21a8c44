"""Protocols of several trials (half splits, draws of multi-shot queries): features once, figures as a mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from glimpse.metrics import RetrievalMetrics
from glimpse.preprocessing import Preprocessing
from trainer.data.listing import ImageSet, Listing, joined
from trainer.evaluation.features import (
    BATCH,
    Extraction,
    Extractor,
    LabelledFeatures,
    Points,
    Progress,
    extract_listing,
)
from trainer.evaluation.report import FIGURES, Report


def extract_trials(
    trials: Sequence[Listing],
    preprocessing: Preprocessing,
    run: Extractor,
    progress: Progress | None = None,
    *,
    model: Mapping[str, str] | None = None,
    points: Points | None = None,
    batch: int = BATCH,
) -> tuple[Extraction, ...]:
    """`extract_listing` of each trial, with every image run once.

    The trials are of one data set: on each side an id stands for the same image in all of them.

    Raises:
        DatasetError: queries or gallery are empty. ValueError: no trials; see `extract_listing`.
    """
    if not trials:
        raise ValueError("there are no trials to take features of")
    query, gallery = (_union(sides) for sides in ([t.query for t in trials], [t.gallery for t in trials]))
    whole = replace(trials[0], query=query, gallery=gallery, shots=None)
    found = extract_listing(whole, preprocessing, run, progress, model=model, points=points, batch=batch)
    return tuple(
        Extraction(
            trial.name,
            trial.facts,
            _rows_of(found.query, trial.query),
            _rows_of(found.gallery, trial.gallery),
            found.model,
            trial.shots,
        )
        for trial in trials
    )


def mean_of(reports: Sequence[Report]) -> Report:
    """The mean over the trials of one protocol, with the spread of each figure; queries are added up.

    A row counts where every trial has it. Robustness and open-set figures are of single trials and left out.

    Raises:
        ValueError: no reports.
    """
    if not reports:
        raise ValueError("a mean needs at least one report")
    if len(reports) == 1:
        return reports[0]
    rows, spread = {}, {}
    for name in reports[0].rows:
        if all(name in report.rows for report in reports):
            own = [report.rows[name] for report in reports]
            rows[name], spread[name] = _mean(own)
    # What differs between trials (the number of the split) is said once, of the first.
    facts = (*reports[0].facts, f"mean of {len(reports)} trials; the facts above are of the first")
    return replace(reports[0], rows=rows, facts=facts, spread=spread, robustness=None, open_set={})


def _mean(trials: Sequence[RetrievalMetrics]) -> tuple[RetrievalMetrics, dict[str, float]]:
    cmc = np.array([trial.cmc for trial in trials])  # [T, ranks]
    others = np.array([(trial.mAP, trial.mAP_trapezoidal, trial.mINP) for trial in trials])  # [T, 3]
    ap, trapezoidal, inp = others.mean(axis=0).tolist()
    mean = RetrievalMetrics(
        queries=sum(trial.queries for trial in trials),
        skipped=sum(trial.skipped for trial in trials),
        ranks=trials[0].ranks,
        cmc=tuple(cmc.mean(axis=0).tolist()),
        mAP=ap,
        mAP_trapezoidal=trapezoidal,
        mINP=inp,
    )
    figures = [trial.to_dict() for trial in trials]
    return mean, {name: float(np.std([one[name] for one in figures], ddof=1)) for name in FIGURES}


def _union(sets: Sequence[ImageSet]) -> ImageSet:
    """Every image of some sets once, in order of first appearance."""
    everything = joined(sets) if len(sets) > 1 else sets[0]
    first = {image_id: row for row, image_id in reversed(list(enumerate(everything.ids)))}
    return everything.take(np.array(sorted(first.values()), np.int64))


def _rows_of(found: LabelledFeatures, images: ImageSet) -> LabelledFeatures:
    """The features of a set's images, with the set's own labels."""
    places = {image_id: row for row, image_id in enumerate(found.ids)}
    rows = np.array([places[image_id] for image_id in images.ids], np.int64)
    return LabelledFeatures(found.features[rows], images.ids, images.people, images.cameras, images.hidden)
