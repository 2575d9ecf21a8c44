"""The Faiss engine: one list of 8-bit codes per visibility pattern, exactly re-ranked.

Within a group of items that show the same parts the denominator of the distance is nearly constant, so an
inner-product search over visibility-weighted vectors finds the right candidates there; over all items at once it
would rank by how much is visible. Each list gives its best rows, each row's score is divided by the row's own
denominator (with soft visibilities that finds far more of the first hundred than the pattern's mean does), the lists
are merged, and the best of all are scored by the oracle's formula.

Lists are sealed: built once over a snapshot's rows, never changed, swapped whole. Rows of rare patterns and rows
added since are scanned exactly; when those added since are many, new lists are built in the background.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import faiss as typed_faiss
import numpy as np
from numpy.typing import NDArray

from glimpse.parts import Float32
from server.galleries.background import Background
from server.galleries.engines.base import Ranked, Request
from server.galleries.engines.exact import ExactEngine, rank
from server.galleries.engines.scanning import candidates
from server.galleries.engines.scoring import WeightedQuery, evidence
from server.galleries.items import Int64
from server.galleries.snapshots import Numbering, Snapshot

# The package's stubs describe the C++ signatures, not the Python ones that take arrays.
faiss: Any = typed_faiss

RARE = 128
"""Patterns of fewer rows get no list: a call into Faiss costs more than scanning them."""
TAIL_ROWS = 4096
TAIL_SHARE = 0.1
"""New lists are built when more rows than either of these were added since."""
SELECTIVE = 0.125
"""A filter that lets a smaller share of the rows pass is answered by the exact engine."""
TRAINING_ROWS = 20_000
CHUNK_ROWS = 8192


@dataclass(frozen=True, slots=True, eq=False)
class PatternList:
    """The rows of one visibility pattern and their codes."""

    rows: Int64
    """Ascending; position i of the index is ``rows[i]``."""
    dims: NDArray[np.bool_]
    """``(sum_p D_p,)``: the columns that are coded; parts that no row shows at all are left out."""
    index: Any
    """A `faiss.IndexScalarQuantizer` over weighted vectors; never changed, so any thread may search it."""

    def search(self, query: WeightedQuery, count: int, allowed: NDArray[np.bool_] | None) -> tuple[Int64, Float32]:
        """Up to ``count`` allowed rows with the largest approximate ``<query.vector, concat(vg g)>``, and those."""
        vector = query.vector[self.dims].astype(np.float32)
        if not vector.any():
            return self.rows[:0], np.empty(0, np.float32)
        parameters = None
        if allowed is not None:
            local = allowed[self.rows]
            if not local.any():
                return self.rows[:0], np.empty(0, np.float32)
            if not local.all():
                bitmap = np.packbits(local, bitorder="little")
                parameters = faiss.SearchParameters(sel=faiss.IDSelectorBitmap(bitmap))
        scores, places = self.index.search(vector[None], min(count, len(self.rows)), params=parameters)
        found = places[0] >= 0
        return self.rows[places[0][found]], scores[0][found]


@dataclass(frozen=True, slots=True, eq=False)
class Sealed:
    """The lists over the first rows of one numbering."""

    numbering: Numbering
    rows: int
    lists: tuple[PatternList, ...]
    rare: Int64
    """Ascending rows of patterns without a list."""


class FaissEngine:
    """See the module. The first fast search starts the building of lists; until they are there it scans exactly."""

    def __init__(self, background: Background) -> None:
        self._background = background
        self._exact = ExactEngine(background)
        self._sealed: Sealed | None = None
        self._sealing = threading.Lock()

    def search(self, snapshot: Snapshot, request: Request) -> Ranked:
        sealed = self._sealed
        if sealed is not None and sealed.numbering is not snapshot.numbering:
            sealed = None  # compacted since
        self._seal_if_due(snapshot, sealed)
        if sealed is not None and sealed.rows > snapshot.rows:
            sealed = None  # sealed while this search was beginning: its snapshot is older
        top_k, allowed = request.top_k, request.allowed
        selective = allowed is not None and np.count_nonzero(allowed) < SELECTIVE * snapshot.rows
        if sealed is None or not sealed.lists or top_k is None or selective:
            return self._exact.search(snapshot, request)
        if request.query.min_joint > 0:
            # A list knows nothing of the threshold: its best rows could all lie below it.
            comparable = _comparable(snapshot, request.query)
            allowed = comparable if allowed is None else allowed & comparable
        found = _candidates(snapshot, sealed, request.query, allowed, top_k)
        if len(found) < top_k:
            return self._exact.search(snapshot, request)
        return rank(snapshot, request, found, exact=False)

    def seal(self, snapshot: Snapshot) -> None:
        """Builds lists over the snapshot's live rows and swaps them in."""
        rows = np.flatnonzero(snapshot.alive)
        patterns = snapshot.patterns[rows]
        order = np.argsort(patterns, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(patterns[order])) + 1)
        lists, rare = [], [rows[:0]]
        for group in groups:
            shown: NDArray[np.bool_] = np.any(snapshot.visibility(rows[group]) > 0, axis=1)  # [P]
            if len(group) < RARE or not shown.any():
                rare.append(rows[group])
            else:
                lists.append(_pattern_list(snapshot, rows[group], shown))
        self._sealed = Sealed(snapshot.numbering, snapshot.rows, tuple(lists), np.sort(np.concatenate(rare)))

    def _seal_if_due(self, snapshot: Snapshot, sealed: Sealed | None) -> None:
        covered = sealed.rows if sealed else 0
        if snapshot.rows - covered <= max(TAIL_ROWS, TAIL_SHARE * covered):
            return
        if self._sealing.acquire(blocking=False) and not self._background.submit(lambda: self._seal_once(snapshot)):
            self._sealing.release()

    def _seal_once(self, snapshot: Snapshot) -> None:
        try:
            self.seal(snapshot)
        finally:
            self._sealing.release()


