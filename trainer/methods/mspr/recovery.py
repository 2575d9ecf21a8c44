"""T-MSPR's human semantic recovery: parts that cannot be seen are taken from a similar image of the batch."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F


def choose_partners(features: Tensor, identity: Tensor, prefer: Literal["identity", "nearest"]) -> Tensor:
    """The image of the batch that lends each image its parts: row numbers ``(N,)``.

    ``nearest`` is the published rule: the most similar other image, whoever it shows. ``identity`` takes the most
    similar other image of the same person, as the paper's figure has it, and the most similar of all only where there
    is none. An image alone in its batch is its own partner.

    Args:
        features: ``(N, D)``, of the whole image. identity: ``(N,)``.
    """
    unit = F.normalize(features.detach().float(), dim=1)
    cosine = unit @ unit.T  # [N, N]
    if prefer == "identity":
        cosine = cosine + 3.0 * (identity[:, None] == identity[None, :])  # beyond any cosine
    return cosine.fill_diagonal_(-torch.inf).argmax(1)


def complete_parts(parts: Tensor, visible: Tensor, partners: Tensor) -> Tensor:
    """``f^c_i = v_i f_i + (1 - v_i) f*_i``, f* of the partner.

    Args:
        parts: ``(N, K, D)``. visible: ``(N, K)`` in [0, 1]. partners: ``(N,)``.
    """
    seen = visible[:, :, None]
    return seen * parts + (1.0 - seen) * parts[partners]
