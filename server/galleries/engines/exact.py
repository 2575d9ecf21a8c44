"""The exact engine: every allowed row is scored, and the ranking is the oracle's, ties included."""

from __future__ import annotations

import heapq

import numpy as np

from server.galleries.background import Background
from server.galleries.columns import Snapshot
from server.galleries.engines.base import Ranked, Request
from server.galleries.engines.scoring import closest, ranking_order, rescore, scan
from server.galleries.items import Int64


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


def rank(snapshot: Snapshot, request: Request, rows: Int64, *, exact: bool) -> Ranked:
    """The best ``top_k`` of ``rows`` by their exact distances."""
    distance, joint = rescore(snapshot, request.query, rows)
    order = ranking_order(snapshot, rows, distance)[: request.top_k]
    return Ranked(rows[order], distance[order], joint[order], exact)


def _rows(rows: Int64 | None, positions: Int64) -> Int64:
    return positions if rows is None else rows[positions]
