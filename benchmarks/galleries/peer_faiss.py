"""Faiss on the concatenation ``concat(vg_p g_p)``, its best rows re-ranked exactly: ordinary vector search."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import faiss as typed_faiss
import numpy as np

from benchmarks.galleries.problem import Int64, SearchProblem, query_side, weighted
from benchmarks.galleries.shortlist import best_of
from glimpse.parts import PartFeatures

# The package's stubs describe the C++ signatures, not the Python ones that take arrays.
faiss: Any = typed_faiss

FACTORY = {"flat": "Flat", "ivf": "IVF1024,SQ8", "pq": "PQ{half}x4fs", "hnsw": "HNSW32,Flat"}
TRAINING_ROWS = 40_000
SETTINGS: dict[str, dict[str, tuple[int, int]]] = {
    "flat": {"kept 1,000": (0, 1_000)},
    "ivf": {f"nprobe {probes}, kept 1,000": (probes, 1_000) for probes in (16, 64, 256)},
    "pq": {"kept 1,000": (0, 1_000), "kept 5,000": (0, 5_000)},
    "hnsw": {f"ef {ef:,}, kept {ef:,}": (ef, ef) for ef in (200, 1_000)},
}
"""Point -> (what the index calls its effort, candidates kept)."""


class Faiss:
    """An index of one kind; kept in the cache once built, but for Flat."""

    def __init__(self, problem: SearchProblem, threads: int, cache: Path, kind: str) -> None:
        faiss.omp_set_num_threads(threads)
        self._problem = problem
        self._kind = kind
        self._settings = SETTINGS[kind]
        self.points: Sequence[str] = tuple(self._settings)
        path = cache / f"faiss-{kind}-{problem.name}.index"
        self.facts: dict[str, float] = {}
        if path.is_file():
            self._index = faiss.read_index(str(path))
            self.facts = dict(np.load(path.with_suffix(".npz")))
        else:
            self._index = self._built()
            if kind != "flat":
                faiss.write_index(self._index, str(path))
                np.savez(path.with_suffix(".npz"), **self.facts)
        self.facts = {name: float(value) for name, value in self.facts.items()}

    def search(self, point: str, queries: PartFeatures, top_k: int) -> Any:
        effort, kept = self._settings[point]
        parameters = None
        if self._kind == "ivf":
            parameters = faiss.SearchParametersIVF(nprobe=min(effort, self._index.nlist))
        elif self._kind == "hnsw":
            parameters = faiss.SearchParametersHNSW(efSearch=effort)
        _, rows = self._index.search(query_side(queries)[0], min(kept, len(self._problem)), params=parameters)
        return best_of(self._problem, queries, rows, top_k)

    def rows(self, found: Any) -> list[Int64]:
        return list(found)

    def close(self) -> None:
        del self._index

    def _built(self) -> Any:
        problem = self._problem
        width = problem.schema.width
        factory = FACTORY[self._kind].format(half=width // 8)
        if self._kind == "ivf":  # Faiss wants 39 rows a list to train on
            factory = f"IVF{min(1024, max(1, len(problem) // 39))},SQ8"
        index = faiss.index_factory(width, factory, faiss.METRIC_INNER_PRODUCT)
        start, cpu = time.perf_counter(), time.process_time()
        if not index.is_trained:
            some = np.sort(np.random.default_rng(0).permutation(len(problem))[:TRAINING_ROWS])
            features = problem.features(some)
            index.train(weighted(features.vectors, features.visibility, problem.schema))
        for _, features in problem.chunks():
            index.add(weighted(features.vectors, features.visibility, problem.schema))
        self.facts["build_seconds"] = time.perf_counter() - start
        self.facts["build_cpu_us_an_item"] = 1e6 * (time.process_time() - cpu) / len(problem)
        code = {"flat": 4.0 * width, "ivf": width + 8.0, "pq": width / 16, "hnsw": 4.0 * width + 4 * 64}
        self.facts["bytes_an_item"] = code[self._kind]
        return index
