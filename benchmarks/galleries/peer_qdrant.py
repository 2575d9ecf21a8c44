"""Qdrant Edge, the embedded Qdrant: a named vector a part, visibilities as payload, the distance as a `Formula`.

``formula, all`` fetches every item's similarity part by part and is exact; with a limit a prefetch only gives the
items that are best in that part, and the similarity of all others counts as 0.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import qdrant_edge as qdrant

from benchmarks.galleries.problem import Int64, SearchProblem
from glimpse.parts import PartFeatures

LIMITED = 1_000
BATCH = 500


class QdrantEdge:
    """A shard in the cache folder; float32 vectors, scanned exactly as Qdrant does below its indexing threshold."""

    points: Sequence[str] = ("formula, 1,000 a part", "formula, all")

    def __init__(self, problem: SearchProblem, threads: int, cache: Path) -> None:
        self._problem = problem
        self._schema = problem.schema
        folder = cache / f"qdrant-{problem.name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        names = {name: qdrant.EdgeVectorParams(dim, qdrant.Distance.Dot) for name, dim in self._named()}
        start, cpu = time.perf_counter(), time.process_time()
        self._shard = qdrant.EdgeShard.create(str(folder), qdrant.EdgeConfig(vectors=names, max_search_threads=threads))
        for name in self._schema.names:  # the formula reads them for every candidate
            self._shard.update(
                qdrant.UpdateOperation.create_field_index(f"seen_{name}", qdrant.PayloadSchemaType.Float)
            )
        for rows, features in problem.chunks(BATCH):
            points = [self._point(rows.start + i, features[i : i + 1]) for i in range(len(features))]
            self._shard.update(qdrant.UpdateOperation.upsert_points(points))
        self.facts: dict[str, float] = {
            "build_seconds": time.perf_counter() - start,
            "build_cpu_us_an_item": 1e6 * (time.process_time() - cpu) / len(problem),
            "bytes_an_item": 4.0 * self._schema.width,
        }

    def search(self, point: str, queries: PartFeatures, top_k: int) -> Any:
        limit = len(self._problem) if point == "formula, all" else min(LIMITED, len(self._problem))
        return [self._shard.query(self._request(queries[row : row + 1], limit, top_k)) for row in range(len(queries))]

    def rows(self, found: Any) -> list[Int64]:
        return [np.array([int(match.id) for match in one], np.int64) for one in found]

    def close(self) -> None:
        self._shard.close()

    def _named(self) -> list[tuple[str, int]]:
        return list(zip(self._schema.names, self._schema.dims, strict=True))

    def _point(self, row: int, item: PartFeatures) -> Any:
        vectors = {
            name: item.vectors[0, columns].tolist()
            for name, columns in zip(self._schema.names, self._schema.slices, strict=True)
        }
        seen = {
            f"seen_{name}": float(value) for name, value in zip(self._schema.names, item.visibility[0], strict=True)
        }
        return qdrant.Point(row, vectors, seen)

    def _request(self, query: PartFeatures, limit: int, top_k: int) -> Any:
        """sum_p w_p similarity_p / (sum_p w_p + prior), w_p = alpha_p vq_p ``seen_p``."""
        make = qdrant.Expression
        weight = (query.visibility[0] * self._schema.weights).tolist()
        prefetches, shares, similarities = [], [], []
        for p, name in enumerate(self._schema.names):
            if weight[p] == 0:
                continue
            share = make.Mult([make.Constant(weight[p]), make.Variable(f"seen_{name}")])
            similarities.append(make.Mult([share, make.Variable(f"$score[{len(prefetches)}]")]))
            shares.append(share)
            vector = query.vectors[0, self._schema.slices[p]].tolist()
            nearest = qdrant.Query.Nearest(vector, name)
            prefetches.append(qdrant.Prefetch(limit, nearest, params=qdrant.SearchParams(exact=True)))
        ratio = make.Div(make.Sum(similarities), make.Sum([*shares, make.Constant(self._schema.prior)]), 0.0)
        defaults = {f"$score[{place}]": 0.0 for place in range(len(prefetches))}
        return qdrant.QueryRequest(top_k, query=qdrant.Formula(ratio, defaults), prefetches=prefetches)
