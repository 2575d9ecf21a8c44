"""Re-identification metrics from ranks alone: CMC, mAP (two definitions), mINP.

All of them need only the ranks r_1 < r_2 < ... < r_n of a query's n positives (1 is the best), so a query costs one
sort of its distances and a binary search of its few positives, and no distance matrix has to exist:

    CMC@k   = share of queries with r_1 <= k
    AP      = 1/n * sum_i i / r_i                                       (Zheng et al. 2015; the usual one)
    AP_trap = 1/n * sum_i 1/2 * ((i-1)/(r_i - 1) + i/r_i)              (Market-1501's toolbox; PGFA, ISP)
    INP     = n / r_n                                                   (Ye et al. 2021)

with (i-1)/(r_i - 1) = 1 at r_i = 1. AP_trap is never above AP, so the two must not be compared.

The evaluation rule of the field: gallery items of the query's person *and* camera, and junk items (id -1), are left
out; a query without a remaining positive is skipped and counted. Ties are pessimistic: a negative at a positive's
distance ranks before it, so a model cannot gain by giving everything one distance. NaN (incomparable) ranks after
every number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ranks = NDArray[np.int64]

CMC_RANKS = (1, 5, 10, 20)
JUNK = -1
"""The person id of Market-1501's unusable detections; as text (ids of a gallery are text) it is ``"-1"``."""


@dataclass(frozen=True)
class RetrievalMetrics:
    """What a set of queries scored; all shares in [0, 1]."""

    queries: int
    """Queries that count: those with a positive in the gallery."""
    skipped: int
    """Queries without one."""
    ranks: tuple[int, ...]
    cmc: tuple[float, ...]
    """CMC at each of ``ranks``."""
    mAP: float
    mAP_trapezoidal: float
    mINP: float

    @property
    def rank1(self) -> float:
        """CMC at 1, present whatever ``ranks`` are."""
        return self.cmc[self.ranks.index(1)]

    def to_dict(self) -> dict[str, float]:
        """Flat and JSON-ready: ``queries``, ``skipped``, ``rank1``, ..., ``mAP``, ``mAP_trapezoidal``, ``mINP``."""
        curve = {f"rank{k}": share for k, share in zip(self.ranks, self.cmc, strict=True)}
        return {
            "queries": self.queries,
            "skipped": self.skipped,
            **curve,
            "mAP": self.mAP,
            "mAP_trapezoidal": self.mAP_trapezoidal,
            "mINP": self.mINP,
        }


