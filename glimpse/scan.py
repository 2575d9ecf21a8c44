"""The distance of `glimpse.distance` for many queries at once: float32 matrix products over tiles of the gallery.

Up to alpha and the prior, a distance is a ratio of two inner products (`glimpse.distance`), so Q x G distances are two
matrix products. They are made tile by tile: no weighted copy of the gallery exists, and a tile stays in the cache while
it is divided. Float32 products differ from the oracle's float64 by up to `DistanceScan.tolerance`; where that could
change the rank of a positive, `DistanceScan.ranks` asks the oracle, so ranks and metrics are exactly the oracle's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.distance import pairwise, resolve_weights
from glimpse.metrics import Ranks
from glimpse.parts import Float32, PartFeatures

TILE = 1024
"""Gallery rows of one product."""
QUERY_BLOCK = 1024
BLOCK_BYTES = 64 << 20
"""Of the distances of one block of queries."""
FAINT = 1e-9
"""Weights below it, but above 0, could underflow in float32 products: then everything is float64."""
_UNIT = 2.0**-24
_PAIR_BYTES = 1 << 21  # of gathered vectors: a chunk should stay in the cache


class DistanceScan:
    """Distances to one gallery, which is not copied."""

    def __init__(self, gallery: PartFeatures, part_weights: Mapping[str, float] | None = None) -> None:
        """``part_weights`` replace the schema's; ValueError as in `glimpse.distance.resolve_weights`."""
        self.gallery = gallery
        self.part_weights = part_weights
        alpha = resolve_weights(gallery.schema, part_weights)
        # The ratio does not change when alpha and prior are scaled alike, and no alpha is then too large for float32.
        self._alpha = alpha / alpha.max()
        self._prior = gallery.schema.prior / alpha.max()
        self._faint = _has_faint(gallery.visibility)

    @property
    def tolerance(self) -> float:
        """How far a float32 distance may be from the oracle's.

        Rounding errors of a sum of n products of unit vectors grow like sqrt(n) units in the last place (Higham and
        Mary, SIAM J. Sci. Comput. 2019); blocked products stay well below it.
        """
        return (4 + math.sqrt(self.gallery.schema.width)) * _UNIT

    def __call__(self, query: PartFeatures) -> Float32:
        """float32 ``(Q, G)`` in [0, 2], each within `tolerance` of `glimpse.distance.pairwise`; NaN where a pair
        shares nothing, exactly as there."""
        self._check(query)
        weights = query.visibility * self._alpha  # [Q, P] float64
        wide = self._faint or _has_faint(weights)
        number = np.dtype(np.float64 if wide else np.float32)
        weights = weights.astype(number)
        left = query.vectors * self._spread(weights)  # [Q, D]
        distances = np.empty((len(query), len(self.gallery)), np.float32)
        for start in range(0, len(self.gallery), TILE):
            rows = slice(start, start + TILE)
            visible = self.gallery.visibility[rows].astype(number, copy=False)  # [T, P]
            tile = left @ (self.gallery.vectors[rows] * self._spread(visible)).T  # [Q, T]
            _finish(tile, weights @ visible.T, self._prior)
            distances[:, rows] = tile
        return distances

    def of_pairs(self, query: PartFeatures, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Float32:
        """float32 ``(n,)``: the distances of query ``rows[i]`` to gallery item ``columns[i]``, within `tolerance`."""
        self._check(query)
        schema = self.gallery.schema
        distances = np.empty(len(rows), np.float32)
        step = max(1, _PAIR_BYTES // (4 * schema.width))
        for start in range(0, len(rows), step):
            left, right = rows[start : start + step], columns[start : start + step]
            weight = query.visibility[left] * self._alpha * self.gallery.visibility[right]  # [n, P] float64
            q, g = query.vectors[left], self.gallery.vectors[right]  # [n, D]
            alike = [np.einsum("nd,nd->n", q[:, part], g[:, part]) for part in schema.slices]
            numerator = np.einsum("np,pn->n", weight, np.stack(alike))
            _finish(numerator, weight.sum(axis=1), self._prior)
            distances[start : start + step] = numerator
        return distances

    def joint_of(self, query: PartFeatures, columns: NDArray[np.int64]) -> Float32:
        """float32 of the shape of ``columns``, ``(Q, n)``: joint visibility of query i with gallery items
        ``columns[i]`` (`glimpse.distance`)."""
        self._check(query)
        optional = ~self.gallery.schema.always_visible
        alpha = self._alpha * optional
        if not alpha.any():
            return np.ones(columns.shape, np.float32)
        weights = query.visibility * (alpha / alpha.sum())  # [Q, P]
        joint = np.empty(columns.shape, np.float32)
        for row, items in enumerate(columns):
            joint[row] = self.gallery.visibility[items] @ weights[row]
        return np.clip(joint, 0, 1)

    def ranks(
        self,
        query: PartFeatures,
        distances: Float32,
        positive: NDArray[np.bool_],
        negative: NDArray[np.bool_],
    ) -> Ranks:
        """The ranks of one query's positives, int64 ``(n,)``, ascending from 1, exactly as the oracle's distances and
        pessimistic ties give them (`glimpse.metrics`).

        Args:
            query: one row.
            distances: ``(G,)``, its row of this scan.
            positive: bool ``(G,)``.
            negative: bool ``(G,)``; what is neither takes no part.
        """
        columns = np.flatnonzero(positive)
        if not len(columns):
            return np.empty(0, np.int64)
        found, others = distances[columns], distances[negative]
        margin = np.float32(2 * self.tolerance)  # both sides of a comparison may be off
        low, high = found - margin, found + margin
        if not np.isnan(farthest := high.max()):
            others = others[others <= farthest]  # what lies behind the last positive counts for nothing
        others = np.sort(others)  # NaN sorts last
        ahead = np.searchsorted(others, low, side="left")
        behind = np.searchsorted(others, high, side="right")
        # What can be compared at all is exact, so a NaN is behind every number and ties with every other NaN.
        nothing = np.isnan(found)
        ahead[nothing] = behind[nothing] = len(others)
        doubtful = np.flatnonzero(behind > ahead)
        if len(doubtful):
            close = [np.flatnonzero(negative & (distances >= low[i]) & (distances <= high[i])) for i in doubtful]
            asked, places = np.unique(np.concatenate([columns[doubtful], *close]), return_inverse=True)
            exact = pairwise(query, self.gallery[asked], part_weights=self.part_weights).distance[0][places]
            own, rest = (
                exact[: len(doubtful)],
                np.split(exact[len(doubtful) :], np.cumsum([len(c) for c in close])[:-1]),
            )
            for i, value, near in zip(doubtful, own, rest, strict=True):
                ahead[i] += np.count_nonzero(near <= value)
        return np.sort(ahead) + np.arange(1, len(columns) + 1)

    def _check(self, query: PartFeatures) -> None:
        if not self.gallery.schema.same_layout(query.schema):
            raise ValueError(
                f"query parts {query.schema.describe()} differ from the gallery's {self.gallery.schema.describe()}"
            )

    def _spread(self, per_part: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
        return np.repeat(per_part, self.gallery.schema.dims, axis=1)


def query_blocks(queries: int, items: int) -> Iterator[slice]:
    """Slices of 0 to ``queries`` such that float32 ``(block, items)`` takes at most `BLOCK_BYTES`."""
    most = max(1, min(QUERY_BLOCK, BLOCK_BYTES // (4 * max(items, 1))))
    count = -(-queries // most)
    edges = np.linspace(0, queries, count + 1).astype(int).tolist()  # of even sizes: a product likes many rows
    for start, stop in itertools.pairwise(edges):
        yield slice(start, stop)


def _finish(numerator: NDArray[np.floating[Any]], total: NDArray[np.floating[Any]], prior: float) -> None:
    """Turns numerators into distances, in place; ``total`` is spent."""
    nothing = total == 0
    total += prior
    with np.errstate(invalid="ignore", divide="ignore"):
        np.divide(numerator, total, out=numerator)
    np.subtract(1, numerator, out=numerator)
    np.clip(numerator, 0, 2, out=numerator)
    if nothing.any():
        numerator[nothing] = np.nan


def _has_faint(weights: NDArray[np.floating[Any]]) -> bool:
    return bool(((weights > 0) & (weights < FAINT)).any())
