"""What visibility weighting is worth: the same features searched with their visibilities, and with all of them 1."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from glimpse.client import Client, Filter, Item, Match, SearchResult
from glimpse.metrics import RankingMetrics, from_ranking
from glimpse.parts import PartFeatures

RESAMPLES = 10_000
EXTRACTED_AT_ONCE = 32


@dataclass(frozen=True)
class Trial:
    """One image to search by, and what counts as found."""

    label: str
    data: bytes
    """Encoded image."""
    person_id: str
    item_id: str = ""
    """The one item to be found; when empty, any item of the person."""
    filter: Filter | None = None

    def found(self, match: Match) -> bool:
        return match.item_id == self.item_id if self.item_id else match.person_id == self.person_id


@dataclass
class Scores:
    """Rank-1 of each query, and the averages, of one way to search."""

    hits: list[bool] = field(default_factory=list)
    metrics: RankingMetrics = field(default_factory=RankingMetrics)

    def add(self, trial: Trial, result: SearchResult) -> None:
        relevance = [trial.found(match) for match in result]
        self.metrics.add(from_ranking(relevance))
        self.hits.append(bool(relevance) and relevance[0])

    @property
    def rank1(self) -> float:
        return float(np.mean(self.hits))

    @property
    def mean_average_precision(self) -> float:
        """Right only if every ranking held the whole gallery."""
        return self.metrics.result().mAP


@dataclass(frozen=True)
class Gain:
    """Difference of two Rank-1 figures over the same queries, in points, with its 95 % interval."""

    points: float
    low: float
    high: float

    @property
    def beyond_noise(self) -> bool:
        return self.low > 0


class Comparison:
    """Trials searched in a gallery, and in a copy of it whose visibilities are all 1.

    The copy holds the same stored vectors, and the queries' vectors are the same too: only the visibilities differ.

    Args:
        gallery: holds the items; its copy is made here, under the name ``copy``.
        depth: matches asked for a query, at most 1,000.
    """

    def __init__(self, glimpse: Client, gallery: str, copy: str, trials: Sequence[Trial], depth: int) -> None:
        self.trials = trials
        self.weighted = Scores()
        self.ignoring = Scores()
        self._glimpse = glimpse
        self._gallery = gallery
        self._copy = copy
        self._depth = depth
        self._features: list[PartFeatures] = []

    def run(self, advance: Callable[[], None]) -> None:
        """Searches everything; ``advance`` is called twice a trial."""
        for trial in self.trials:
            result = self._glimpse.search(
                self._gallery, trial.data, filter=trial.filter, top_k=self._depth, include_incomparable=True
            )
            self.weighted.add(trial, result)
            advance()
        copy_ignoring_visibility(self._glimpse, self._gallery, self._copy)
        for start in range(0, len(self.trials), EXTRACTED_AT_ONCE):
            some = self.trials[start : start + EXTRACTED_AT_ONCE]
            extraction = self._glimpse.extract([trial.data for trial in some])
            plain = ignoring_visibility(extraction.features)
            self._features += [plain[row : row + 1] for row in range(len(some))]
        for number, trial in enumerate(self.trials):
            self.ignoring.add(trial, self._search_ignoring(number, self._depth, explain=False))
            advance()

    def explained(self, number: int, top_k: int) -> SearchResult:
        """The first matches of a trial, by visibility, explained."""
        trial = self.trials[number]
        return self._glimpse.search(self._gallery, trial.data, filter=trial.filter, top_k=top_k, explain=True)

    def explained_ignoring(self, number: int, top_k: int) -> SearchResult:
        """The same with visibilities ignored; only after `run`."""
        return self._search_ignoring(number, top_k, explain=True)

    def gain(self) -> Gain:
        """Of weighting over ignoring, in Rank-1."""
        return paired_gain(self.weighted.hits, self.ignoring.hits)

    def _search_ignoring(self, number: int, top_k: int, *, explain: bool) -> SearchResult:
        return self._glimpse.search(
            self._copy,
            features=self._features[number],
            filter=self.trials[number].filter,
            top_k=top_k,
            include_incomparable=True,
            explain=explain,
        )


def paired_gain(hits: Sequence[bool], without: Sequence[bool], seed: int = 0) -> Gain:
    """The gain of ``hits`` over ``without``, query by query; the interval is a paired bootstrap's."""
    differences = np.asarray(hits, np.float64) - np.asarray(without, np.float64)  # [Q]
    picks = np.random.default_rng(seed).integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.percentile(differences[picks].mean(axis=1), (2.5, 97.5))
    return Gain(100 * float(differences.mean()), 100 * float(low), 100 * float(high))


def ignoring_visibility(features: PartFeatures) -> PartFeatures:
    """The same vectors with every visibility 1; a part without a vector has nothing to compare and stays 0."""
    slices = features.schema.slices
    norms = np.stack([np.linalg.norm(features.vectors[:, columns], axis=1) for columns in slices], axis=1)  # [N, P]
    seen: NDArray[np.float32] = (norms > 0.5).astype(np.float32)
    return PartFeatures(features.vectors, seen, features.schema)


def copy_ignoring_visibility(glimpse: Client, gallery: str, copy: str) -> int:
    """Makes gallery ``copy`` of the stored features of ``gallery``, all visibilities 1; returns the items copied."""
    glimpse.create_gallery(copy)

    def items() -> Iterator[Item]:
        for listed in glimpse.list_items(gallery):
            stored = glimpse.get_item(gallery, listed.item_id)
            if stored.features is not None:
                yield Item(
                    item_id=stored.item_id,
                    features=ignoring_visibility(stored.features),
                    person_id=stored.person_id,
                    camera_id=stored.camera_id,
                )

    return sum(result.ok for result in glimpse.upsert(copy, items(), batch_items=500))
