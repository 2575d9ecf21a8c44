"""The scan of a snapshot: which rows can be among the closest to each query, proved by the codes' error bounds.

The blocks are read once for all queries. A row is left out only when so many others are certainly closer as were
asked for; ties of the last one are kept. See `kernels.scan` for the pass over one block, `codes` and `rounding` for
the bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from server.galleries.blocks import Block
from server.galleries.engines.base import Request
from server.galleries.engines.rounding import RoundedQueries, round_queries
from server.galleries.items import Int64
from server.galleries.snapshots import Snapshot

FIRST_ROOM = 1024
"""Rows that are kept for a query before those are let go of that turned out too far."""
PIECE_ROWS = 65_536
"""Rows of one call of the kernel."""

Mask = NDArray[np.bool_]
Result = TypeVar("Result")
Piece = tuple[Block, slice]
"""Rows of a block, by their places."""


class Kept:
    """The best rows so far of Q queries; for one thread."""

    def __init__(self, queries: int, top_k: int) -> None:
        self.heaps = np.empty((queries, top_k))
        self.sizes = np.zeros(queries, np.int64)
        room = max(FIRST_ROOM, 4 * top_k)
        self.rows = np.empty((queries, room), np.int64)
        self.reach = np.empty((queries, room))
        self.counts = np.zeros(queries, np.int64)

    def scan(self, block: Block, local: NDArray[np.int32], masks: NDArray[np.uint8], queries: RoundedQueries) -> None:
        """Goes through some rows of a block, given by their places in it; the masks tell who may return which."""
        from server.galleries.engines.kernels.scan import scan_block

        codes = block.codes
        begin = 0
        while True:
            begin = scan_block(
                *(codes.codes, codes.scale, codes.residual, codes.norm, block.visibility),
                *(block.start, local, masks, begin),
                *queries.arguments(),
                *(self.heaps, self.sizes, self.rows, self.reach, self.counts),
            )
            if begin == len(local):
                return
            self.rows = np.concatenate([self.rows, np.empty_like(self.rows)], axis=1)
            self.reach = np.concatenate([self.reach, np.empty_like(self.reach)], axis=1)

    def of(self, query: int) -> tuple[Int64, NDArray[np.float64], NDArray[np.float64]]:
        """Kept rows, the scores they can reach, and the best scores that are certainly reached."""
        count = self.counts[query]
        return self.rows[query, :count], self.reach[query, :count], self.heaps[query, : self.sizes[query]]


def candidates(
    snapshot: Snapshot, requests: Sequence[Request], threads: int = 1, *, unsealed: bool = False
) -> list[Int64]:
    """Ascending rows that can be among the ``top_k`` closest comparable ones, for each request; all have a ``top_k``.

    The rows are read once for all of the requests, which should allow about the same ones. ``unsealed`` looks only at
    blocks without compact codes.
    """
    queries = round_queries(snapshot.schema, [request.query for request in requests])
    top_k = max(request.top_k or 1 for request in requests)
    top_k = min(top_k, max(1, max(request.rows(snapshot) for request in requests)))
    pieces = [piece for piece in row_pieces(snapshot) if not unsealed or piece[0].compact is None]
    kept = share_out(pieces, threads, lambda share: _scan(share, requests, queries, top_k))
    return [_merged([each.of(q) for each in kept], top_k) for q in range(len(requests))]


def _scan(pieces: Sequence[Piece], requests: Sequence[Request], queries: RoundedQueries, top_k: int) -> Kept:
    kept = Kept(len(requests), top_k)
    allowed = [request.allowed for request in requests]
    alike = all(mask is allowed[0] for mask in allowed)
    for block, places in pieces:
        rows = slice(block.start + places.start, block.start + places.stop)
        local = np.arange(places.start, places.stop, dtype=np.int32)
        masks = np.empty((0, 0), np.uint8)
        if alike:
            if allowed[0] is not None:
                local = local[allowed[0][rows]]
        else:
            each = np.stack([np.ones(len(local), np.bool_) if mask is None else mask[rows] for mask in allowed])
            some = each.any(axis=0)
            local, masks = local[some], np.ascontiguousarray(each[:, some]).view(np.uint8)
        if len(local):
            kept.scan(block, local, masks, queries)
    return kept


def row_pieces(snapshot: Snapshot) -> Iterator[Piece]:
    """All rows, so many at a time that another thread is let in soon."""
    for block, size in snapshot.pieces():
        for start in range(0, size, PIECE_ROWS):
            yield block, slice(start, min(start + PIECE_ROWS, size))


def share_out(pieces: Sequence[Piece], threads: int, work: Callable[[Sequence[Piece]], Result]) -> list[Result]:
    """What ``work`` makes of each thread's share of the pieces; of all of them at once when there are few."""
    shares = _shares(pieces, threads)
    if len(shares) == 1:
        return [work(shares[0])]
    return list(_pool(threads).map(work, shares))


def _shares(pieces: Sequence[Piece], threads: int) -> list[Sequence[Piece]]:
    """The pieces for each thread, about as many rows for each."""
    if threads == 1 or len(pieces) < 2:
        return [pieces]
    ends = np.cumsum([places.stop - places.start for _, places in pieces])
    cuts = np.searchsorted(ends, ends[-1] * np.arange(1, threads) / threads) + 1
    bounds = [0, *cuts.tolist(), len(pieces)]
    return [pieces[first:last] for first, last in pairwise(bounds) if first < last]


def _merged(found: Sequence[tuple[Int64, NDArray[np.float64], NDArray[np.float64]]], top_k: int) -> Int64:
    """The rows of several threads that still can be among the closest of all."""
    rows, reach, certain = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if len(certain) >= top_k:
        least = np.partition(certain, len(certain) - top_k)[len(certain) - top_k]
        if least > -1.0:
            rows = rows[reach >= min(least, 1.0)]
    return np.sort(rows)


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="glimpse-scan")
