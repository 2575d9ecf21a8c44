"""Open-set figures of extracted features: FNIR at a chosen FPIR for growing galleries, and by visible evidence.

The rates are `glimpse.open_set`'s. People are enrolled at random, trial by trial, everybody else is a stranger:

- *at the same strangers*: N people enrolled out of all; the threshold is the largest that keeps the FPIR among these
  very strangers, as NIST reports it;
- *held out*: people are halved; with N enrolled in each half, one half's strangers choose the threshold, and FPIR and
  FNIR are counted in the other. That is what a user gets who sets a threshold on people of his own.

Evidence of a search is its joint visibility with the closest enrolled person: what a system knows when it decides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from glimpse.open_set import Searches, false_positives, misses, search_people, threshold_at
from trainer.evaluation.features import Extraction, fully_visible

FPIRS = (0.01, 0.1)
TRIALS = 20
SMALLEST = 25
EVIDENCE_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class OpenSetRow:
    """Means over trials at one gallery size and one FPIR; a share is None where no trial could tell it."""

    people: int
    """N."""
    fpir: float
    """The FPIR that was asked for."""
    mated: float
    """Searches of enrolled people, mean over trials."""
    strangers: float
    """Searches of others."""
    fnir: float | None
    """FNIR(N, N, T) at the same strangers."""
    fnir_spread: float | None
    """Its standard deviation over trials."""
    fnir_rank1: float | None
    """FNIR(N, 1, T) at the same strangers."""
    held_out_fpir: float | None
    """FPIR where the threshold was not chosen."""
    held_out_fnir: float | None
    """FNIR(N, N, T) there."""


@dataclass(frozen=True)
class EvidenceRow:
    """Rates among the searches of one range of evidence, all trials of the largest gallery together."""

    low: float
    high: float
    fpir: float
    """The FPIR that was asked for, over all evidence together: one threshold for all."""
    mated: int
    strangers: int
    found_fnir: float | None
    found_fpir: float | None


@dataclass(frozen=True)
class OpenSet:
    """Open-set figures and the facts of their protocol."""

    rows: tuple[OpenSetRow, ...]
    evidence: tuple[EvidenceRow, ...]
    """Empty where all searches have evidence of one range."""
    facts: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "protocol": list(self.facts),
            "rows": [vars(row) for row in self.rows],
            "evidence": [vars(row) for row in self.evidence],
        }


def measure_open_set(
    extraction: Extraction,
    *,
    weighted: bool = True,
    sizes: Sequence[int] | None = None,
    fpirs: Sequence[float] = FPIRS,
    trials: int = TRIALS,
    seed: int = 0,
) -> OpenSet:
    """Searches every query against all people once; all galleries are cut from that.

    Args:
        extraction: of queries of one image.
        weighted: False sets every visibility to 1 on both sides.
        sizes: people enrolled; 25, 50, 100, ... up to a third of all if left out.
        fpirs: what to choose thresholds for.
        trials: random galleries of each size.
        seed: of the trials.

    Raises:
        ValueError: several images a query, fewer than 4 people with a match, a size or number out of range.
    """
    if extraction.shots is not None:
        raise ValueError("open-set figures are of queries of one image; these have several")
    query, gallery = extraction.query, extraction.gallery
    left, right = query.features, gallery.features
    if not weighted:
        left, right = fully_visible(left), fully_visible(right)
    searches = search_people(left, right, query.people, gallery.people, query.cameras, gallery.cameras)
    return open_set_of(searches, sizes=sizes, fpirs=fpirs, trials=trials, seed=seed)


def open_set_of(
    searches: Searches,
    *,
    sizes: Sequence[int] | None = None,
    fpirs: Sequence[float] = FPIRS,
    trials: int = TRIALS,
    seed: int = 0,
) -> OpenSet:
    """`measure_open_set` of searches that are made already."""
    if searches.people < 4:
        raise ValueError(f"open-set figures need at least 4 people with a match, got {searches.people}")
    if trials < 1:
        raise ValueError(f"trials must be at least 1, got {trials}")
    chosen = tuple(sizes) if sizes is not None else _ladder(searches.people)
    largest = searches.people // 2 - 1
    for size in chosen:
        if not 1 <= size <= largest:
            raise ValueError(
                f"a gallery of {size} people: with {searches.people} there may be 1 to {largest}, or a half would have "
                "no strangers"
            )
    rows = tuple(_row(searches, size, fpir, trials, seed) for size in chosen for fpir in fpirs)
    evidence = tuple(row for fpir in fpirs for row in _by_evidence(searches, max(chosen), fpir, trials, seed))
    facts = (
        f"open set: {len(searches):,} searches of {searches.people:,} people; N of them enrolled at random "
        f"({trials} trials, seed {seed}), all others strangers; items of nobody are not enrolled",
        "a person is as close as its closest item; items by the query's own camera are not enrolled for its person",
        "held out: threshold chosen on one half of the people, rates counted on the other",
    )
    return OpenSet(rows, evidence, facts)


def _ladder(people: int) -> tuple[int, ...]:
    sizes = []
    size = SMALLEST
    while size <= people // 3:
        sizes.append(size)
        size *= 2
    return tuple(sizes) or (max(1, people // 3),)


def _row(searches: Searches, size: int, fpir: float, trials: int, seed: int) -> OpenSetRow:
    same, first, mated, strangers = [], [], [], []
    held_fpir, held_fnir = [], []
    for trial in range(trials):
        order = _order(searches, trial, seed)
        among = searches.enrolling(order[:size])
        mated.append(int(among.mated.sum()))
        strangers.append(int((~among.mated).sum()))
        threshold = _threshold(among, fpir)
        if threshold is not None:
            same.append(float(misses(among, threshold).mean()))
            first.append(float(misses(among, threshold, rank=1).mean()))
        for tuning, test in _halves(searches, order, size):
            threshold = _threshold(tuning, fpir)
            if threshold is not None:
                held_fpir.append(float(false_positives(test, threshold).mean()))
                held_fnir.append(float(misses(test, threshold).mean()))
    return OpenSetRow(
        people=size,
        fpir=fpir,
        mated=float(np.mean(mated)),
        strangers=float(np.mean(strangers)),
        fnir=_mean(same),
        fnir_spread=float(np.std(same)) if same else None,
        fnir_rank1=_mean(first),
        held_out_fpir=_mean(held_fpir),
        held_out_fnir=_mean(held_fnir),
    )


def _by_evidence(searches: Searches, size: int, fpir: float, trials: int, seed: int) -> list[EvidenceRow]:
    """One threshold a trial for all searches; the searches of all trials, by their evidence."""
    joint_mated, missed, joint_strangers, accepted = [], [], [], []
    for trial in range(trials):
        among = searches.enrolling(_order(searches, trial, seed)[:size])
        threshold = _threshold(among, fpir)
        if threshold is None:
            continue
        _, joint = among.nearest()
        joint_mated.append(joint[among.mated])
        joint_strangers.append(joint[~among.mated])
        missed.append(misses(among, threshold))
        accepted.append(false_positives(among, threshold))
    if not missed:
        return []
    mated, strangers = np.concatenate(joint_mated), np.concatenate(joint_strangers)
    wrong, let_in = np.concatenate(missed), np.concatenate(accepted)
    rows = []
    for low, high in pairwise(EVIDENCE_EDGES):
        # The last range has both its ends.
        some, others = ((low <= x) & ((x < high) | (high == EVIDENCE_EDGES[-1])) for x in (mated, strangers))
        if some.any() or others.any():
            row = EvidenceRow(
                low, high, fpir, int(some.sum()), int(others.sum()), _mean(wrong[some]), _mean(let_in[others])
            )
            rows.append(row)
    return rows if len(rows) > 1 else []


def _order(searches: Searches, trial: int, seed: int) -> np.ndarray:
    """Everybody, shuffled: the first N are a trial's gallery, so that a larger one holds the smaller."""
    return np.random.default_rng([seed, trial]).permutation(searches.people)


def _halves(searches: Searches, order: np.ndarray, size: int) -> list[tuple[Searches, Searches]]:
    """Both ways round: (searches that choose the threshold, searches that are counted)."""
    middle = len(order) // 2
    one, other = (searches.of_people(half).enrolling(half[:size]) for half in (order[:middle], order[middle:]))
    return [(one, other), (other, one)]


def _threshold(searches: Searches, fpir: float) -> float | None:
    """None where there are too few strangers to tell."""
    distance, _ = searches.where(~searches.mated).nearest()
    if math.floor(fpir * len(distance) + 1e-9) < 1:
        return None
    return threshold_at(distance, fpir)


def _mean(shares: Sequence[float] | np.ndarray) -> float | None:
    return float(np.mean(shares)) if len(shares) else None
