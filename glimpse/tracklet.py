"""Tracklet fusion: several images of one person become one query, part by part.

A part hidden in one image is often seen in another, so each part is averaged over the images that show it,
weighted by how well they do:

    x_p = normalise(sum_i v_ip x_ip)          v_p = max_i v_ip
"""

from __future__ import annotations

import numpy as np

from glimpse.parts import PartFeatures

# Below it the images contradict each other and the mean has no direction worth keeping.
_NO_DIRECTION = 1e-6


def fuse(features: PartFeatures) -> PartFeatures:
    """N rows of one person to one row; a single row comes back as it is.

    A part that no row shows is all zeros with visibility 0; a part that is always visible stays so. Where the
    weighted mean cancels out, the best seen row speaks for the part.

    Raises:
        ValueError: no rows.
    """
    if len(features) == 0:
        raise ValueError("a tracklet needs at least one image, got none")
    if len(features) == 1:
        return features
    visibility = features.visibility.max(axis=0, keepdims=True)  # [1, P]
    vectors = np.zeros((1, features.schema.width), np.float32)
    for p, columns in enumerate(features.schema.slices):
        if visibility[0, p] == 0:
            continue
        seen = features.visibility[:, p].astype(np.float64)  # [N]
        rows = features.vectors[:, columns].astype(np.float64)  # [N, D_p]
        mean = seen @ rows / seen.sum()  # [D_p]
        if np.linalg.norm(mean) < _NO_DIRECTION:
            mean = rows[np.argmax(seen)]
        vectors[0, columns] = mean / np.linalg.norm(mean)
    return PartFeatures(vectors, visibility, features.schema)
