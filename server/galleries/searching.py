"""`Searcher`: answers the searches of one gallery with its engines, several at once where that saves work."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import PartFeatures
from server.errors import InvalidArgument, ServerError, forget_traceback
from server.galleries.background import Background
from server.galleries.columns import Snapshot
from server.galleries.engines import open_engine
from server.galleries.engines.base import Ranked, Request
from server.galleries.engines.exact import ExactEngine
from server.galleries.engines.scoring import weighted_query
from server.galleries.pace import Pace
from server.galleries.ranking import Ranking, SearchOptions
from server.galleries.settings import GallerySettings

FAST_TOGETHER = 8
"""From so many fast searches at once on, an exact scan answers sooner: it reads the rows once for all of them."""

Asked = tuple[PartFeatures, SearchOptions]
"""One row of features, and how to search for it."""


@dataclass(frozen=True, slots=True)
class SearchTuning:
    """What a server wants of the searches of all its galleries."""

    recall_every: int = 100
    """One in so many fast searches is compared with the exact ranking; 0 compares none."""
    threads: int = 1
    """So many share one search of a large gallery."""


class Searcher:
    """The engines of a gallery and what is known of their pace; any number of threads may search at once."""

    def __init__(self, settings: GallerySettings, background: Background, tuning: SearchTuning) -> None:
        self.pace = Pace(tuning.recall_every)
        self._settings = settings
        self._background = background
        self._exact = ExactEngine(background, tuning.threads)
        self._fast = open_engine("fast", background, tuning.threads)

    def search(self, snapshot: Snapshot, asked: Sequence[Asked]) -> list[Ranking | ServerError]:
        """A ranking for each of ``asked``, or why there is none: InvalidArgument for a query of another schema or of
        several rows and for part weights or a threshold out of range.
        """
        found: dict[int, Ranked | ServerError] = {}
        exact: dict[int, Request] = {}
        fast: dict[int, Request] = {}
        for place, (query, options) in enumerate(asked):
            try:
                request = self._request(snapshot, query, options)
                (fast if self._is_to_be_fast(snapshot, request, options) else exact)[place] = request
            except ServerError as error:
                forget_traceback(error)
                found[place] = error
        # A compact gallery has the codes of an exact scan on the disk.
        if len(fast) >= FAST_TOGETHER and not self._settings.compact:
            exact, fast = {**exact, **fast}, {}
        found.update({place: self._search_fast(snapshot, request) for place, request in fast.items()})
        found.update(zip(exact, self._search_exactly(snapshot, list(exact.values())), strict=True))
        return [_ranking(snapshot, found[place]) for place in range(len(asked))]

    def _request(self, snapshot: Snapshot, query: PartFeatures, options: SearchOptions) -> Request:
        try:
            weighted = weighted_query(query, self._settings.schema, options.part_weights, options.min_joint_visibility)
        except ValueError as error:
            raise InvalidArgument(str(error)) from error
        return Request(weighted, _allowed(snapshot, options), options.top_k, options.include_incomparable)

    def _is_to_be_fast(self, snapshot: Snapshot, request: Request, options: SearchOptions) -> bool:
        target = self._settings.latency_target_us
        if options.mode != "auto":
            return options.mode == "fast"
        if target is None:
            return self._settings.compact
        return self.pace.exact_seconds(request.rows(snapshot)) * 1e6 > target

    def _search_fast(self, snapshot: Snapshot, request: Request) -> Ranked:
        ranked = self._fast.search(snapshot, request)
        if not ranked.exact and self.pace.sample_is_due():
            self._background.submit(lambda: self._sample_recall(snapshot, request, ranked))
        return ranked

    def _search_exactly(self, snapshot: Snapshot, requests: Sequence[Request]) -> list[Ranked]:
        start = time.perf_counter()
        ranked = self._exact.search_together(snapshot, requests)
        # Several together keep each of their callers waiting for all of that time.
        if requests and all(request.top_k is not None for request in requests):
            rows = max(request.rows(snapshot) for request in requests)
            self.pace.exact_took(rows, time.perf_counter() - start)
        return ranked

    def _sample_recall(self, snapshot: Snapshot, request: Request, ranked: Ranked) -> None:
        (exact,) = self._search_exactly(snapshot, [request])
        self.pace.recalled(len(np.intersect1d(exact.rows, ranked.rows)), len(exact.rows))


def _ranking(snapshot: Snapshot, ranked: Ranked | ServerError) -> Ranking | ServerError:
    if isinstance(ranked, ServerError):
        return ranked
    return Ranking(ranked.rows, ranked.distance, ranked.joint, ranked.exact, snapshot.sequence, snapshot)


def _allowed(snapshot: Snapshot, options: SearchOptions) -> NDArray[np.bool_] | None:
    mask = None if options.filter.empty else options.filter.mask(snapshot)
    if snapshot.dead:
        mask = snapshot.alive if mask is None else mask & snapshot.alive
    left_out = None if options.leave_out is None else snapshot.row_of(options.leave_out)
    if left_out is not None:
        mask = np.ones(snapshot.rows, np.bool_) if mask is None else mask.copy()
        mask[left_out] = False
    return mask