class Relevance:
    """Which gallery items count for a query, and which of them show its person: the evaluation rule of the field."""

    def __init__(
        self,
        query_ids: ArrayLike,
        gallery_ids: ArrayLike,
        query_cameras: ArrayLike | None = None,
        gallery_cameras: ArrayLike | None = None,
        *,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        """Labels as `RankingMetrics.add_block` takes them; ValueError when they do not fit each other or ``shape``,
        ``(Q, G)``."""
        if shape is None:
            shape = (len(np.asarray(query_ids)), len(np.asarray(gallery_ids)))
        self._query, self._gallery = _paired("ids", query_ids, gallery_ids, shape)
        self._items = len(self._gallery)
        if (query_cameras is None) != (gallery_cameras is None):
            raise ValueError("cameras must be given for both queries and gallery, or for neither")
        self._cameras = None
        if query_cameras is not None and gallery_cameras is not None:
            self._cameras = _paired("cameras", query_cameras, gallery_cameras, shape)
        self._nobody = ("", str(JUNK)) if self._gallery.dtype.kind == "U" else (JUNK,)
        usable = self._gallery != self._nobody[-1]
        self._usable = None if usable.all() else usable

    def __call__(self, row: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """bool ``(G,)`` twice: the positives of query ``row`` and its negatives; a query of nobody has neither."""
        if self._query[row] in self._nobody:
            return np.zeros(self._items, bool), np.zeros(self._items, bool)
        same = self._gallery == self._query[row]
        positive = same if self._cameras is None else same & (self._cameras[1] != self._cameras[0][row])
        return positive, ~same if self._usable is None else self._usable & ~same


def positive_ranks(
    distances: NDArray[np.floating[Any]], positive: NDArray[np.bool_], keep: NDArray[np.bool_] | None = None
) -> Ranks:
    """The ranks of one query's positives, int64 ``(n,)``, ascending from 1.

    Args:
        distances: ``(G,)``, smaller is closer; NaN is incomparable.
        positive: bool ``(G,)``, items of the query's person.
        keep: bool ``(G,)``, items that take part; all of them when None.
    """
    if distances.ndim != 1 or positive.shape != distances.shape:
        raise ValueError(f"distances and positive must be one row each, got {distances.shape} and {positive.shape}")
    if keep is None:
        negative = ~positive
    else:
        if keep.shape != distances.shape:
            raise ValueError(f"keep must have shape {distances.shape}, got {keep.shape}")
        negative = keep & ~positive
        positive = positive & keep
    return _merge_ranks(distances[positive], distances[negative])


def from_ranking(relevance: Iterable[bool]) -> Ranks:
    """The ranks of the positives, int64 ``(n,)``, of a ranking that exists already: one bool an item, best first.

    The ranking must be whole, incomparable items last: a positive that it lacks does not count against it. Ties
    stand as they were ranked; where an API also gives distances, `positive_ranks` applies the pessimistic rule.
    """
    return np.flatnonzero(np.fromiter(relevance, np.bool_)) + 1


def block_ranks(
    distances: NDArray[np.floating[Any]],
    query_ids: ArrayLike,
    gallery_ids: ArrayLike,
    query_cameras: ArrayLike | None = None,
    gallery_cameras: ArrayLike | None = None,
) -> Iterator[Ranks]:
    """The ranks of each query's positives, for a block as `RankingMetrics.add_block` takes it; raises the same."""
    distances = np.asarray(distances)
    if distances.ndim != 2:
        raise ValueError(f"distances must have shape (Q, G), got {distances.shape}")
    rule = Relevance(query_ids, gallery_ids, query_cameras, gallery_cameras, shape=distances.shape)
    for row, values in enumerate(distances):
        positive, negative = rule(row)
        yield _merge_ranks(values[positive], values[negative])


def average_precision(ranks: Ranks) -> float:
    """AP of one query by the ascending ranks of its positives (the usual definition); NaN without any."""
    return float((np.arange(1, len(ranks) + 1) / ranks).mean()) if len(ranks) else math.nan


class RankingMetrics:
    """Adds up queries, one or a block at a time; holds four numbers a query and never the distances."""

    def __init__(self, ranks: Sequence[int] = CMC_RANKS) -> None:
        """``ranks`` are the k of CMC@k, ascending; 1 is added when it is missing."""
        if any(k < 1 for k in ranks):
            raise ValueError(f"CMC ranks must be at least 1, got {list(ranks)}")
        self.ranks = tuple(sorted({1, *ranks}))
        self._skipped = 0
        self._first: list[int] = []
        self._scores: list[tuple[float, float, float]] = []  # AP, trapezoidal AP, INP

    def add(self, ranks: Ranks) -> None:
        """One query, by the ascending ranks of its positives (`positive_ranks`, `from_ranking`); none: skipped."""
        n = len(ranks)
        if n == 0:
            self._skipped += 1
            return
        if ranks[0] < 1 or (n > 1 and (np.diff(ranks) < 1).any()):
            raise ValueError(f"ranks must start at 1 or later and ascend without ties, got {ranks[:5].tolist()}...")
        hits = np.arange(1, n + 1)
        precision = hits / ranks
        before = np.where(ranks > 1, (hits - 1) / np.maximum(ranks - 1, 1), 1.0)
        self._first.append(int(ranks[0]))
        self._scores.append((precision.mean(), ((before + precision) / 2).mean(), precision[-1]))

    def add_block(
        self,
        distances: NDArray[np.floating[Any]],
        query_ids: ArrayLike,
        gallery_ids: ArrayLike,
        query_cameras: ArrayLike | None = None,
        gallery_cameras: ArrayLike | None = None,
    ) -> None:
        """A block of Q queries against the whole gallery of G items, under the rule of the field.

        Args:
            distances: ``(Q, G)``; NaN is incomparable.
            query_ids: person ids, integers or text, ``(Q,)``; a query that is junk or has no id (empty text) has no
                positives.
            gallery_ids: the same, ``(G,)``; items without an id are distractors, as is Market-1501's person 0.
            query_cameras: ``(Q,)``; without cameras nothing is left out for its camera.
            gallery_cameras: ``(G,)``.

        Raises:
            ValueError: shapes or kinds of ids do not fit.
        """
        for ranks in block_ranks(distances, query_ids, gallery_ids, query_cameras, gallery_cameras):
            self.add(ranks)

    def result(self) -> RetrievalMetrics:
        """The metrics so far.

        Raises:
            ValueError: no query had a positive.
        """
        if not self._first:
            raise ValueError(
                f"none of {self._skipped} queries has another image of its person in the gallery: "
                "check the person and camera ids"
            )
        first = np.array(self._first)
        ap, trapezoidal, inp = np.array(self._scores).mean(axis=0).tolist()
        return RetrievalMetrics(
            queries=len(first),
            skipped=self._skipped,
            ranks=self.ranks,
            cmc=tuple(float((first <= k).mean()) for k in self.ranks),
            mAP=ap,
            mAP_trapezoidal=trapezoidal,
            mINP=inp,
        )


def _merge_ranks(positives: NDArray[np.floating[Any]], negatives: NDArray[np.floating[Any]]) -> Ranks:
    """Ranks of positives among negatives, both in any order; NaN comes last in both, and equals NaN."""
    if not len(positives):
        return np.empty(0, np.int64)
    positives = np.sort(positives)
    if not np.isnan(positives[-1]):
        negatives = negatives[negatives <= positives[-1]]  # what lies behind the last positive counts for nothing
    ahead = np.searchsorted(np.sort(negatives), positives, side="right")  # "right" is the pessimistic rule
    return ahead + np.arange(1, len(positives) + 1)


def _paired(
    what: str, query: ArrayLike, gallery: ArrayLike, shape: tuple[int, ...]
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Query and gallery labels as arrays, when they fit the distances and are of one kind."""
    left, right = np.asarray(query), np.asarray(gallery)
    if left.shape != shape[:1] or right.shape != shape[1:]:
        raise ValueError(f"{what} must have shapes ({shape[0]},) and ({shape[1]},), got {left.shape} and {right.shape}")
    kinds = {labels.dtype.kind for labels in (left, right) if labels.size}
    if not (kinds <= {"i", "u"} or kinds == {"U"}):
        raise ValueError(f"{what} must be all integers or all text, got {left.dtype} and {right.dtype}")
    return left, right
