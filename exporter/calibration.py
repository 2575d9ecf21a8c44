"""Features of a validation set to a `glimpse.calibration.Calibration`, with figures on people it was not fitted to.

People are halved. On one half the ways of `exporter.ratios` are compared by cross-validation over its people, the one
with the least log loss under the stated prior is fitted to all of them and thresholds are chosen; everything that is
reported is measured on the other half.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exporter.pairs import CalibrationError, Int64, Pairs, halve, people_of, take_pairs
from exporter.ratios import FITS, log_loss, prior_loss
from exporter.reliability import EVEN, Reliability, measure_reliability
from exporter.thresholds import FPIRS, RATES, gallery_thresholds, rate_thresholds
from glimpse.bundle import Bundle, utc_now, write_bundle
from glimpse.calibration import Calibration, CalibrationSource, RatioTable, check_prior
from trainer.evaluation.features import Extraction

__all__ = ["PRIOR", "CalibrationError", "CalibrationReport", "Candidate", "calibrate", "store"]

PRIOR = 0.01
"""One pair of a hundred is of one person: a gallery of a hundred people that holds whom one looks for."""
FOLDS = 4


@dataclass(frozen=True)
class Candidate:
    """A way to fit and its log losses, in nats under the stated prior; None where there were too few pairs for it."""

    name: str
    about: str
    cross_validated: float | None
    held_out: float | None
    chosen: bool


@dataclass(frozen=True)
class CalibrationReport:
    """A calibration and how it did on people that it was not fitted to."""

    calibration: Calibration
    candidates: tuple[Candidate, ...]
    prior_loss: float
    """The log loss of knowing the stated prior alone, in nats."""
    reliability: Reliability
    unsupported: tuple[str, ...]
    """Thresholds that were asked for and cannot be told, and why."""
    model: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "calibration": self.calibration.model_dump(mode="json"),
            "candidates": [asdict(candidate) for candidate in self.candidates],
            "prior_loss": self.prior_loss,
            "reliability": asdict(self.reliability),
            "unsupported": list(self.unsupported),
            "model": dict(self.model),
        }


def calibrate(
    extraction: Extraction,
    model_sha256: str,
    *,
    prior: float = PRIOR,
    seed: int = 0,
    command: str = "glimpse calibrate",
    rates: Sequence[float] = RATES,
    galleries: Sequence[int] = (),
    fpirs: Sequence[float] = FPIRS,
) -> CalibrationReport:
    """A calibration of the distances of an extraction's model.

    Args:
        extraction: of queries of one image; its gallery is rounded as a server stores it.
        model_sha256: of the float32 graph that made the features.
        prior: the share of same-person pairs that probabilities assume unless told otherwise, in (0, 1).
        seed: splits the people and draws pairs.
        command: how to make it again.
        rates: false-match rates to tell thresholds for.
        galleries: numbers of people to tell thresholds for, beside 25, 50, 100, ...
        fpirs: what they may cost (`glimpse.open_set`).

    Raises:
        CalibrationError: too few people, one camera only, queries of several images, nothing comparable.
        ValueError: a prior, rate or number out of range.
    """
    check_prior(prior)
    for share in (*rates, *fpirs):
        if not 0 < share < 1:
            raise ValueError(f"false-match rates and FPIRs must be within (0, 1), got {share}")
    for number in galleries:
        if number < 1:
            raise ValueError(f"a gallery has at least one person, got {number}")
    if extraction.shots is not None:
        raise CalibrationError(f"{extraction.name}: a calibration is of queries of one image; these have several")
    query, gallery = extraction.query, extraction.gallery
    mine, others = halve(people_of(query, gallery), seed)
    fit, held = take_pairs(query, gallery, mine, seed), take_pairs(query, gallery, others, seed)
    name, table, candidates = choose(fit, held, prior, seed)
    reliability = measure_reliability(table, held, prior)
    thresholds, few_pairs = rate_thresholds(fit, held, rates, seed)
    searched, few_searches = gallery_thresholds(query, gallery, mine, galleries, fpirs, seed)
    schema = gallery.features.schema
    calibration = Calibration(
        model_sha256=model_sha256,
        parts={part.name: part.weight for part in schema.parts},
        distance_prior=schema.prior,
        kind=FITS[name].kind,
        distance=tuple(table.distance.tolist()),
        joint_visibility=tuple(table.joint.tolist()),
        log_likelihood_ratio=tuple(tuple(row) for row in table.log_ratio.tolist()),
        prior=prior,
        source=CalibrationSource(
            data=extraction.name,
            facts=(*extraction.facts, *pair_facts(fit, held, seed)),
            command=command,
            seed=seed,
            created_at=utc_now(),
            versions={name: importlib.metadata.version(name) for name in ("numpy", "scipy", "scikit-learn")},
            counts=_counts(fit, held),
        ),
        metrics=_metrics(table, held, reliability),
        thresholds=thresholds,
        gallery_thresholds=searched,
    )
    return CalibrationReport(
        calibration, candidates, prior_loss(prior), reliability, (*few_pairs, *few_searches), extraction.model
    )


def choose(fit: Pairs, held: Pairs, prior: float, seed: int) -> tuple[str, RatioTable, tuple[Candidate, ...]]:
    """The way to fit with the least cross-validated log loss on the people of ``fit``, and its fit to all of them.

    The held-out losses of all are told, and decide nothing.
    """
    folds = np.array_split(np.random.default_rng([seed, 3]).permutation(fit.people), FOLDS)
    losses = {name: _cross_validated(fit, folds, name, prior) for name in FITS}
    tables = {name: FITS[name].fit(fit) for name in FITS}
    known = {name: loss for name, loss in losses.items() if loss is not None and tables[name] is not None}
    if not known:
        raise CalibrationError(f"{len(fit):,} comparable pairs of {len(fit.people)} people are too few to compare fits")
    best = min(known, key=known.__getitem__)
    candidates = tuple(
        Candidate(name, spec.about, losses[name], None if table is None else log_loss(table, held, prior), name == best)
        for name, spec in FITS.items()
        for table in [tables[name]]
    )
    chosen = tables[best]
    assert chosen is not None  # by the choice of `known`
    return best, chosen, candidates


def store(report: CalibrationReport, bundle: Bundle, target: Path) -> Bundle:
    """Writes the bundle with the calibration, atomically, to ``target``; its files and their hashes stay.

    Raises:
        BundleError: the calibration is of another model, or ``target`` is taken by something else.
    """
    manifest = bundle.manifest.model_dump(mode="json", by_alias=True, exclude={"files", "calibration"})
    return write_bundle(
        target, {**manifest, "calibration": report.calibration.model_dump(mode="json")}, bundle.contents
    )


def pair_facts(fit: Pairs, held: Pairs, seed: int) -> tuple[str, ...]:
    """What a reader must know of the pairs."""
    return (
        f"{len(fit.people):,} people to fit and choose thresholds on, {len(held.people):,} others to measure on "
        f"(seed {seed}); pairs are of two cameras, people that no query shows take no part",
        "of the pairs of two people each query keeps its closest, all of them, and a weighted sample of the others",
        f"{fit.incomparable + held.incomparable:,} pairs share no visible part and have no probability",
    )


def _cross_validated(pairs: Pairs, folds: Sequence[Int64], name: str, prior: float) -> float | None:
    """Mean log loss on each fold of a fit to the other folds; None where one cannot be fitted or judged."""
    losses = []
    for fold in folds:
        inside = pairs.among(fold)
        outside = pairs.where(~np.isin(pairs.query_people, fold) & ~np.isin(pairs.item_people, fold))
        if any(not some.same.any() or some.same.all() for some in (inside, outside)):
            continue
        table = FITS[name].fit(outside)
        if table is None:
            return None
        losses.append(log_loss(table, inside, prior))
    return float(np.mean(losses)) if losses else None


def _counts(fit: Pairs, held: Pairs) -> dict[str, int]:
    counts = {}
    for side, pairs in (("fit", fit), ("held_out", held)):
        counts[f"{side}_people"] = len(pairs.people)
        counts[f"{side}_same"] = int(np.count_nonzero(pairs.same))
        counts[f"{side}_different"] = round(pairs.different)
        counts[f"{side}_incomparable"] = pairs.incomparable
    return counts


def _metrics(table: RatioTable, held: Pairs, reliability: Reliability) -> dict[str, float]:
    figures = {
        "ece_even": reliability.ece,
        "ece": reliability.ece_stated,
        "log_loss_even": log_loss(table, held, EVEN),
        "log_loss": log_loss(table, held, reliability.prior),
    }
    for row in reliability.evidence:
        if row.ece is not None:
            figures[f"ece_even_joint_{row.low:.2f}_{row.high:.2f}"] = row.ece
    return {name: round(value, 6) for name, value in figures.items()}
