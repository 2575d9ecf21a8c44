"""The exact engine: every allowed row is scored, and the ranking is the oracle's, ties included."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from server.galleries.background import Background
from server.galleries.columns import Snapshot
from server.galleries.engines.base import Ranked, Request
from server.galleries.engines.scoring import closest, ranking_order, rescore, scan, scan_together
from server.galleries.items import Int64

SCORES_AT_ONCE = 1 << 22
"""Queries times rows of one pass; they take 16 MiB."""
TOGETHER = 16
"""Queries of one pass at most; more of them gain nothing."""


class ExactEngine:
    """Two matrix products over the float32 matrix of weighted vectors; see `scoring`. It keeps no state."""

    def __init__(self, background: Background) -> None:
        del background  # nothing here is slow enough to be put off

    def search(self, snapshot: Snapshot, request: Request) -> Ranked:
        rows = None if request.allowed is None else np.flatnonzero(request.allowed)
        scanned = scan(snapshot, request.query, rows)
        found = _rows(rows, closest(scanned, request.top_k))
        ranked = rank(snapshot, request, found, exact=True)
        missing = None if request.top_k is None else request.top_k - len(ranked.rows)
        if not request.include_incomparable or missing == 0:
            return ranked
        others = _rows(rows, np.flatnonzero(~scanned.comparable))
        if missing is not None and missing < len(others):
            others = np.array(heapq.nsmallest(missing, others.tolist(), key=snapshot.item_id), np.int64)
        rest = rank(snapshot, request, others, exact=True)
        return Ranked(
            rows=np.concatenate([ranked.rows, rest.rows]),
            distance=np.concatenate([ranked.distance, rest.distance]),
            joint=np.concatenate([ranked.joint, rest.joint]),
            exact=True,
        )

    def search_together(self, snapshot: Snapshot, requests: Sequence[Request]) -> list[Ranked]:
        """The ranking of each request; those that look at most rows read them once for all."""
        shared = [place for place, request in enumerate(requests) if _looks_at_most(snapshot, request)]
        step = min(TOGETHER, SCORES_AT_ONCE // max(1, snapshot.rows))
        ranked: dict[int, Ranked] = {}
        if len(shared) > 1 and step > 1:
            for start in range(0, len(shared), step):
                places = shared[start : start + step]
                scans = scan_together(snapshot, [requests[place].query for place in places])
                for place, scanned in zip(places, scans, strict=True):
                    request = requests[place]
                    if request.allowed is not None:
                        np.logical_and(scanned.comparable, request.allowed, out=scanned.comparable)
                    ranked[place] = rank(snapshot, request, closest(scanned, request.top_k), exact=True)
        return [
            ranked[place] if place in ranked else self.search(snapshot, request)
            for place, request in enumerate(requests)
        ]


def _looks_at_most(snapshot: Snapshot, request: Request) -> bool:
    """Whether a request has use for a scan of all rows."""
    if request.include_incomparable or request.top_k is None:
        return False
    return 4 * request.rows(snapshot) >= snapshot.rows


def rank(snapshot: Snapshot, request: Request, rows: Int64, *, exact: bool) -> Ranked:
    """The best ``top_k`` of ``rows`` by their exact distances."""
    distance, joint = rescore(snapshot, request.query, rows)
    order = ranking_order(snapshot, rows, distance)[: request.top_k]
    return Ranked(rows[order], distance[order], joint[order], exact)


def _rows(rows: Int64 | None, positions: Int64) -> Int64:
    return positions if rows is None else rows[positions]
