"""The torch form of `glimpse.distance.pairwise`: what is trained is what will rank (a test holds the two together)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def pairwise_similarity(
    query: Tensor,
    query_visibility: Tensor,
    gallery: Tensor,
    gallery_visibility: Tensor,
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
    prior: float = 0.0,
) -> Tensor:
    """Visibility-weighted cosine similarity, ``1 - d`` of `glimpse.distance`; 0 where the two share nothing.

    Args:
        query, gallery: ``(Q, D)`` and ``(G, D)``, each part's slice of unit norm.
        query_visibility, gallery_visibility: ``(Q, P)`` and ``(G, P)`` in [0, 1].
        dims: width of each part, in column order.
        weights: alpha of each part; 1 when left out.
        prior: added to the denominator.

    Returns:
        ``(Q, G)``.
    """
    spread = torch.repeat_interleave(torch.tensor(list(dims), device=query.device))  # part of each column, [D]
    alpha = query_visibility.new_tensor([1.0] * len(dims) if weights is None else list(weights))
    weighted = query_visibility * alpha  # [Q, P]
    numerator = (query * weighted[:, spread]) @ (gallery * gallery_visibility[:, spread]).T  # [Q, G]
    total = weighted @ gallery_visibility.T  # [Q, G]
    return torch.where(total > 0, numerator / (total + prior).clamp_min(1e-6), 0.0)


def pairwise_distance(
    query: Tensor,
    query_visibility: Tensor,
    gallery: Tensor,
    gallery_visibility: Tensor,
    dims: Sequence[int],
    weights: Sequence[float] | None = None,
    prior: float = 0.0,
) -> Tensor:
    """``1 - pairwise_similarity``; a pair that shares nothing is at 1 (the oracle's NaN would poison a gradient)."""
    return 1.0 - pairwise_similarity(
        query, query_visibility, gallery, gallery_visibility, dims, weights=weights, prior=prior
    )
