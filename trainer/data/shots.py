"""Multi-shot queries: N images of a person ask together, as AFPB (Zhuo et al., ICME 2018) reports for N = 1, 2 and 5.

The paper does not say how distances of N images became one, nor whether the gallery is cut down too; here the minimum
or the mean over the query's images ranks, against the whole gallery.
"""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.data.listing import DatasetError, ImageSet, Int64, Listing, Shots

TRIALS = 10


def multi_shot(listing: Listing, shots: int, draw: int = 0, pool: str = "min") -> Listing:
    """Every person of every query camera becomes one query of ``shots`` images, drawn without replacement.

    Args:
        shots: images of a query; a person with fewer contributes all, and the facts count them.
        draw: the seed. Figures of N < all images are means over draws.
        pool: ``min`` or ``mean`` of the distances.

    Raises:
        DatasetError: another value.
    """
    if not isinstance(shots, int) or shots < 1:
        raise DatasetError(f"shots must be a number from 1, got {shots!r}")
    if not isinstance(draw, int):
        raise DatasetError(f"draw must be a number from 0, got {draw!r}")
    if pool not in ("min", "mean"):
        raise DatasetError(f"pool must be min or mean, got {pool!r}")
    query = listing.query
    pairs = np.stack([query.people, query.cameras], axis=1)  # [N, 2]
    _, groups = np.unique(pairs, axis=0, return_inverse=True)
    random = np.random.default_rng(draw)
    rows, sets, short = [], [], 0
    for group in range(int(groups.max()) + 1):
        own = np.flatnonzero(groups == group)
        short += len(own) < shots
        chosen = np.sort(random.choice(own, min(shots, len(own)), replace=False))
        rows.append(chosen)
        sets.append(np.full(len(chosen), group))
    fact = (
        f"multi-shot: {len(rows):,} queries of {shots} images each, draw {draw}, {pool} of the distances"
        + (f"; {short:,} have fewer images" if short else "")
        + "; report the mean over draws"
    )
    return replace(
        listing,
        query=query.take(np.concatenate(rows)),
        facts=(*listing.facts, fact),
        shots=Shots(np.concatenate(sets).astype(np.int64), "min" if pool == "min" else "mean"),
    )


def pool_distances(distances: NDArray[np.floating[Any]], shots: Shots) -> NDArray[np.floating[Any]]:
    """Distances of N query images ``(N, G)`` to distances of S queries ``(S, G)``.

    An image that cannot be compared with an item (NaN) is left out of the pool; where none can, the query cannot.
    """
    if distances.ndim != 2 or len(distances) != len(shots.sets):
        raise ValueError(f"distances must be ({len(shots.sets)}, G), got {distances.shape}")
    pool = np.nanmin if shots.pool == "min" else np.nanmean
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # all NaN stays NaN
        return np.stack([pool(distances[shots.sets == s], axis=0) for s in range(int(shots.sets.max()) + 1)])


def set_labels(query: ImageSet, shots: Shots) -> tuple[Int64, Int64]:
    """Person and camera of each of the S queries, int64 ``(S,)``."""
    _, first = np.unique(shots.sets, return_index=True)
    return query.people[first], query.cameras[first]
