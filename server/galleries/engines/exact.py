"""The exact engine: every allowed row is scored, and the ranking is the oracle's, ties included.

A scan over int8 codes finds the rows that can be among the closest (`scanning`); their stored float16 vectors decide
(`scoring`). What the codes cannot tell apart costs time, never a wrong rank.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from glimpse.parts import Float32
from server.galleries.background import Background
from server.galleries.engines.base import Ranked, Request
from server.galleries.engines.scanning import candidates
from server.galleries.engines.scoring import evidence, ranking_order, rescore, rescore_stored
from server.galleries.items import Int64
from server.galleries.snapshots import Snapshot

TOGETHER = 64
"""Queries of one pass at most; more of them gain nothing."""
READ_TOGETHER = 16_384
"""Rows whose vectors are read at once for several queries."""
FEW_ROWS = 64
"""So few rows are scored exactly without a scan."""


class ExactEngine:
    """See the module. It keeps no state; ``threads`` share one search."""

    def __init__(self, background: Background, threads: int = 1) -> None:
        del background  # nothing here is slow enough to be put off
        self._threads = threads

    def search(self, snapshot: Snapshot, request: Request) -> Ranked:
        (ranked,) = self.search_together(snapshot, [request])
        return ranked

    def search_together(self, snapshot: Snapshot, requests: Sequence[Request]) -> list[Ranked]:
        """The ranking of each request; those that look at most rows read them once for all."""
        ranked: dict[int, Ranked] = {}
        for places in _groups(snapshot, requests):
            group = [requests[place] for place in places]
            ranked.update(zip(places, self._search(snapshot, group), strict=True))
        return [ranked[place] for place in range(len(requests))]

    def _search(self, snapshot: Snapshot, requests: Sequence[Request]) -> list[Ranked]:
        if len(requests) == 1 and _needs_no_scan(snapshot, requests[0]):
            return [_filled(snapshot, requests[0], rank(snapshot, requests[0], _allowed(snapshot, requests[0])))]
        found = candidates(snapshot, requests, self._threads)
        ranked = rank_together(snapshot, requests, found)
        return [_filled(snapshot, request, each) for request, each in zip(requests, ranked, strict=True)]


def rank(snapshot: Snapshot, request: Request, rows: Int64, *, exact: bool = True) -> Ranked:
    """The best ``top_k`` comparable ones of ``rows`` by their exact distances."""
    distance, joint = rescore(snapshot, request.query, rows)
    return _ranked(snapshot, request, rows, distance, joint, exact)


def rank_together(
    snapshot: Snapshot, requests: Sequence[Request], found: Sequence[Int64], *, exact: bool = True
) -> list[Ranked]:
    """`rank` of the ascending rows found for each request, vectors read once for all."""
    if len(requests) == 1 or sum(map(len, found)) > READ_TOGETHER:
        return [rank(snapshot, request, rows, exact=exact) for request, rows in zip(requests, found, strict=True)]
    union = np.unique(np.concatenate(found))
    vectors, visibility = snapshot.stored(union)
    ranked = []
    for request, rows in zip(requests, found, strict=True):
        at = np.searchsorted(union, rows)
        distance, joint = rescore_stored(snapshot.schema, request.query, vectors[at], visibility[at])
        ranked.append(_ranked(snapshot, request, rows, distance, joint, exact))
    return ranked


def _ranked(
    snapshot: Snapshot, request: Request, rows: Int64, distance: Float32, joint: Float32, exact: bool
) -> Ranked:
    comparable = np.flatnonzero(~np.isnan(distance))
    order = comparable[ranking_order(snapshot, rows[comparable], distance[comparable])[: request.top_k]]
    return Ranked(rows[order], distance[order], joint[order], exact)


def _filled(snapshot: Snapshot, request: Request, ranked: Ranked) -> Ranked:
    """The ranking with incomparable rows behind, by item id, if they are asked for and there is room."""
    missing = None if request.top_k is None else request.top_k - len(ranked.rows)
    if not request.include_incomparable or missing == 0:
        return ranked
    others = _incomparable(snapshot, request)
    if missing is not None and missing < len(others):
        others = np.array(heapq.nsmallest(missing, others.tolist(), key=snapshot.item_id), np.int64)
    distance, joint = rescore(snapshot, request.query, others)
    order = ranking_order(snapshot, others, distance)
    return Ranked(
        rows=np.concatenate([ranked.rows, others[order]]),
        distance=np.concatenate([ranked.distance, distance[order]]),
        joint=np.concatenate([ranked.joint, joint[order]]),
        exact=ranked.exact,
    )


def _incomparable(snapshot: Snapshot, request: Request) -> Int64:
    comparable = [evidence(request.query, block.visibility[:, :size])[1] for block, size in snapshot.pieces()]
    others = ~np.concatenate([np.empty(0, np.bool_), *comparable])
    if request.allowed is not None:
        others &= request.allowed
    return np.flatnonzero(others)


def _allowed(snapshot: Snapshot, request: Request) -> Int64:
    return np.arange(snapshot.rows) if request.allowed is None else np.flatnonzero(request.allowed)


def _needs_no_scan(snapshot: Snapshot, request: Request) -> bool:
    return request.top_k is None or request.rows(snapshot) <= max(request.top_k, FEW_ROWS)


def _groups(snapshot: Snapshot, requests: Sequence[Request]) -> list[list[int]]:
    """Places of requests that are scanned together: those that look at most rows, and those with the same filter."""
    groups: dict[int, list[int]] = {}
    alone: list[list[int]] = []
    for place, request in enumerate(requests):
        if _needs_no_scan(snapshot, request):
            alone.append([place])
        else:
            most = 4 * request.rows(snapshot) >= snapshot.rows
            groups.setdefault(0 if most else id(request.allowed), []).append(place)
    split = [places[at : at + TOGETHER] for places in groups.values() for at in range(0, len(places), TOGETHER)]
    return alone + split
