"""Queries as int8 or int16 codes, with what rounding them cost: the other half of the scan's error bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glimpse.distance import Float64
from glimpse.parts import PartSchema
from server.galleries.engines.scoring import WeightedQuery
from server.galleries.items import Int64

TILE, STEP = 4, 64
"""Queries and codes that the kernel multiplies at a time; rows of zeros fill up."""
LEVELS = 127
"""Of the codes of rows."""
FINE_LEVELS = 8191
_LARGEST_SUM = 2**31 - 1
_CAREFUL = 1 + 2.0**-40
"""Sums of float64 are off by less."""


@dataclass(frozen=True, slots=True, eq=False)
class RoundedQueries:
    """The arguments of `kernels.scan.scan_block` that are of the queries, in its order."""

    coarse: NDArray[np.int8]
    fine: NDArray[np.int16]
    spans: Int64
    tiles: Int64
    alpha: Float64
    shown: Float64
    optional: NDArray[np.uint8]
    numbers: Float64
    prior: float

    def arguments(self) -> tuple[Any, ...]:
        return (
            *(self.coarse, self.fine, self.spans, self.tiles),
            *(self.alpha, self.shown, self.optional, self.numbers, self.prior),
        )


def round_queries(schema: PartSchema, queries: Sequence[WeightedQuery]) -> RoundedQueries:
    """Codes of the queries: fine ones, unless there are several and this processor is so much better at coarse ones."""
    from server.galleries.engines.kernels import products

    vectors = np.stack([query.vector for query in queries])  # [Q, sum D]
    coarse = products.COARSE and len(queries) > 1
    # The kernel's sums are int32: of row codes up to 127, or of unsigned ones up to 255.
    largest = min(FINE_LEVELS, _LARGEST_SUM // (LEVELS * schema.width))
    if coarse:
        largest = min(LEVELS, _LARGEST_SUM // ((LEVELS + products.SHIFT) * schema.width))
    peak = np.abs(vectors).max(axis=1)
    step = np.where(peak > 1e-300, peak / largest, 1.0)
    rounded = np.clip(np.rint(vectors / step[:, None]), -largest, largest)
    lost = np.linalg.norm(vectors - rounded * step[:, None], axis=1)
    numbers = np.stack(
        [
            step,
            rounded.sum(axis=1),
            np.linalg.norm(vectors, axis=1) * _CAREFUL + 1e-300,
            np.abs(vectors).sum(axis=1) * _CAREFUL + 1e-300,
            lost * _CAREFUL + peak * 2.0**-40 + 1e-300,
            [query.scale for query in queries],
            [query.min_joint for query in queries],
            [query.optional_sum for query in queries],
        ],
        axis=1,
    )
    codes = np.zeros((-(-len(queries) // TILE) * TILE, schema.width + STEP), np.int8 if coarse else np.int16)
    codes[: len(queries), : schema.width] = rounded
    spans = _spans(schema, (vectors != 0).any(axis=0))
    return RoundedQueries(
        coarse=codes if coarse else np.empty((0, codes.shape[1]), np.int8),
        fine=np.empty((0, codes.shape[1]), np.int16) if coarse else codes,
        spans=spans,
        tiles=_tiles(spans),
        alpha=np.stack([query.alpha for query in queries]),
        shown=np.stack([query.visibility for query in queries]),
        optional=queries[0].optional,
        numbers=numbers,
        prior=schema.prior,
    )


def _spans(schema: PartSchema, used: NDArray[np.bool_]) -> Int64:
    """``(S, 2)``: first and last columns of the stretches of parts that some query shows."""
    spans: list[list[int]] = []
    for columns in schema.slices:
        if not used[columns].any():
            continue
        if spans and spans[-1][1] == columns.start:
            spans[-1][1] = columns.stop
        else:
            spans.append([columns.start, columns.stop])
    return np.array(spans, np.int64).reshape(-1, 2)


def _tiles(spans: Int64) -> Int64:
    """``(T, 2)``: first columns and whole steps that cover the spans, each column once."""
    tiles, end = [], 0
    for first, last in spans.tolist():
        start = max(first, end)
        if start < last:
            steps = -(-(last - start) // STEP)
            end = start + steps * STEP
            tiles.append([start, steps])
    return np.array(tiles, np.int64).reshape(-1, 2)
