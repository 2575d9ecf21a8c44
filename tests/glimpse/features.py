"""Random part features, valid by construction."""

from __future__ import annotations

import numpy as np

from glimpse.parts import Part, PartFeatures, PartSchema

PEOPLE = PartSchema((Part("global", 12, always_visible=True), Part("upper", 8), Part("legs", 5, weight=0.5)), prior=0.2)
# Without an always-visible part a pair may share nothing at all.
LOOSE = PartSchema((Part("upper", 8), Part("legs", 5, weight=2.0)))


def random_features(rows: int, schema: PartSchema = PEOPLE, seed: int = 0, hidden: float = 0.3) -> PartFeatures:
    """Unit vectors and visibilities in [0, 1]; a share ``hidden`` of the parts is not seen and all zeros."""
    random = np.random.default_rng(seed)
    visibility = random.random((rows, len(schema)), np.float32)
    visibility[random.random(visibility.shape) < hidden] = 0
    visibility[:, schema.always_visible] = 1
    vectors = random.standard_normal((rows, schema.width), np.float32)
    for p, columns in enumerate(schema.slices):
        vectors[:, columns] /= np.linalg.norm(vectors[:, columns], axis=1, keepdims=True)
        vectors[visibility[:, p] == 0, columns] = 0
    return PartFeatures(vectors, visibility, schema)


def one(schema: PartSchema, vectors: list[list[float]], visibility: list[float]) -> PartFeatures:
    """One row, a vector a part."""
    joined = np.concatenate([np.array(vector, np.float32) for vector in vectors])
    return PartFeatures(joined[None], np.array([visibility], np.float32), schema)
