"""The field's evaluation code: what part-based toolkits run to rank a gallery, written again here.

Per part a cosine distance of every pair, all kept as one tensor ``(P, Q, N)``; their mean weighted by joint
visibilities; then an argsort of everything. The weight is vq vg, Glimpse's, so that all contenders rank by one
distance (toolkits take its square root, which costs the same).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.galleries.problem import Int64, SearchProblem
from glimpse.parts import PartFeatures


class FieldEvaluation:
    """float32 parts ``(P, N, D)``, as a toolkit holds them after extraction; equal dims only."""

    points: Sequence[str] = ("argsort",)

    def __init__(self, problem: SearchProblem, threads: int, cache: Path) -> None:
        del cache
        torch.set_num_threads(threads)
        schema = problem.schema
        if len(set(schema.dims)) > 1:
            raise ValueError(f"the field's tensor needs parts of one width, got {schema.describe()}")
        self._schema = schema
        self._gallery = torch.empty((len(schema), len(problem), schema.dims[0]))
        for rows, features in problem.chunks():
            for p, columns in enumerate(schema.slices):
                self._gallery[p, rows] = torch.from_numpy(np.ascontiguousarray(features.vectors[:, columns]))
        self._visibility = torch.from_numpy(problem.visibility)
        self._alpha = torch.from_numpy(schema.weights)
        self.facts: dict[str, float] = {"bytes_an_item": 4.0 * (schema.width + len(schema))}

    def search(self, point: str, queries: PartFeatures, top_k: int) -> Any:
        parts = torch.from_numpy(queries.vectors).reshape(len(queries), len(self._schema), -1).transpose(0, 1)
        distance = 1 - torch.matmul(parts, self._gallery.transpose(1, 2))  # [P, Q, N]
        seen = torch.from_numpy(queries.visibility) * self._alpha
        weight = seen.T[:, :, None] * self._visibility.T[:, None, :]  # [P, Q, N]
        total = weight.sum(dim=0)
        mean = ((distance * weight).sum(dim=0) + self._schema.prior) / (total + self._schema.prior)
        mean[total == 0] = np.inf
        return np.argsort(mean.numpy(), axis=1)[:, :top_k]

    def rows(self, found: Any) -> list[Int64]:
        return list(found)

    def close(self) -> None:
        del self._gallery
