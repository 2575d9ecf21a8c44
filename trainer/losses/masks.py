"""Part masks against label maps, and the pull towards recovered parts (T-MSPR, 2025)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.losses.pixels import UNKNOWN


def region_shares(regions: Tensor, count: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What each cell of a grid shows, and how much of the cell is labelled.

    Args:
        regions: uint8 ``(N, H, W)``: 0 for background, 1..K, `UNKNOWN` where nobody knows.
        count: 1 + K. size: rows and columns of the grid, whatever they are.

    Returns:
        Shares ``(N, 1 + K, h, w)`` of the labelled pixels, summing to 1 (to 0 where none is), and the labelled share
        ``(N, h, w)``.
    """
    planes = torch.stack([regions == label for label in range(count)], dim=1).float()  # [N, 1 + K, H, W]
    known = F.adaptive_avg_pool2d((regions != UNKNOWN).float()[:, None], size)  # [N, 1, h, w]
    return F.adaptive_avg_pool2d(planes, size) / known.clamp_min(1e-6), known[:, 0]


def mask_cross_entropy(logits: Tensor, shares: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy of ``softmax(logits)`` against soft labels, a mean over the labelled area; 0 where there is none.

    Args:
        logits, shares: ``(N, 1 + K, h, w)``. known: ``(N, h, w)``, the weight of each cell.
    """
    cells = -(shares * logits.log_softmax(1)).sum(1)  # [N, h, w]
    return (cells * known).sum() / known.sum().clamp_min(1.0)


def mask_mse(masks: Tensor, shares: Tensor, known: Tensor) -> Tensor:
    """Mean over channels of the squared difference of masks and labels, over the labelled area; 0 where there is none.

    Args:
        masks, shares: ``(N, 1 + K, h, w)``. known: ``(N, h, w)``, the weight of each cell.
    """
    cells = (masks - shares).square().mean(1)  # [N, h, w]
    return (cells * known).sum() / known.sum().clamp_min(1.0)


def recovery_loss(parts: Tensor, completed: Tensor) -> Tensor:
    """``mean |f - f^c|`` over images, parts and channels; both ``(N, K, D)``, and both are pulled."""
    return (parts - completed).abs().mean()
