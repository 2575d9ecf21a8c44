"""Losses and the torch form of the distance, as pure functions.

`pairwise_distance` is `glimpse.distance.pairwise` in torch (a test holds the two together), so that what is trained
is what will rank. Shapes: N images, P parts, C identities, K body regions, D the summed width of the parts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


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


def identity_loss(scores: Tensor, identity: Tensor, *, scale: float = 1.0, smoothing: float = 0.1) -> Tensor:
    """Cross-entropy of ``scale * scores`` ``(N, C)`` against ``(1 - eps) one-hot + eps / C``.

    With cosine scores and a ``scale`` of 10 to 30 this is NormFace (Wang et al., ACM MM 2017). 0 for no rows.
    """
    if len(scores) == 0:
        return scores.sum()
    return F.cross_entropy(scale * scores, identity, label_smoothing=smoothing)


def soft_batch_hard_triplet(distance: Tensor, identity: Tensor, *, sharpness: float = 1.0) -> Tensor:
    """Soft-margin batch-hard triplet loss, ``mean log(1 + exp(s (d_ap - d_an)))`` (Hermans et al., 2017).

    Args:
        distance: ``(N, N)`` within the batch.
        identity: ``(N,)``. An anchor with no other image of its identity, or with no other identity, is left out.
        sharpness: s; cosine distances differ by tenths, so s of about 10 makes the margin felt.
    """
    same = identity[:, None] == identity[None, :]  # [N, N]
    positive = same & ~torch.eye(len(identity), dtype=torch.bool, device=same.device)
    furthest = distance.masked_fill(~positive, -torch.inf).amax(1)
    nearest = distance.masked_fill(same, torch.inf).amin(1)
    usable = positive.any(1) & (~same).any(1)
    if not bool(usable.any()):
        return distance.sum() * 0.0
    return F.softplus(sharpness * (furthest - nearest)[usable]).mean()


def part_map_loss(logits: Tensor, regions: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Pixel cross-entropy of the part attention against the share of each region in each cell.

    Args:
        logits: ``(N, 1 + K, h, w)``, background first.
        regions: uint8 ``(N, H, W)``: 0 for background and for whatever hides the person, else 1..K.
        smoothing: label smoothing.
    """
    count = logits.shape[1]
    shares = F.one_hot(regions.long(), count).permute(0, 3, 1, 2).to(logits.dtype)  # [N, 1+K, H, W]
    shares = F.adaptive_avg_pool2d(shares, logits.shape[2:])
    return F.cross_entropy(logits, shares, label_smoothing=smoothing)


def visibility_loss(logits: Tensor, visibility: Tensor) -> Tensor:
    """Binary cross-entropy against the true visible share: its minimum is a calibrated estimate of that share."""
    return F.binary_cross_entropy_with_logits(logits, visibility)
