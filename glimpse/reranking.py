"""k-reciprocal re-ranking (Zhong et al., CVPR 2017) of visibility-weighted part distances, without an N x N array.

All N = Q + G images are each other's candidates. With d(i, j) the distance of `glimpse.distance` and

    D(i, j)  = d(i, j) / max_k d(i, k)                              (the published code's scale)
    N(i, k)  = i itself, then its k nearest                         (i is its own nearest, whatever the prior)
    R(i, k)  = {j in N(i, k) : i in N(j, k)}                        (k-reciprocal neighbours)
    R*(i)    = R(i, k1), and of every j in it R(j, round(k1 / 2)) where more than two thirds of that lie in R(i, k1)
    V(i, j)  = exp(-D(i, j)) for j in R*(i), else 0, scaled to sum 1
    V'(i)    = mean of V over the k2 first of N(i, k1)              (local query expansion)
    J(q, g)  = 1 - sum_j min(V'(q, j), V'(g, j)) / (2 - the same sum)

a query's final distance to an item is (1 - weight) J(q, g) + weight D(q, g).

Only neighbour lists and V, sparse, are kept: lists come from the streamed distance, and J needs no item that shares no
column of V' with the query. An *incomparable* pair has no distance: the two are never neighbours, V leaves them out,
the maximum does not see them, and the final distance is NaN, which ranks last. Of equal distances the lower row comes
first; distances are float32, so pairs closer than `DistanceScan.tolerance` may stand either way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glimpse.parts import Float32, PartFeatures
from glimpse.scan import DistanceScan, query_blocks
from glimpse.sparse import SparseRows

Int64 = NDArray[np.int64]
NOBODY = -1
_CHUNK = 256  # rows whose neighbours' neighbours are looked at together
_STRIDE, _SORTED = 8, 64  # columns left out of a first look; rows sorted together


@dataclass(frozen=True, slots=True)
class Reranking:
    """The settings; the defaults are the paper's."""

    k1: int = 20
    """Neighbours that may be reciprocal."""
    k2: int = 6
    """Neighbours, the image itself among them, whose V are averaged; 1 averages nothing."""
    weight: float = 0.3
    """Of the original distance in the final one (the paper's lambda)."""

    def __post_init__(self) -> None:
        if self.k1 < 1:
            raise ValueError(f"k1 must be at least 1, got {self.k1}")
        if not 1 <= self.k2 <= self.k1 + 1:
            raise ValueError(f"k2 must be within [1, k1 + 1] = [1, {self.k1 + 1}], got {self.k2}")
        if not 0 <= self.weight <= 1:  # also refuses NaN
            raise ValueError(f"weight must be within [0, 1], got {self.weight}")

    @property
    def fact(self) -> str:
        """What a report says beside figures."""
        return (
            f"re-ranked: k-reciprocal (Zhong et al. 2017), k1={self.k1}, k2={self.k2}, lambda={self.weight:g}; "
            "it uses all queries and the whole gallery at once, which a search for one person cannot"
        )


@dataclass(frozen=True)
class Neighbours:
    """The nearest of each of N images, itself first."""

    rows: Int64
    """int64 ``(N, k + 1)``; `NOBODY` where fewer can be compared."""
    farthest: Float32
    """float32 ``(N,)``: the largest distance of each image to any other; 1 where that is 0 or there is none."""


def rerank(
    query: PartFeatures,
    gallery: PartFeatures,
    settings: Reranking | None = None,
    *,
    part_weights: Mapping[str, float] | None = None,
) -> Iterator[tuple[slice, Float32]]:
    """Blocks of queries in order, each as its rows and its final distances, float32 ``(rows, G)`` in [0, 1].

    NaN where a pair is incomparable. Memory beyond one copy of the features grows with N (k1 + 1), not with N squared.

    Raises:
        ValueError: the schemas differ, a part weight is out of range, or there are no images on a side.
    """
    settings = settings or Reranking()
    if len(query) == 0 or len(gallery) == 0:
        raise ValueError(f"re-ranking needs queries and a gallery, got {len(query)} and {len(gallery)} images")
    # The gallery's schema has the weights and prior that count.
    everything = PartFeatures.concatenate([gallery[:0], query, gallery])
    scan = DistanceScan(everything, part_weights)
    neighbours = find_neighbours(scan, settings.k1)
    vectors = _expanded(_reciprocal_vectors(scan, neighbours, settings.k1), neighbours, settings.k2)
    support = vectors.take(np.arange(len(query), len(everything))).transposed()
    to_gallery = DistanceScan(gallery, part_weights)
    for rows in query_blocks(len(query), len(gallery)):
        distances = to_gallery(query[rows])
        distances *= settings.weight / neighbours.farthest[rows, None]
        for row in range(rows.start, rows.stop):
            columns, values = vectors.row(row)
            shared = support.shared_mass(columns, values)  # [G] sum of minima
            distances[row - rows.start] += (1 - settings.weight) * (1 - shared / (2 - shared))
        yield rows, distances