def _candidates(
    snapshot: Snapshot, sealed: Sealed, query: WeightedQuery, allowed: NDArray[np.bool_] | None, top_k: int
) -> Int64:
    """Comparable rows that are worth an exact distance."""
    # Faiss would start a team of threads for each list of each query; the setting is per calling thread.
    faiss.omp_set_num_threads(1)
    found = [group.search(query, max(50, 2 * top_k), allowed) for group in sealed.lists]
    coded = np.concatenate([rows for rows, _ in found])
    similarity = np.concatenate([scores for _, scores in found])
    total, comparable = evidence(query, snapshot.visibility(coded))
    coded, score = coded[comparable], similarity[comparable] / (total[comparable] + snapshot.schema.prior)
    kept = max(100, 4 * top_k)
    if len(coded) > kept:
        coded = coded[np.argpartition(-score, kept)[:kept]]
    waiting = np.zeros(snapshot.rows, np.bool_)
    waiting[sealed.rare] = True
    waiting[sealed.rows :] = True
    if allowed is not None:
        waiting &= allowed
    (others,) = candidates(snapshot, [Request(query, waiting, kept, False)])
    return np.concatenate([coded, others])


def _comparable(snapshot: Snapshot, query: WeightedQuery) -> NDArray[np.bool_]:
    pieces = [evidence(query, block.visibility[:, :size])[1] for block, size in snapshot.pieces()]
    return np.concatenate(pieces)


def _pattern_list(snapshot: Snapshot, rows: Int64, shown: NDArray[np.bool_]) -> PatternList:
    dims = np.repeat(shown, snapshot.schema.dims)
    index = faiss.IndexScalarQuantizer(int(dims.sum()), faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    sample = rows[:: -(-len(rows) // TRAINING_ROWS)]
    index.train(snapshot.weighted(sample)[:, dims])
    for start in range(0, len(rows), CHUNK_ROWS):
        index.add(snapshot.weighted(rows[start : start + CHUNK_ROWS])[:, dims])
    return PatternList(rows, dims, index)
