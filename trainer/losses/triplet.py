"""Triplet losses over the hardest pairs of a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


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
