"""The fast engine: two-bit codes of sealed rows choose, stored vectors decide the order.

The denominator is part of the score that chooses: by numerators alone, rows would be ranked by how much they show.
Rows that are not sealed yet are scanned as the exact engine does.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from glimpse.distance import Float64
from glimpse.parts import Float32
from server.galleries.background import Background
from server.galleries.blocks import Block
from server.galleries.compact import MIDDLE, PIECE, spread
from server.galleries.compact import pieces as part_pieces
from server.galleries.engines.base import Ranked, Request
from server.galleries.engines.exact import ExactEngine, rank
from server.galleries.engines.scanning import Piece, candidates, row_pieces, share_out
from server.galleries.engines.scoring import WeightedQuery
from server.galleries.items import Int64
from server.galleries.snapshots import Snapshot

KEPT, KEPT_FOR_EACH = 300, 12
"""Rows that are scored exactly: so many at least, and so many for each one asked for."""
FAINT = 0.02
"""Parts that are less than this share of a pair's evidence are left out of the first score."""
SELECTIVE = 0.02
"""A filter that lets a smaller share of the rows pass is answered by the exact engine, which reads those only."""
LEVELS = 127

_Rounded = tuple[NDArray[np.int8], Float32, Float32]


class FastEngine:
    """See the module. It keeps no state: the codes come with the sealed blocks."""

    def __init__(self, background: Background, threads: int = 1) -> None:
        self._exact = ExactEngine(background, threads)
        self._threads = threads

    def search(self, snapshot: Snapshot, request: Request) -> Ranked:
        sealed = [block for block, _ in snapshot.pieces() if block.compact is not None]
        top_k = request.top_k
        if not sealed or top_k is None or request.rows(snapshot) < max(SELECTIVE * snapshot.rows, 4 * _kept(top_k)):
            return self._exact.search(snapshot, request)
        (others,) = candidates(snapshot, [request], unsealed=True)
        found = _sketched(snapshot, request, top_k, self._threads)
        ranked = rank(snapshot, request, np.sort(np.concatenate([others, found])), exact=False)
        # Rows that share too little for a distance may still be asked for.
        return ranked if len(ranked.rows) == top_k else self._exact.search(snapshot, request)


def _kept(top_k: int) -> int:
    return max(KEPT, KEPT_FOR_EACH * top_k)


def _sketched(snapshot: Snapshot, request: Request, top_k: int, threads: int = 1) -> Int64:
    """The rows of sealed blocks with the best scores by their two-bit codes."""
    pieces = [piece for piece in row_pieces(snapshot) if piece[0].compact is not None]
    count, rounded = _kept(top_k), _rounded(snapshot, request.query)
    found = share_out(pieces, threads, lambda share: _scan(snapshot, share, request, count, rounded))
    rows, scores = (np.concatenate(each) for each in zip(*found, strict=True))
    if len(rows) > count:
        rows = rows[np.argpartition(-scores, count - 1)[:count]]
    return rows


def _scan(
    snapshot: Snapshot, pieces: Sequence[Piece], request: Request, count: int, rounded: _Rounded
) -> tuple[Int64, Float64]:
    """At least the ``count`` best rows of the pieces, if there are so many, and their scores."""
    from server.galleries.engines.kernels.sketch import scan_compact

    query, schema = request.query, snapshot.schema
    values, steps, offsets = rounded
    heap, size = np.empty(count), 0
    kept_rows, kept, counts = np.empty(2 * count, np.int64), np.empty(2 * count), np.zeros(1, np.int64)
    for block, places in pieces:
        assert block.compact is not None
        size = scan_compact(
            *(block.compact["codes"], block.compact["factors"], block.visibility, block.start),
            *(_places(block, places, request), values, part_pieces(schema), steps, offsets),
            *(query.alpha, query.visibility, query.optional, query.optional_sum, query.min_joint),
            *(query.scale, schema.prior, FAINT, heap, size, kept_rows, kept, counts),
        )
    found, scores = kept_rows[: counts[0]], kept[: counts[0]]
    good = scores >= (heap[0] if size == count else -np.inf)
    return found[good], scores[good]


def _places(block: Block, places: slice, request: Request) -> NDArray[np.int32]:
    local = np.arange(places.start, places.stop, dtype=np.int32)
    if request.allowed is None:
        return local
    return local[request.allowed[block.start + places.start : block.start + places.stop]]


def _rounded(snapshot: Snapshot, query: WeightedQuery) -> _Rounded:
    """int8 codes of the query's parts ``(pieces, 4, 64)``, what one is worth and the middle's share, ``(P,)`` each."""
    schema = snapshot.schema
    bounds = part_pieces(schema).tolist()
    turned = spread(query.vector.astype(np.float32)[None], schema)[0]  # [pieces, 256]
    steps, offsets = np.zeros(len(schema), np.float32), np.zeros(len(schema), np.float32)
    for p, (first, last) in enumerate(pairwise(bounds)):
        peak = float(np.abs(turned[first:last]).max())
        if peak > 1e-30:
            np.rint(turned[first:last] * (LEVELS / peak), out=turned[first:last])
            steps[p], offsets[p] = peak / LEVELS, MIDDLE * turned[first:last].sum()
        else:
            turned[first:last] = 0
    return turned.reshape(-1, 4, PIECE).astype(np.int8), steps, offsets