def find_neighbours(scan: DistanceScan, k: int) -> Neighbours:
    """Each image of the scan's gallery with its ``k`` nearest others, from the streamed distance."""
    features, count = scan.gallery, len(scan.gallery)
    k = min(k, count - 1)
    nearest = np.empty((count, k + 1), np.int64)
    farthest = np.empty(count, np.float32)
    for rows in query_blocks(count, count):
        distances = scan(features[rows])
        own = (np.arange(len(distances)), np.arange(rows.start, rows.stop))
        distances[own] = np.nan
        largest = np.fmax.reduce(distances, axis=1)
        farthest[rows] = np.where(largest > 0, largest, 1)
        distances[np.isnan(distances)] = np.inf
        distances[own] = -1  # first, whatever its distance to itself
        nearest[rows] = _smallest(distances, k + 1)
    return Neighbours(nearest, farthest)


def _smallest(distances: Float32, k: int) -> Int64:
    """The columns of the ``k`` smallest of each row in order, the lower column first among equals; an infinite one is
    `NOBODY`."""
    # The k smallest of some columns bound those of all: what is left to sort is a small share of a row.
    stride = max(1, min(_STRIDE, distances.shape[1] // (4 * k)))
    found = np.empty((len(distances), k), np.int64)
    for start in range(0, len(distances), _SORTED):
        some = distances[start : start + _SORTED]
        bound = np.partition(some[:, ::stride], k - 1, axis=1)[:, k - 1 : k]
        rows, columns = np.nonzero((some <= bound) & np.isfinite(some))
        counts = np.bincount(rows, minlength=len(some))
        places = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        width = max(k, int(counts.max()))
        values = np.full((len(some), width), np.inf, np.float32)
        names = np.full((len(some), width), NOBODY)
        values[rows, places], names[rows, places] = some[rows, columns], columns
        order = np.argsort(values, axis=1, kind="stable")[:, :k]
        found[start : start + len(some)] = np.take_along_axis(names, order, axis=1)
    return found


def _reciprocal_vectors(scan: DistanceScan, neighbours: Neighbours, k1: int) -> SparseRows:
    """V of every image."""
    nearest, farthest = neighbours.rows, neighbours.farthest
    half = nearest[:, : round(k1 / 2) + 1]  # Python rounds halves to even, as NumPy does in the published code
    mutual, mutual_half = _mutual(nearest), _mutual(half)
    owners, members = [], []
    for start in range(0, len(nearest), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(nearest)))
        found, where = _expanded_sets(rows, nearest, mutual, half, mutual_half)
        owners.append(where)
        members.append(found)
    rows, columns = np.concatenate(owners), np.concatenate(members)
    distances = scan.of_pairs(scan.gallery, rows, columns)
    distances[rows == columns] = 0
    weights = np.nan_to_num(np.exp(-distances / farthest[rows]), nan=0.0)
    return SparseRows.of(rows, columns, weights, len(nearest)).normalised()


def _mutual(nearest: Int64) -> NDArray[np.bool_]:
    """bool ``(N, k + 1)``: whether the image is among the listed neighbour's nearest too."""
    mutual = np.empty(nearest.shape, bool)
    for start in range(0, len(nearest), _CHUNK):
        rows = slice(start, start + _CHUNK)
        listed = nearest[rows]
        own = np.arange(start, start + len(listed))[:, None, None]
        mutual[rows] = (nearest[listed] == own).any(axis=2) & (listed != NOBODY)
    return mutual


def _expanded_sets(
    rows: Int64, nearest: Int64, mutual: NDArray[np.bool_], half: Int64, mutual_half: NDArray[np.bool_]
) -> tuple[Int64, Int64]:
    """The members of R* of some rows, ascending, and the row of each."""
    own = np.where(mutual[rows], nearest[rows], NOBODY)  # [n, k + 1]
    offered = half[own]  # [n, k + 1, h + 1]
    valid = mutual_half[own] & (own != NOBODY)[:, :, None]
    inside = (offered[..., None] == own[:, None, None, :]).any(axis=3) & valid
    taken = 3 * inside.sum(axis=2) > 2 * valid.sum(axis=2)  # [n, k + 1]
    further = np.where(valid & taken[:, :, None], offered, NOBODY).reshape(len(rows), -1)
    members = np.sort(np.concatenate([own, further], axis=1), axis=1)
    first = members != NOBODY
    first[:, 1:] &= members[:, 1:] != members[:, :-1]
    return members[first], np.repeat(rows, first.sum(axis=1))


def _expanded(vectors: SparseRows, neighbours: Neighbours, k2: int) -> SparseRows:
    """V': the mean over each image's first ``k2`` neighbours; where fewer can be compared, over those."""
    if k2 == 1:
        return vectors
    first = neighbours.rows[:, :k2]
    return vectors.averaged(first, first != NOBODY)
