"""Centre loss (Wen et al., ECCV 2016) as the strong baseline uses it, and the step of its centres."""

from __future__ import annotations

import torch
from torch import Tensor


def centre_loss(features: Tensor, identity: Tensor, centres: Tensor) -> Tensor:
    """Mean squared distance to the own centre, ``1/N sum ||f_i - c_{y_i}||^2``; 0 for no rows.

    Args:
        features: ``(N, D)``. identity: ``(N,)``. centres: ``(C, D)``.
    """
    if len(features) == 0:
        return features.sum()
    return (features - centres[identity]).square().sum(1).mean()


def moved_centres(centres: Tensor, features: Tensor, identity: Tensor, *, rate: float = 0.5) -> Tensor:
    """The centres ``(C, D)`` after one step of gradient descent on `centre_loss` at ``rate``; no gradient flows.

    ``c_j - rate * 2/N sum_{i: y_i = j} (c_j - f_i)``. Luo et al. weigh the loss by 5e-4 but step the centres by the
    unweighted gradient, so the weight is no argument here.
    """
    if len(features) == 0:
        return centres
    with torch.no_grad():
        gradient = torch.zeros_like(centres)
        gradient.index_add_(0, identity, centres[identity] - features.to(centres.dtype))
        return centres - rate * (2.0 / len(features)) * gradient
