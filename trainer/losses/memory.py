"""Contrast of features with the centres of a memory."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def memory_nce(
    features: Tensor, identity: Tensor, centres: Tensor, *, temperature: float = 0.05, floor: float = 1e-6
) -> Tensor:
    """``-mean log(softmax_c(cos(f, c) / T)_y + floor)`` (FED, Wang et al., CVPR 2022); 0 for no rows.

    Args:
        features: ``(N, D)``, of any length. identity: ``(N,)``. centres: ``(C, D)``, of any length; one that is all
            zeros is at cosine 0.
        temperature: T. floor: keeps the loss of a hopeless row below ``-log floor``.
    """
    if len(features) == 0:
        return features.sum()
    cosine = F.normalize(features, dim=1) @ F.normalize(centres, dim=1).T  # [N, C]
    own = (cosine / temperature).softmax(1).gather(1, identity[:, None])  # [N, 1]
    return -(own + floor).log().mean()
