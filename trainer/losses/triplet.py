"""Triplet losses over the hardest pairs of a batch (Hermans et al., 2017)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def euclidean(features: Tensor) -> Tensor:
    """Distances ``(N, N)`` within a batch of ``(N, D)``; its gradient stays finite where two rows are equal."""
    squares = features.square().sum(1)  # [N]
    squared = squares[:, None] + squares[None, :] - 2.0 * features @ features.T
    return squared.clamp_min(1e-12).sqrt()


def batch_hard_triplet(distance: Tensor, identity: Tensor, *, margin: float = 0.3) -> Tensor:
    """Hard-margin batch-hard triplet loss, ``mean max(0, d_ap - d_an + margin)``.

    Args:
        distance: ``(N, N)`` within the batch; Luo et al. take `euclidean` of features before the BNNeck.
        identity: ``(N,)``. An anchor with no other image of its identity, or with no other identity, is left out.
    """
    gap = _hardest_gap(distance, identity)
    return F.relu(gap + margin).mean() if len(gap) else distance.sum() * 0.0


def soft_batch_hard_triplet(distance: Tensor, identity: Tensor, *, sharpness: float = 1.0) -> Tensor:
    """Soft-margin batch-hard triplet loss, ``mean log(1 + exp(s (d_ap - d_an)))``.

    Args:
        distance: ``(N, N)`` within the batch.
        identity: ``(N,)``. An anchor with no other image of its identity, or with no other identity, is left out.
        sharpness: s; cosine distances differ by tenths, so s of about 10 makes the margin felt.
    """
    gap = _hardest_gap(distance, identity)
    return F.softplus(sharpness * gap).mean() if len(gap) else distance.sum() * 0.0


def _hardest_gap(distance: Tensor, identity: Tensor) -> Tensor:
    """Of each anchor that has both: distance to its furthest positive less that to its nearest negative; ``(A,)``."""
    same = identity[:, None] == identity[None, :]  # [N, N]
    positive = same & ~torch.eye(len(identity), dtype=torch.bool, device=same.device)
    furthest = distance.masked_fill(~positive, -torch.inf).amax(1)
    nearest = distance.masked_fill(same, torch.inf).amin(1)
    return (furthest - nearest)[positive.any(1) & (~same).any(1)]
