"""What supervises part attention and visibility."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


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
