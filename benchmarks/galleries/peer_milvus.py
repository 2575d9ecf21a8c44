"""Milvus Lite: the numerator on the concatenation (it has no expression for the ratio), re-ranked exactly."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pymilvus import DataType, MilvusClient

from benchmarks.galleries.problem import Int64, SearchProblem, query_side, weighted
from benchmarks.galleries.shortlist import best_of
from glimpse.parts import PartFeatures

COLLECTION = "bench"
BATCH = 500
KEPT = {"numerator, kept 100": 100, "numerator, kept 1,000": 1_000}


class MilvusLite:
    """A FLAT inner-product index in a file of the cache folder."""

    points: Sequence[str] = tuple(KEPT)

    def __init__(self, problem: SearchProblem, threads: int, cache: Path) -> None:
        del threads  # it takes the cores that the process has
        self._problem = problem
        path = cache / f"milvus-{problem.name}.db"
        for left in cache.glob(f"{path.name}*"):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        start = time.perf_counter()
        self._client = MilvusClient(str(path))
        fields = MilvusClient.create_schema(auto_id=False)
        fields.add_field("id", DataType.INT64, is_primary=True)
        fields.add_field("vector", DataType.FLOAT_VECTOR, dim=problem.schema.width)
        index = MilvusClient.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="IP")
        self._client.create_collection(COLLECTION, schema=fields, index_params=index)
        for rows, features in problem.chunks(BATCH):
            vectors = weighted(features.vectors, features.visibility, problem.schema)
            self._client.insert(
                COLLECTION, [{"id": rows.start + i, "vector": vector} for i, vector in enumerate(vectors)]
            )
        self._client.flush(COLLECTION)  # unflushed rows are searched thirty times slower
        self._client.load_collection(COLLECTION)
        self.facts: dict[str, float] = {
            "build_seconds": time.perf_counter() - start,
            "bytes_an_item": 4.0 * problem.schema.width,
        }

    def search(self, point: str, queries: PartFeatures, top_k: int) -> Any:
        vectors, _ = query_side(queries)
        answers = self._client.search(
            COLLECTION, data=list(vectors), limit=min(KEPT[point], len(self._problem)), output_fields=[]
        )
        candidates = [np.array([match["id"] for match in answer], np.int64) for answer in answers]
        return best_of(self._problem, queries, candidates, top_k)

    def rows(self, found: Any) -> list[Int64]:
        return list(found)

    def close(self) -> None:
        self._client.close()
