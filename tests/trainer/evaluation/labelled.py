"""Features with labels, small enough to rank by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glimpse.parts import Part, PartFeatures, PartSchema
from trainer.evaluation import LabelledFeatures


def labelled(features: PartFeatures, people: Sequence[int], cameras: Sequence[int]) -> LabelledFeatures:
    ids = tuple(f"i{row}" for row in range(len(people)))
    return LabelledFeatures(features, ids, np.array(people), np.array(cameras))


def two_parts(rows: list[tuple[int, int, float, float]]) -> PartFeatures:
    """Features of two 4-d one-hot parts: (direction of part a, of part b, visibility a, visibility b)."""
    eye = np.eye(4, dtype=np.float32)
    vectors = np.stack([np.concatenate([eye[a], eye[b]]) for a, b, _, _ in rows])
    visibility = np.array([(va, vb) for _, _, va, vb in rows], np.float32)
    return PartFeatures(vectors, visibility, PartSchema((Part("a", 4), Part("b", 4))))
