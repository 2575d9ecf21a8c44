"""Random part features for the tests of this room."""

from __future__ import annotations

import numpy as np

from glimpse.parts import Part, PartFeatures, PartSchema

SCHEMA = PartSchema((Part("global", 8), Part("head", 3, weight=0.5), Part("legs", 5, weight=2.0)), prior=0.25)


def random_features(count: int, seed: int, schema: PartSchema = SCHEMA) -> PartFeatures:
    """Unit vectors and visibilities of which a third are 0."""
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, schema.width)).astype(np.float32)
    for columns in schema.slices:
        vectors[:, columns] /= np.linalg.norm(vectors[:, columns], axis=1, keepdims=True)
    visibility = random.uniform(0, 1, (count, len(schema))).astype(np.float32)
    visibility[random.uniform(size=visibility.shape) < 1 / 3] = 0
    visibility[:, schema.always_visible] = 1
    return PartFeatures(vectors, visibility, schema)
