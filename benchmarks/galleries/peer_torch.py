"""Five lines of torch in bfloat16: one product, the denominators, top-k. The honest competitor of an exact scan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.galleries.problem import Int64, SearchProblem, query_side, weighted
from glimpse.parts import PartFeatures


class FiveLines:
    """``concat(vg_p g_p)`` in bfloat16 ``(N, sum_p D_p)``; ranks by its rounding, nothing is scored again."""

    points: Sequence[str] = ("bfloat16",)

    def __init__(self, problem: SearchProblem, threads: int, cache: Path) -> None:
        del cache
        torch.set_num_threads(threads)
        self._prior = problem.schema.prior
        self._gallery = torch.empty((len(problem), problem.schema.width), dtype=torch.bfloat16)
        for rows, features in problem.chunks():
            self._gallery[rows] = torch.from_numpy(weighted(features.vectors, features.visibility, problem.schema)).to(
                torch.bfloat16
            )
        self._visibility = torch.from_numpy(problem.visibility)
        self.facts: dict[str, float] = {"bytes_an_item": 2.0 * problem.schema.width + 4.0 * len(problem.schema)}

    def search(self, point: str, queries: PartFeatures, top_k: int) -> Any:
        vector, weight = (torch.from_numpy(side) for side in query_side(queries))
        similarity = (vector.to(torch.bfloat16) @ self._gallery.T).float()  # [Q, N]
        total = weight @ self._visibility.T + self._prior
        ratio = torch.where(total > self._prior, similarity / total, -torch.inf)
        return ratio.topk(min(top_k, ratio.shape[1]), dim=1).indices

    def rows(self, found: Any) -> list[Int64]:
        return list(found.numpy().astype(np.int64))

    def close(self) -> None:
        del self._gallery
